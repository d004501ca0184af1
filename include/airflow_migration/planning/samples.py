"""Ask the target's own `airflow` for a few things and compare its answers with what we know."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql

from airflow_migration.metadata.encryption import EncryptedValue, read_values
from airflow_migration.metadata.releases import version_number
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.progress import Listener
from airflow_migration.runtimes.runtime import CommandOutput, Runtime
from airflow_migration.secret import Secret

CONNECTIONS, VARIABLES, RUNS = 2, 1, 1
"""How many of each are asked for: a command of 3.3.2 takes two to five seconds of CPU."""
ORDINARY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Names that need no quoting in any release's command line."""
MASK = "***"
LIST_RUNS_SINCE = (2, 7)
"""Before it ``dags list-runs`` may want the DAG's file (dag_command.py of 2.0.2 and 2.2.5; no longer 2.7.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleComparison:
    """One command of the target's release and what came of it.

    :param command: without secrets
    :param finding: what was compared, or what was wrong; without values
    """

    command: str
    matches: bool
    finding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where and how the target's commands run.

    :param settings: ``AIRFLOW__…`` variables
    """

    release: str
    address: DatabaseAddress
    keys: Secret
    runtime: Runtime
    settings: Mapping[str, str] = field(repr=False)

    def run(self, *argv: str) -> CommandOutput:
        return self.runtime.run(self.release, self.address, self.keys, argv, self.settings)


def is_asked(release: str) -> bool:
    """Whether a release's own commands are asked: those of 1.10 are others."""
    return version_number(release) >= (2,)


def check_migrations(target: Target) -> SampleComparison:
    """The release's own opinion of the schema: ``db check-migrations``, from 2.0 on.

    Without a wait it would look once a second for a minute when the heads differ.
    """
    command = ("db", "check-migrations", "--migration-wait-timeout", "1")
    code = target.run(*command).exit_code
    finding = "the schema is the release's" if code == 0 else f"exit code {code}: the schema is not the release's"
    return SampleComparison(command=" ".join(command), matches=code == 0, finding=finding)


def compare_samples(working: Session, target: Target, listener: Listener) -> tuple[SampleComparison, ...]:
    """A few connections, a variable and a run, as the target's own commands show them."""
    if not is_asked(target.release):
        return ()
    compared = [check_migrations(target)]
    for value in _choose(working, target.keys):
        compare = _compare_connection if value.table == "connection" else _compare_variable
        compared.append(compare(target, value))
    for dag_id, run_id, state, moment in _choose_runs(working):
        if version_number(target.release) >= LIST_RUNS_SINCE:
            compared.append(_compare_run(target, dag_id, run_id, state, moment))
        elif states := _task_states(working, dag_id, run_id):
            compared.append(_compare_tasks(target, dag_id, moment, states))
    for sample in compared:
        listener(f"airflow {sample.command}: {sample.finding}")
    return tuple(compared)


def _choose(working: Session, keys: Secret) -> list[EncryptedValue]:
    """Encrypted passwords and values that a command prints as they are, the first by name."""
    found: dict[str, list[EncryptedValue]] = {"password": [], "val": []}
    unfit = set()
    for value in read_values(working, keys):
        if value.table == "connection" and value.column == "extra" and not _is_object(value):
            unfit.add(value.row_key)
        elif value.condition == "readable" and value.table in ("connection", "variable"):
            text = value.value.reveal()
            if value.column in found and ORDINARY.fullmatch(value.name) and text.isprintable() and text.strip():
                found[value.column].append(value)
    passwords = [value for value in found["password"] if value.row_key not in unfit]
    return [
        *sorted(passwords, key=lambda value: value.name)[:CONNECTIONS],
        *sorted(found["val"], key=lambda value: value.name)[:VARIABLES],
    ]


def _is_object(extra: EncryptedValue) -> bool:
    """3.x reads no connection whose extra is anything else: "Connection not found" (measured on 3.3.2)."""
    try:
        return extra.condition != "unreadable" and isinstance(json.loads(extra.value.reveal()), dict)
    except ValueError:
        return False


def _compare_connection(target: Target, value: EncryptedValue) -> SampleComparison:
    """``connections get`` says "not found" for a wrong key and a wrong database alike (measured on 3.3.2)."""
    command = ("connections", "get", value.name, "-o", "json")
    answer = target.run(*command)
    shown = [str(row.get("password")) for row in rows_in(answer.output) if row.get("conn_id") == value.name]
    if not shown:
        finding = f"exit code {answer.exit_code}, the connection is not shown"
    elif shown[0] == MASK:
        return SampleComparison(command=" ".join(command), matches=True, finding="shown, its password masked")
    else:
        same = _squeeze(shown[0]) == _squeeze(value.value.reveal())
        finding = "shown with the password that we decrypt" if same else "shown with another password"
        return SampleComparison(command=" ".join(command), matches=same, finding=finding)
    return SampleComparison(command=" ".join(command), matches=False, finding=finding)


