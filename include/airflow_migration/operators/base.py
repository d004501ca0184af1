"""One operator turns a plan and two connection ids into one library call, and its result into XCom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import psycopg
from airflow.providers.common.compat.sdk import (
    XCOM_RETURN_KEY,
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    BaseOperator,
    BaseOperatorLink,
    TaskInstanceState,
)

from airflow_migration.exceptions import MigrationError
from airflow_migration.hooks.migration import open_migration
from airflow_migration.links.console import ConsoleLink
from airflow_migration.operators.telling import Telling, can_tell
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres.databases import tidy
from airflow_migration.progress import Pace, Progress
from airflow_migration.steps.migration import Migration, Running

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from airflow.providers.common.compat.sdk import Context

PREFLIGHT = "preflight"
ERROR_KEY = "error"


def leave_error(context: Context, err: MigrationError) -> None:
    """For report, messages and console."""
    context["ti"].xcom_push(key=ERROR_KEY, value=_as_json(err))


def _as_json(err: MigrationError) -> dict[str, str]:
    return {"problem": err.problem, "where": err.where, "remedy": err.remedy}


def errors_of(context: Context, task_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Problem, where and remedy of each task of the run that has failed."""
    told = {name: context["ti"].xcom_pull(task_ids=name, key=ERROR_KEY) for name in task_ids}
    failed = {name for name, state in states_of(context, task_ids).items() if state == TaskInstanceState.FAILED}
    return {name: error or _as_json(_killed(name)) for name, error in told.items() if error or name in failed}


def states_of(context: Context, task_ids: Sequence[str]) -> dict[str, Any]:
    """State of each task of the run that has begun, or was skipped."""
    run = context["dag_run"]
    found = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=list(task_ids), run_ids=[run.run_id])
    return dict(found.get(run.run_id, {}))


def fail_with_the_run(context: Context, completion_task_id: str, result: Mapping[str, Any] | None = None) -> None:
    """Fail the task, whose failure fails the run, where somebody has set the run to failed.

    Airflow then skips what has not begun and lets the teardowns run; with nothing but these at its end the run would
    become a success (`set_dag_run_state_to_failed` in airflow/api/common/mark_tasks.py, seen on 3.3.2).

    :param completion_task_id: a task that is skipped by nothing else
    :param result: what the task has done all the same; its XCom
    """
    if states_of(context, [completion_task_id]).get(completion_task_id) == TaskInstanceState.SKIPPED:
        if result is not None:
            context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=result)
        raise AirflowFailException("Somebody has set the run to failed before its end")


def _killed(task_id: str) -> MigrationError:
    return MigrationError(
        "it left no reason: its process was killed, or somebody has set it to failed",
        where=task_id,
        remedy="See the task's log. Clear the task: it goes on where it stopped",
    )


class MigrationOperator(BaseOperator):
    """Runs one step of the plan that ``preflight`` made.

    The XCom is ``{"started", "finished", "seconds", "result"}``: ISO 8601 in UTC, seconds, and the step's
    dataclass as JSON. A failed step leaves its problem, place and remedy under the key ``error``. While it runs, its
    last measurement is under ``progress`` and its last sentence under ``said``.

    :param plan_task_id: task whose XCom is the plan
    """

    template_fields: Sequence[str] = ()
    ui_color = "#e8f1fb"
    operator_extra_links: Collection[BaseOperatorLink] = (ConsoleLink(),)
    step: ClassVar[staticmethod[..., DataclassInstance | bool]]

    def __init__(self, *, plan_task_id: str = PREFLIGHT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self._running = Running()
        self._pace = Pace()
        self._telling: Telling | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        return self.carry_out(context, lambda: type(self).step(self.migration(context), self.listen))

    def carry_out(
        self, context: Context, call: Callable[[], Any], *, started: datetime | None = None
    ) -> dict[str, Any]:
        """Call the library and wrap what it returns; its errors fail the task as their kind asks."""
        started = started or datetime.now(timezone.utc)
        self._telling = Telling(context["ti"]) if can_tell() else None
        try:
            result = call()
        except MigrationError as err:
            self.fail(context, err)
        except psycopg.Error as err:
            self.fail(context, tidy(err, where=self.task_id))
        except AirflowException:
            raise
        except AirflowTaskTimeout:
            self._leave_unforeseen(context, f"not done within {self.execution_timeout}")
            raise
        except Exception as err:
            # Its text may hold anything.
            self._leave_unforeseen(context, f"unexpected {type(err).__name__}")
            raise
        finally:
            if self._telling is not None:
                self._telling.stop()
        finished = datetime.now(timezone.utc)
        return {
            "started": started.isoformat(),
            "finished": finished.isoformat(),
            "seconds": round((finished - started).total_seconds(), 3),
            "result": result if isinstance(result, bool | dict) else asdict(result),
        }

    def fail(self, context: Context, err: MigrationError) -> NoReturn:
        """A user's mistake fails at once; what may pass by itself is tried again."""
        leave_error(context, err)
        raise (AirflowException if err.retryable else AirflowFailException)(str(err)) from None

    def _leave_unforeseen(self, context: Context, problem: str) -> None:
        remedy = "See the task's log. Once the cause is mended, clear the task: it goes on where it stopped"
        leave_error(context, MigrationError(problem, where=self.task_id, remedy=remedy))

    def plan(self, context: Context) -> Plan:
        envelope = context["ti"].xcom_pull(task_ids=self.plan_task_id)
        return Plan.from_json(envelope["result"])

    def migration(self, context: Context) -> Migration:
        """Everything the step needs; the connections are read anew by each task."""
        return open_migration(self.plan(context), self._running)

    def listen(self, message: Progress | str) -> None:
        """Log sentences as they come and measurements every few seconds; the last of each is shown in the console."""
        if self._pace.allows(message):
            self.log.info("%s", message)
        if self._telling is not None:
            self._telling.tell(message)

    def on_kill(self) -> None:
        self._running.stop()
