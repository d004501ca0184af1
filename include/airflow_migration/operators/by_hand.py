"""Steps of which a person has to do a part: the run waits until that person says that it is done."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.triggers.hitl import HITLTrigger
from airflow.sdk.execution_time.hitl import upsert_hitl_detail

from airflow_migration.deployments.control import ManualControl
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.operators.base import MigrationOperator

try:
    from airflow.sdk.exceptions import TaskAwaitingInput
except ImportError:  # before 3.3 a trigger waits for the answer
    TaskAwaitingInput = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

DONE, STOP = "Done", "Stop here"


class ByHandOperator(MigrationOperator):
    """Runs its step; what that leaves to a person is asked for under *Required Actions*, and waited for.

    Only of a target whose control is by hand, and only when the run asks for approvals. Where it does not, the
    instructions are left for the report. What a person did cannot be seen from here, so the answer is believed.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        envelope = super().execute(context)
        control = _control_in(envelope)
        instructions = list(control.get("instructions") or ())
        if self.is_by_hand(control) and instructions and self._waits_for_people(context):
            self._ask(context, envelope, instructions)
        return envelope

    def execute_complete(self, context: Context, event: dict[str, Any], envelope: dict[str, Any]) -> dict[str, Any]:
        """Called with the person's answer and the result of before.

        :param event: what Airflow says of the answer
        :param envelope: what `execute` had made
        """
        if event.get("chosen_options") != [DONE]:
            self.fail(
                context,
                InvalidInputError(
                    event.get("error") or "a person stopped the run here",
                    where=self.task_id,
                    remedy="Clear the task to be asked again",
                ),
            )
        control = _control_in(envelope)
        user = event.get("responded_by_user") or {}
        control["done_by_hand"] = list(control["instructions"])
        control["confirmed_by"] = user.get("name") or user.get("id")
        control["instructions"] = []
        finished = datetime.now(timezone.utc)
        started = datetime.fromisoformat(envelope["started"])
        seconds = round((finished - started).total_seconds(), 3)
        self.log.info("Done by hand after %s s, says %s", seconds, control["confirmed_by"])
        return envelope | {"finished": finished.isoformat(), "seconds": seconds}

    def is_by_hand(self, control: dict[str, Any]) -> bool:
        """Whether the run cannot go on before a person has followed the instructions of a control."""
        return bool(control.get("kind") == ManualControl.kind)

    def _waits_for_people(self, context: Context) -> bool:
        """What the run's options say, which each kind of plan holds."""
        plan = context["ti"].xcom_pull(task_ids=self.plan_task_id)
        return bool(plan["result"]["options"]["require_approval"])

    def _ask(self, context: Context, envelope: dict[str, Any], instructions: list[str]) -> NoReturn:
        for sentence in instructions:
            self.log.info("To be done by hand: %s", sentence)
        options, task_instance = [DONE, STOP], context["ti"]
        upsert_hitl_detail(
            ti_id=task_instance.id,
            options=options,
            subject=f"{self.dag_id}: {self.task_id} is done by hand",
            body="\n".join(["Do this, then answer:", "", *(f"- {sentence}" for sentence in instructions)]),
            params={},  # without, the API server of 3.3.2 answers 422
        )
        kwargs = {"envelope": envelope}
        if TaskAwaitingInput is not None:
            raise TaskAwaitingInput(method_name="execute_complete", kwargs=kwargs)
        trigger = HITLTrigger(
            ti_id=task_instance.id, options=options, params={}, multiple=False, defaults=None, timeout_datetime=None
        )
        self.defer(trigger=trigger, method_name="execute_complete", kwargs=kwargs)
        raise AssertionError("defer() does not return")


def _control_in(envelope: dict[str, Any]) -> dict[str, Any]:
    """What a step's result says of the target's control: a part of it, or all."""
    result: dict[str, Any] = envelope["result"]
    return (result["control"] or {}) if "control" in result else result
