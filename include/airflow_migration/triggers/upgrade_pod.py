"""Listen to an upgrade in a pod without holding a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from typing import Any

from airflow.providers.common.compat.sdk import TaskInstanceState
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_migration.exceptions import MigrationError, ServerUnreachableError
from airflow_migration.hooks.migration import open_migration
from airflow_migration.planning.plan import Plan
from airflow_migration.progress import Pace, Progress
from airflow_migration.runtimes.runtime import DetachedUpgrade
from airflow_migration.steps.migration import Running
from airflow_migration.steps.upgrade import detached_upgrade_by_hop


class UpgradePodTrigger(BaseTrigger):
    """Hands on the progress of a hop, and fires once there is nothing to wait for any more.

    The event is ``{"started": …, "timed_out": bool}``; what became of the upgrade is found out by the task. Another
    triggerer that takes over goes on behind the last line that was told. `KubernetesPodTrigger` of the provider would
    put the lines into the task's log as the pod's log has them, encrypted.

    :param plan: of the migration, as JSON; it holds no secret
    :param hop: number of the hop, from 1
    :param started: ISO 8601, handed back
    :param deadline: ISO 8601; None waits for ever
    :param poll_interval: seconds
    """

    def __init__(
        self, *, plan: Mapping[str, Any], hop: int, started: str, deadline: str | None, poll_interval: float
    ) -> None:
        super().__init__()
        self.plan = dict(plan)
        self.hop = hop
        self.started = started
        self.deadline = deadline
        self.poll_interval = poll_interval
        self._upgrade: DetachedUpgrade | None = None
        self._pace = Pace()
        self._silent = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        fields = ("plan", "hop", "started", "deadline", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in fields}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        deadline = datetime.fromisoformat(self.deadline) if self.deadline else None
        while not (over := await self._look()):
            if deadline is not None and datetime.now(timezone.utc) >= deadline:
                break
            await asyncio.sleep(self.poll_interval)
        yield TriggerEvent({"started": self.started, "timed_out": not over})

    async def on_kill(self) -> None:
        """End the pod when a person clears the task or sets its state; Airflow calls this from 3.3 on.

        It does so too in a triggerer that was away for so long that another has taken over
        (``TriggerRunnerSupervisor.update_triggers`` of 3.3.2). Then the task waits on, and the pod is left alone.
        """
        if await sync_to_async(self._is_awaited)():
            return
        upgrade = await self._opened()
        if upgrade is not None:
            await sync_to_async(upgrade.stop, thread_sensitive=False)()

    def _is_awaited(self) -> bool:
        task = self.task_instance
        if task is None:
            return False
        states = RuntimeTaskInstance.get_task_states(
            dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=task.map_index
        )
        return TaskInstanceState.DEFERRED in states.get(task.run_id, {}).values()

    async def _look(self) -> bool:
        try:
            upgrade = await self._opened()
            # In any thread: an API server that does not answer must not keep other triggers waiting.
            over = upgrade is None or await sync_to_async(upgrade.look, thread_sensitive=False)()
        except ServerUnreachableError as err:
            if not self._silent:
                self.log.warning("It is asked again: %s", err)
            self._silent = True
            return False
        except MigrationError:
            return True  # the task meets the same and says so
        self._silent = False
        return over

    async def _opened(self) -> DetachedUpgrade | None:
        # In the one thread of all triggers: the provider's hook hands the cluster on in a global.
        if self._upgrade is None:
            self._upgrade = await sync_to_async(self._open)()
        return self._upgrade

    def _open(self) -> DetachedUpgrade | None:
        migration = open_migration(Plan.from_json(self.plan), Running())
        return detached_upgrade_by_hop(migration, self.hop, self._listen)

    def _listen(self, message: Progress | str) -> None:
        if self._pace.allows(message):
            self.log.info("%s", message)
