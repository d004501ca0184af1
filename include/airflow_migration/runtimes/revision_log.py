"""Turn the lines of an upgrade into revisions with their seconds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from airflow_migration.metadata.releases import revisions_between
from airflow_migration.progress import Listener, Progress
from airflow_migration.runtimes.runtime import RevisionTime

RUNNING = re.compile(r"Running upgrade (?:[\w, ()]*)-> (?P<revision>\w+)(?:, (?P<title>.*?))?(?:\s+\[alembic\S*\].*)?$")
# What follows the last revision: FAB's own migrations, 2.x reading DAGs, the command's last word.
AFTERWARDS = re.compile(r"Context impl|DagBag|migrat\w+ done|Running upgrade|stamp_revision", re.I)
# FAB's roles are rewritten between 1.10 and 2.1: a thousand lines that tell nothing.
NOISE = re.compile(r"INFO.*(Created|Added|Removed|Deleted|Inserted) (Permission|Role|View)|setup plugin alembic", re.I)


class RevisionLog:
    """Listens to one upgrade from one head to another.

    :param what: phrase for the progress
    """

    def __init__(
        self,
        what: str,
        from_head: str,
        to_head: str,
        listener: Listener,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._listener, self._clock = what, listener, clock
        self._expected = frozenset(revisions_between(from_head, to_head))
        self._started = clock()
        self._seen: list[tuple[str, str, float]] = []
        self._ended: float | None = None

    def line(self, line: str) -> None:
        """Hand on one line of the output, and the progress that it shows."""
        if not NOISE.search(line):
            self._listener(line)
        found = RUNNING.search(line)
        if found and found["revision"] in self._expected:
            self._seen.append((found["revision"], (found["title"] or "").strip(), self._clock()))
            self._tell(len(self._seen) - 1)
        elif self._ended is None and len(self._seen) == len(self._expected) and AFTERWARDS.search(line):
            self._end()

    def close(self) -> None:
        """The command has ended, and with it its last revision."""
        if self._ended is None:
            self._end()

    def revisions(self) -> tuple[RevisionTime, ...]:
        """Every revision seen, in order."""
        ends = [started for _, _, started in self._seen[1:]] + [self._ended or self._clock()]
        return (
            tuple(
                RevisionTime(revision=revision, title=title, seconds=round(end - started, 3))
                for (revision, title, started), end in zip(self._seen, ends, strict=True)
            )
            if self._seen
            else ()
        )

    def _end(self) -> None:
        self._ended = self._clock()
        if len(self._seen) == len(self._expected):
            self._tell(len(self._seen))

    def _tell(self, done: int) -> None:
        self._listener(
            Progress(
                what=self._what,
                done=done,
                total=len(self._expected) or None,
                unit="revisions",
                seconds=self._clock() - self._started,
            )
        )
