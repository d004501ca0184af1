"""Run a client program with its secrets in the environment, never in its arguments."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres.address import clean_environment

GRACE_SECONDS = 10
TAIL_LINES = 8

_ROW_DATA = re.compile(r"^\s*(\w+: )?(detail|context|statement|command was):|^\s*\[parameters:", re.IGNORECASE)
# An empty line or a bracket is no end: a value with several lines may hold both.
_NEXT_MESSAGE = re.compile(
    r"^(pg_\w+|psql): |^\[(SQL|\d{4}-\d\d-)|^\(Background|^(INFO|WARNING|ERROR|Traceback|sqlalchemy|psycopg)"
    r"|^\d{4}-\d\d-\d\d"
)


class RowDataFilter:
    """Withholds what Postgres and SQLAlchemy print of rows: it may hold passwords.

    Such a passage begins with DETAIL, CONTEXT, STATEMENT or ``[parameters:`` and may go on for several
    lines, until the next message.
    """

    def __init__(self) -> None:
        self._withholding = False

    def __call__(self, line: str) -> str | None:
        """The line as it may be shown; None when nothing of it may."""
        if _ROW_DATA.search(line):
            self._withholding = True
            return "(row data withheld)"
        if self._withholding and not _NEXT_MESSAGE.search(line):
            return None
        self._withholding = False
        return line


class Client:
    """One client process at a time, which another thread or frame can stop (`on_kill`).

    :param step: names the step in errors
    :param environment: added to a nearly empty environment
    """

    def __init__(self, step: str, environment: Mapping[str, str]) -> None:
        self.step = step
        self._environment = _in_english(clean_environment()) | dict(environment)
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        argv: Sequence[str | Path],
        on_line: Callable[[str], None],
        *,
        directory: Path | None = None,
        check: bool = True,
    ) -> int:
        """Run one program in its own process group and hand over each line as it is printed.

        Lines with row data are withheld.

        :param directory: working directory
        :param check: raise on an exit code other than 0
        :returns: the exit code
        :raises ToolError: the program is missing, or failed and `check` is set
        """
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        try:
            self._process = process = subprocess.Popen(
                [str(part) for part in argv],
                env=self._environment,
                cwd=directory,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as err:
            raise ToolError(
                f"{argv[0]} cannot be started ({err.strerror})", where=self.step, remedy="Install it and retry"
            ) from err
        assert process.stdout is not None
        without_row_data = RowDataFilter()
        try:
            for line in process.stdout:
                shown = without_row_data(line.rstrip())
                if shown is not None:
                    tail.append(shown)
                    on_line(shown)
            code = process.wait()
        except BaseException:
            self.stop()
            raise
        finally:
            process.stdout.close()
            self._process = None
        if code and check:
            raise ToolError(
                f"{Path(argv[0]).name} exited with {code}: {' | '.join(tail)}",
                where=self.step,
                remedy="Mend the cause and retry the task",
            )
        return code

    def stop(self) -> None:
        """End the program and everything that it started, also what outlives it."""
        process = self._process
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        _signal_group(process.pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _in_english(environment: dict[str, str]) -> dict[str, str]:
    """What a program says is searched for "error:" and DETAIL; only the characters stay the machine's."""
    if "LC_ALL" in environment:
        environment["LANG"] = environment.pop("LC_ALL")
    return environment | {"LC_MESSAGES": "C"}
