"""Look at the source every few seconds without holding a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

import psycopg
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_migration.exceptions import ServerUnreachableError
from airflow_migration.hooks.deployment import DeploymentHook
from airflow_migration.metadata.draining import InFlight, read_in_flight


class DrainTrigger(BaseTrigger):
    """Fires when the source is drained or the deadline has passed.

    The event is ``{"started": …, "timed_out": bool}``. A source that does not answer for a moment is
    asked again until the deadline.

    :param source_conn_id: connection of type ``airflow_deployment``
    :param started: ISO 8601, handed back
    :param deadline: ISO 8601
    :param poll_interval: seconds
    """

    def __init__(self, *, source_conn_id: str, started: str, deadline: str, poll_interval: float) -> None:
        super().__init__()
        self.source_conn_id = source_conn_id
        self.started = started
        self.deadline = deadline
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        fields = ("source_conn_id", "started", "deadline", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in fields}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        deadline = datetime.fromisoformat(self.deadline)
        while True:
            seen = await sync_to_async(self._look)()
            if seen is not None:
                self.log.info("%s", seen)
            drained = seen is not None and seen.drained
            if drained or datetime.now(timezone.utc) >= deadline:
                yield TriggerEvent({"started": self.started, "timed_out": not drained})
                return
            await asyncio.sleep(self.poll_interval)

    def _look(self) -> InFlight | None:
        try:
            with DeploymentHook(deployment_conn_id=self.source_conn_id).get_conn() as conn:
                return read_in_flight(conn)
        except (ServerUnreachableError, psycopg.OperationalError) as err:
            self.log.warning("The source does not answer: %s", type(err).__name__)
            return None
