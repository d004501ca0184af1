"""Search everything that a control Airflow and its tasks leave behind for values that must not be there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import httpx
from psycopg import sql

from airflow_migration.postgres.address import DatabaseAddress
from demo.control import ControlAirflow

SAMPLE_SECONDS = 0.05
GENERAL = ("/connections", "/variables", "/importErrors", "/eventLogs?limit=1000", "/dags/~/dagRuns?limit=1000")


class Search:
    """Looks for secrets and remembers where they were.

    :param secrets: name that may be shown → value
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        assert secrets
        assert all(len(value) >= 8 for value in secrets.values()), "a short value is found everywhere"
        # A value of several lines or with quotes is written in other ways into JSON.
        self._secrets = {(name, spelt) for name, value in secrets.items() for spelt in (value, json.dumps(value)[1:-1])}
        self.looked = 0
        self.leaks: list[str] = []

    def text(self, text: str, where: str) -> None:
        """Look into one text."""
        self.looked += 1
        found = sorted({name for name, value in self._secrets if value in text})
        if found:
            self.leaks.append(f"{where} holds {', '.join(found)}")

    def texts(self, texts: Iterable[str], where: str) -> None:
        for each in texts:
            self.text(each, where)

    def files(self, paths: Iterable[Path]) -> None:
        """Look into files and, in folders, into all that is below."""
        for path in paths:
            for each in path.rglob("*") if path.is_dir() else (path,):
                if each.is_file() and not each.is_symlink():
                    self.text(each.read_text(errors="replace"), str(each))

    def database(self, address: DatabaseAddress) -> None:
        """Look into every row: XComs, rendered fields, the audit log and all the rest."""
        with address.connect() as session:
            names = session.execute("SELECT relname::text FROM pg_stat_user_tables").fetchall()
            for (name,) in names:
                rows = session.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(str(name))))
                self.texts((str(row) for (row,) in rows), f"table {name}")

    def answers(self, api: httpx.Client, dag_id: str, run_id: str) -> None:
        """Look into what the REST API tells of one run, of all its tries, and in general."""
        for path in [*GENERAL, f"/dags/{dag_id}/details", *run_paths(api, dag_id, run_id)]:
            self.text(api.get(path).text, f"answer of {path}")


def run_paths(api: httpx.Client, dag_id: str, run_id: str) -> Iterator[str]:
    """The addresses of a run with all that its tasks have said."""
    run = f"/dags/{dag_id}/dagRuns/{run_id}"
    yield run
    yield f"{run}/taskInstances?limit=100"
    for instance in api.get(f"{run}/taskInstances?limit=100").raise_for_status().json()["task_instances"]:
        task = f"{run}/taskInstances/{instance['task_id']}"
        yield from (task, f"{task}/tries", f"{task}/xcomEntries")
        for entry in api.get(f"{task}/xcomEntries").json().get("xcom_entries", ()):
            yield f"{task}/xcomEntries/{entry['key']}?deserialize=false"
        for number in range(1, (instance["try_number"] or 0) + 1):
            yield f"{task}/logs/{number}?full_content=true"


def logs_and_reports(control: ControlAirflow) -> list[Path]:
    """What an Airflow writes for people to read."""
    return [control.log, control.home / "logs", control.home / "migration-reports"]


class Arguments:
    """The arguments of every process that is seen while this is open."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Arguments:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue
