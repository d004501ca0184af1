"""Read the user's DAG files with the target release's own parser, and with ruff."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_migration.exceptions import InvalidInputError, ToolError
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.pausing import read_scheduled
from airflow_migration.metadata.releases import Release
from airflow_migration.metadata.releases import release as find_release
from airflow_migration.planning.air_rules import by_rule, rules_for, run_rules
from airflow_migration.planning.configuration import read_options
from airflow_migration.planning.dag_file_findings import findings_of, in_order
from airflow_migration.planning.dag_files import DagFile, DagFilesResult, judge_file, name_replacements
from airflow_migration.postgres.databases import seconds_since
from airflow_migration.postgres.jobs import cores
from airflow_migration.progress import Listener, Progress
from airflow_migration.runtimes import parse_dag_files
from airflow_migration.runtimes.runtime import Runtime
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.steps.migration import Migration

DEADLINE = 1800.0
"""Seconds for all files together."""
STATEMENT_TIMEOUT = 60.0


def folder_of(migration: Migration) -> str | None:
    """Where the DAG files of a rehearsal are; None where nobody has said so."""
    return migration.plan.rehearsed.dags_folder or migration.target.dags_folder


def check_folder(migration: Migration, listener: Listener) -> DagFilesResult:
    """Check the DAG files of a rehearsal with its target's release."""
    folder = folder_of(migration)
    assert folder is not None
    with migration.source.address.connect(statement_timeout=STATEMENT_TIMEOUT) as conn:
        scheduled = read_scheduled(conn)
    return check_dag_files(
        migration.runtime(),
        release=migration.plan.target_release,
        folder=folder,
        timeout=migration.plan.rehearsed.dag_parse_timeout,
        import_timeout=_import_timeout(migration.plan.rehearsed.airflow_cfg),
        expected=scheduled,
        listener=listener,
    )


def _import_timeout(airflow_cfg: str | None) -> float | None:
    """What the file says of it; what is wrong with the file is told by the check of the configuration."""
    try:
        options = read_options(Path(airflow_cfg).expanduser()) if airflow_cfg else {}
        return float(options["core", "dagbag_import_timeout"])
    except (InvalidInputError, KeyError, ValueError):
        return None


def check_dag_files(
    runtime: Runtime,
    *,
    release: str,
    folder: str,
    timeout: float | None,
    import_timeout: float | None,
    expected: Sequence[str] = (),
    listener: Listener,
) -> DagFilesResult:
    """Import every DAG file with a release's own parser, each in a process of its own, and run ruff's rules.

    The files' code runs, with nothing in its environment; it can read what the caller may read.

    :param folder: where this machine can read the files
    :param timeout: seconds for each file; None gives it what the target would
    :param import_timeout: the target's [core] dagbag_import_timeout in seconds; None for the release's default
    :param expected: ids of DAGs that ought to be in the files
    :raises InvalidInputError: there is no such folder
    :raises ToolError: the release's Airflow cannot be started
    """
    target, place = find_release(release), Path(folder).expanduser().resolve()
    if not place.is_dir():
        raise InvalidInputError(
            f"{folder} is no folder that this Airflow can read",
            where="check of the DAG files",
            remedy="Correct param dags_folder or the target connection's extra dags_folder, or mount the folder",
        )
    listener(f"Looking for what Airflow {target} has removed in {place}")
    found = run_rules(rules_for(target), place)
    rules = by_rule(found)
    if not isinstance(runtime, VenvRuntime):
        return _unread(target, folder, rules)
    reading = _Reading(folder=place, listener=listener)
    request = {
        "folder": str(place),
        "timeout": timeout,
        "import_timeout": import_timeout,
        "deadline": DEADLINE,
        "jobs": cores(),
    }
    listener(f"Importing the DAG files with Airflow {target}")
    code = runtime.run_script(release, Path(parse_dag_files.__file__), request, reading.line)
    reading.judge(code, target)
    files = name_replacements(reading.files, found, place, target)
    return DagFilesResult(
        release=str(target),
        folder=folder,
        count=len(files),
        dags=len({dag_id for each in files for dag_id in each.dag_ids}),
        import_timeout=reading.import_timeout,
        timeout=reading.timeout,
        parse_seconds=round(sum(each.seconds for each in files), 3),
        files=in_order(files),
        rules=rules,
        findings=tuple(
            findings_of(files, rules, target=target, import_timeout=reading.import_timeout, expected=expected)
        ),
    )


@dataclass(slots=True)
class _Reading:
    """What the script in the runtime says, line by line."""

    folder: Path
    listener: Listener
    total: int | None = None
    import_timeout: float = 0.0
    timeout: float = 0.0
    files: list[DagFile] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _tail: str = ""

    def line(self, line: str) -> None:
        if not line.startswith(parse_dag_files.MARK):
            self._tail = line or self._tail
            return
        answer: dict[str, Any] = json.loads(line.removeprefix(parse_dag_files.MARK))
        if "files" in answer:
            self.total = answer["files"]
            self.import_timeout, self.timeout = float(answer["import_timeout"]), float(answer["timeout"])
            return
        file = judge_file(answer, self.folder, self.timeout)
        self.files.append(file)
        seconds = seconds_since(self._started)
        done = len(self.files)
        self.listener(Progress(what="Importing DAG files", done=done, total=self.total, unit="files", seconds=seconds))
        if file.trouble:
            self.listener(f"{file.path}: {file.error or file.trouble}")

    def judge(self, code: int, target: Release) -> None:
        if code or self.total is None or len(self.files) < self.total:
            known = "an unknown number of" if self.total is None else self.total
            raise ToolError(
                f"the parser ended with {code} after {len(self.files)} of {known} files: {self._tail}",
                where=f"check of the DAG files with Airflow {target}",
                remedy="Retry the task; if it ends so again, leave dags_folder out",
            )


def _unread(target: Release, folder: str, rules: tuple[Any, ...]) -> DagFilesResult:
    unread = Finding(
        check="dag_files_unread",
        severity="info",
        summary="the runtime is a pod, in which the DAG files cannot be seen: only ruff has read them",
        remedy="A rehearsal from a connection with runtime kind venv imports them as well",
    )
    told = findings_of((), rules, target=target, import_timeout=0.0)
    return DagFilesResult(
        release="",
        folder=folder,
        count=0,
        dags=0,
        import_timeout=None,
        timeout=None,
        parse_seconds=0.0,
        files=(),
        rules=rules,
        findings=(unread, *(each for each in told if each.severity != "ok")),
    )
