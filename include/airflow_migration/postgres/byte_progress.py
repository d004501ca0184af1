"""Tell how far a dump or a restore is in bytes, from what its program prints and from what can be seen beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

import psycopg

from airflow_migration.exceptions import MigrationError
from airflow_migration.postgres.databases import seconds_since
from airflow_migration.progress import Listener, Progress

INTERVAL = 10.0
"""Seconds between two messages while one table goes on and on."""


class ByteProgress:
    """Counts whole tables when they are finished, and the part of those under way by a look from time to time.

    :param what: for the messages
    :param sizes: of each table, by the name under which the program tells of it
    :param look: given the bytes of the finished tables, those that have gone through in others; called in a thread
        of its own
    """

    def __init__(
        self,
        what: str,
        sizes: Mapping[str, int],
        listener: Listener,
        look: Callable[[int], int],
    ) -> None:
        self._what, self._sizes, self._listener, self._look = what, sizes, listener, look
        self._total = sum(sizes.values())
        self._running: list[str] = []
        self._finished = self._told = 0
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ByteProgress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def started(self, table: str) -> None:
        with self._lock:
            if table in self._sizes:
                self._running.append(table)

    def finished(self, matches: Callable[[str], bool]) -> None:
        """The first of the tables under way that matches has come to its end."""
        with self._lock:
            for table in self._running:
                if matches(table):
                    self._running.remove(table)
                    self._finished += self._sizes[table]
                    self._tell(self._finished)
                    return

    def complete(self) -> None:
        with self._lock:
            self._running.clear()
            self._finished = self._total
            self._tell(self._total)

    def _watch(self) -> None:
        while not self._end.wait(INTERVAL):
            with self._lock:
                finished, most = self._finished, sum(self._sizes[table] for table in self._running)
            try:
                seen = self._look(finished)
            except (psycopg.Error, MigrationError, OSError) as err:
                self._listener(f"How far single tables are cannot be seen any more: {type(err).__name__}")
                return
            with self._lock:
                if self._finished == finished:
                    self._tell(finished + max(0, min(seen, most)))

    def _tell(self, done: int) -> None:
        """Never less than before: what was seen of a table is more exact than nothing, less than its end."""
        if done > self._told:
            self._told = done
            seconds = seconds_since(self._start)
            self._listener(Progress(what=self._what, done=done, total=self._total, unit="bytes", seconds=seconds))
