"""Keep a step's last measurement and last sentence as XComs, for the console to show while the step runs.

They are in the control Airflow's database, so that a restart of its API server loses nothing of them.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, Protocol

from airflow.providers.common.compat.sdk import redact
from packaging.version import Version

from airflow_migration.progress import Progress

PROGRESS_KEY, SAID_KEY = "progress", "said"
PROGRESS_EVERY = 5.0
"""Seconds between two writes."""
AFTER_FAILURE = 60.0
"""Seconds without a write after one that failed, which has taken as long as Airflow's own retries."""
PATIENCE = 5.0
"""Seconds that the end of a step waits for the last write."""
SENTENCE = 500
"""Characters; the log has the rest."""
FORGIVING = Version("1.2.2")
"""Of the Task SDK (Airflow 3.2.2). In older ones (read in 1.1.8 and 1.2.0: ``handle_requests`` of supervisor.py) the
supervisor of a task dies, and the task with it, when an API server does not answer a write."""

log = logging.getLogger(__name__)


class TaskInstance(Protocol):
    """What is used of Airflow's."""

    def xcom_push(self, *, key: str, value: Any) -> None:
        """Write an XCom."""


class Telling:
    """Writes what a step says, from a thread of its own: it never fails the step, and never keeps it waiting.

    A hop may take hours, and an API server may be restarted meanwhile.

    :param task_instance: whose XComs they are
    :param every: seconds between two writes
    """

    def __init__(self, task_instance: TaskInstance, *, every: float = PROGRESS_EVERY) -> None:
        self._task_instance, self._every = task_instance, every
        self._lock, self._news, self._over = threading.Lock(), threading.Event(), threading.Event()
        self._pending: dict[str, Any] = {}
        self._rest = 0.0
        self._started = time.monotonic()
        self._writer = threading.Thread(target=self._write, daemon=True)

    def tell(self, message: Progress | str) -> None:
        """Take note of what is to be written; from any thread of the step."""
        with self._lock:
            if isinstance(message, str):
                self._pending[SAID_KEY] = str(redact(message))[:SENTENCE]
            else:
                at = datetime.now(timezone.utc).isoformat()
                self._pending[PROGRESS_KEY] = asdict(message) | {"seconds": round(message.seconds, 3), "at": at}
            if self._writer.ident is None:
                self._writer.start()
        self._news.set()

    def stop(self) -> None:
        """Write what is left, unless the step was too short for anybody to have looked."""
        self._over.set()
        self._news.set()
        if self._writer.ident is not None:
            self._writer.join(PATIENCE)

    def _write(self) -> None:
        while not self._over.is_set():
            self._news.wait()
            self._news.clear()
            self._push()
            self._over.wait(self._rest)
        if self._rest <= self._every <= time.monotonic() - self._started:
            self._push()

    def _push(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        self._rest = self._every
        for key, value in pending.items():
            try:
                self._task_instance.xcom_push(key=key, value=value)
            except Exception as err:  # whatever it is: the step is worth more than its being seen
                log.warning("The console does not show for a while how far this step is: %s", type(err).__name__)
                self._rest = AFTER_FAILURE
                return


def can_tell() -> bool:
    """Whether this process may write while a step runs.

    Its channel to the task's supervisor must bear several threads, which that of ``airflow dags test`` does not.
    """
    import airflow.sdk
    from airflow.sdk.execution_time import task_runner

    channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return Version(airflow.sdk.__version__) >= FORGIVING and hasattr(channel, "_thread_lock")
