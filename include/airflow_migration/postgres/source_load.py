"""Go easy on a server that others need: read less of the time, and by fewer sessions, while they have much to do."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from airflow_migration.postgres.address import APPLICATION_NAME, Session

SAMPLE_EVERY = 1.0
CALM_SAMPLES = 3
"""Samples in a row that must be below the limit before one more session copies."""
SHARE = 0.15
"""Of the time, for which all of our sessions together read while others work: a session that reads without a rest takes
a whole core, which may be half of the server."""
PAUSE = 5.0
"""Seconds between two units while one session alone is still too much."""

# A server process tells what it does to the members of its role and of pg_read_all_stats only.
_ACTIVE = """
SELECT count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state IS NULL OR state LIKE 'idle in%%')
  FROM pg_stat_activity
 WHERE pid <> pg_backend_pid() AND usesysid IS NOT NULL AND application_name IS DISTINCT FROM %s
   AND coalesce(backend_type, 'client backend') = 'client backend'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLoad:
    """:param active: sessions of others that do something now
    :param others: sessions that are between two statements of a transaction, or do not show to us what they do
    """

    active: int
    others: int


def read_load(session: Session) -> SourceLoad:
    """What others do on the whole server of a session."""
    row = session.execute(_ACTIVE, (APPLICATION_NAME,)).fetchone()
    assert row is not None
    return SourceLoad(active=int(str(row[0])), others=int(str(row[1])))


class Governor:
    """Says how many sessions may copy now.

    One more than allowed ends its unit first; at least one goes on at all times, with pauses if need be, as a
    snapshot that is held for ever harms the source more than the copy.

    :param jobs: sessions that copy at most
    :param max_load: active sessions of others above which there are fewer
    """

    def __init__(self, jobs: int, max_load: int) -> None:
        self._jobs, self._max_load = jobs, max_load
        self._decisions: deque[str] = deque()
        self._allowed, self._under_way, self._calm, self._quiet = jobs, 0, 0, 0
        self._pausing = self._ended = False
        self._changed = threading.Condition()
        self.lowest = jobs
        self.highest_load = 0

    @property
    def allowed(self) -> int:
        return self._allowed

    @property
    def pausing(self) -> bool:
        return self._pausing

    @property
    def considerate(self) -> bool:
        """Others work now, or did a moment ago."""
        return self._quiet < CALM_SAMPLES

    def rest_after(self, seconds: float) -> float:
        """For how long a session rests that has read for so many seconds."""
        return seconds * (self._allowed / SHARE - 1) if self.considerate else 0.0

    def sample(self, load: SourceLoad) -> None:
        """Take note of what others do now."""
        with self._changed:
            before = self._allowed, self._pausing
            self.highest_load = max(self.highest_load, load.active)
            self._quiet = 0 if load.active or load.others else self._quiet + 1
            if load.active > self._max_load:
                self._calm = 0
                self._pausing = self._allowed == 1
                self._allowed = max(1, self._allowed - 1)
            else:
                self._calm += 1
                self._pausing = False
                if self._calm >= CALM_SAMPLES and self._allowed < self._jobs:
                    self._allowed, self._calm = self._allowed + 1, 0
            self.lowest = min(self.lowest, self._allowed)
            self._changed.notify_all()
            if (self._allowed, self._pausing) != before:
                pauses = f", with pauses of {PAUSE:.0f} s" if self._pausing else ""
                self._decisions.append(f"{load.active} active session(s) on the source: {self._allowed} job(s){pauses}")

    def lose_sight(self) -> None:
        """What others do can no longer be seen: one session goes on, as if they had much to do."""
        with self._changed:
            self._allowed = self.lowest = 1
            self._pausing, self._quiet = True, 0
            self._decisions.append("What others do on the source can no longer be seen: 1 job(s), with pauses")

    def decisions(self) -> Iterator[str]:
        """What has been decided since it was asked last, in sentences."""
        while self._decisions:
            yield self._decisions.popleft()

    @contextmanager
    def admitted(self) -> Iterator[bool]:
        """Wait until one more session may copy.

        :returns: False when the copy has ended meanwhile
        """
        with self._changed:
            if self._pausing:
                self._changed.wait_for(lambda: self._ended or not self._pausing, PAUSE)
            self._changed.wait_for(lambda: self._ended or self._under_way < self._allowed)
            if not self._ended:
                self._under_way += 1
            goes = not self._ended
        started = time.monotonic()
        try:
            yield goes
        finally:
            if goes:
                with self._changed:
                    rest = self.rest_after(time.monotonic() - started)
                    self._changed.wait_for(lambda: self._ended or not self.considerate, rest)
                    self._under_way -= 1
                    self._changed.notify_all()

    def end(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextmanager
def watched(governor: Governor, session: Session) -> Iterator[None]:
    """Have the governor look once a second.

    :param session: autocommitting, and used by nobody else meanwhile
    """
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(SAMPLE_EVERY):
            try:
                governor.sample(read_load(session))
            except psycopg.Error:
                governor.lose_sight()
                return

    governor.sample(read_load(session))
    thread = threading.Thread(target=watch, name="source load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        governor.end()
        thread.join()