def _compare_variable(target: Target, value: EncryptedValue) -> SampleComparison:
    command = ("variables", "get", value.name)
    answer = target.run(*command)
    # Warnings may come before the value; without a key the ciphertext is printed, exit code 0.
    same = _squeeze(answer.output.reveal()).endswith(_squeeze(value.value.reveal()))
    matches = answer.exit_code == 0 and same
    finding = "the value that we decrypt" if matches else f"exit code {answer.exit_code}, not the value that we decrypt"
    return SampleComparison(command=" ".join(command), matches=matches, finding=finding)


def _choose_runs(working: Session) -> list[tuple[str, str, str, str]]:
    """Newest finished runs: DAG, run, state, moment."""
    date = "logical_date" if "logical_date" in read_tables(working)["dag_run"] else "execution_date"
    query = sql.SQL(
        "SELECT r.dag_id, r.run_id, r.state,"
        " to_char({date} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
        " FROM dag_run r JOIN dag d ON d.dag_id = r.dag_id"
        " WHERE r.state IN ('success', 'failed') AND {date} IS NOT NULL"
        " AND r.dag_id ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]*$' ORDER BY r.id DESC LIMIT %s"
    ).format(date=sql.Identifier("r", date))
    rows = working.execute(query, (RUNS,)).fetchall()
    return [(str(dag), str(run), str(state), f"{moment}+00:00") for dag, run, state, moment in rows]


def _compare_run(target: Target, dag_id: str, run_id: str, state: str, moment: str) -> SampleComparison:
    dag = (dag_id,) if version_number(target.release) >= (3,) else ("-d", dag_id)
    # A DAG may have a hundred thousand runs; one moment has one.
    command = ("dags", "list-runs", *dag, "--start-date", moment, "--end-date", moment, "-o", "json")
    answer = target.run(*command)
    shown = {_squeeze(str(row.get("run_id"))): str(row.get("state")) for row in rows_in(answer.output)}
    found = shown.get(_squeeze(run_id))
    finding = f"exit code {answer.exit_code}, the run is not shown"
    if found is not None:
        finding = "the run with its state" if found == state else f"the run as {found} instead of {state}"
    return SampleComparison(command=" ".join(command), matches=found == state, finding=finding)


def _compare_tasks(target: Target, dag_id: str, moment: str, states: Counter[tuple[str, str]]) -> SampleComparison:
    """What a release answers that shows no run of a DAG whose file it does not have."""
    command = ("tasks", "states-for-dag-run", dag_id, moment, "-o", "json")
    answer = target.run(*command)
    shown = Counter((_squeeze(str(row.get("task_id"))), str(row.get("state"))) for row in rows_in(answer.output))
    finding = f"exit code {answer.exit_code}, the run is not shown"
    if shown:
        finding = "the run's tasks with their states" if shown == states else "other tasks or states than the database"
    return SampleComparison(command=" ".join(command), matches=shown == states, finding=finding)


def _task_states(working: Session, dag_id: str, run_id: str) -> Counter[tuple[str, str]]:
    """How many task instances of a run are in which state, by task."""
    by = "run_id" if "run_id" in read_tables(working)["task_instance"] else "execution_date"
    query = sql.SQL(
        "SELECT t.task_id, coalesce(t.state, 'None'), count(*) FROM task_instance t JOIN dag_run r"
        " ON r.dag_id = t.dag_id AND r.{by} = t.{by} WHERE r.dag_id = %s AND r.run_id = %s GROUP BY 1, 2"
    ).format(by=sql.Identifier(by))
    rows = working.execute(query, (dag_id, run_id)).fetchall()
    return Counter({(_squeeze(str(task)), str(state)): int(str(count)) for task, state, count in rows})


def rows_in(output: Secret) -> list[dict[str, object]]:
    """The table that a command printed with ``-o json``, whatever was logged around it."""
    text = output.reveal()
    decoder = json.JSONDecoder(strict=False)
    for match in re.finditer(r"^\[\s*\{", text, re.MULTILINE):
        try:
            rows, _ = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
            return rows
    return []


def _squeeze(text: str) -> str:
    """Without blanks: the terminal's width breaks long lines."""
    return "".join(text.split())
