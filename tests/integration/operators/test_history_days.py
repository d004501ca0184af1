"""A whole migration that leaves old history behind ends verified, and its preflight says what stays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from tests.integration.metadata.old_runs import OldRun, add_runs
from tests.matrix.migrating import load_runbook

from airflow_migration.metadata.history import filtered_rows
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

Corpus = Callable[[str], DatabaseAddress]
DAYS = 30


@pytest.fixture(scope="module")
def runbook() -> dict[str, Any]:
    """The DAG's tasks in their order, by id."""
    return {task.task_id: task for task in load_runbook()}


def hourly(hours: int) -> list[OldRun]:
    """Runs of an active DAG, the newest half of which are not older than `DAYS`."""
    start = datetime.now(timezone.utc) - timedelta(days=DAYS, hours=hours / 2 - 0.5)
    moments = (start + timedelta(hours=number) for number in range(hours))
    return [OldRun(dag_id="hourly", run_id=f"scheduled__{each.isoformat()}", date=each.isoformat()) for each in moments]


def count(address: DatabaseAddress, table: str) -> int:
    with address.connect() as session:
        row = session.execute(f"SELECT count(*) FROM {table} WHERE dag_id = 'hourly'").fetchone()
    assert row
    return int(str(row[0]))


@pytest.mark.parametrize(
    ("release", "hops", "transfer"),
    [("1.10.15", ("2.11.2", "3.3.2"), "clone"), ("2.10.5", ("3.3.2",), "dump"), ("3.1.8", ("3.3.2",), "clone")],
)
def test_a_migration_with_history_days_ends_verified(
    new_run: Any,
    connect: Any,
    migrate: Any,
    newer_server: DatabaseAddress,
    corpus: Corpus,
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
    release: str,
    hops: tuple[str, ...],
    transfer: str,
) -> None:
    source = corpus(release)
    with source.connect(read_only=False) as session:
        session.execute("DELETE FROM dag_run WHERE dag_id = 'hourly'")
        if release == "1.10.15":
            session.execute("DELETE FROM task_instance WHERE dag_id = 'hourly'")
        add_runs(session, hourly(200))
    environments = {hop: str(runtimes.prepare(hop, lambda line: None)) for hop in hops}
    target = (newer_server if transfer == "dump" else source).on(f"{source.database} moved")
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    connect(
        "migration_target",
        target,
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": environments},
    )
    done = migrate(new_run(history_days=DAYS, transfer=transfer))
    plan, made = done["preflight"], done["restore_database"]
    assert done["verify"]["verified"] is True
    (finding,) = [each for each in plan["findings"] if each["check"] == "history_days"]
    assert finding["severity"] == "info"
    assert made["history"]["cutoff"] == plan["history_cutoff"]
    stayed = {each["table"]: each["rows"] for each in made["history"]["tables"]}
    assert stayed["dag_run"] == finding["count"] >= 100
    with target.connect() as session:
        assert filtered_rows(session, plan["migration_id"]) == stayed
    frozen = source.on(plan["frozen_database"])
    assert (count(source, "dag_run"), count(frozen, "dag_run"), count(target, "dag_run")) == (200, 200, 100)
    assert (count(frozen, "task_instance"), count(target, "task_instance")) == (400, 200)
    ledger = {entry["table"]: entry for entry in done["verify"]["ledger"]}
    for table, rows in stayed.items():
        causes = {each["cause"]: each["rows"] for each in ledger[table]["causes"]}
        assert causes.get("history_days; stays in the frozen clone", 0) == rows


def test_a_row_lost_beside_the_old_history_is_noticed(
    new_run: Any,
    connect: Any,
    corpus: Corpus,
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
    runbook: dict[str, Any],
) -> None:
    source = corpus("2.10.5")
    with source.connect(read_only=False) as session:
        add_runs(session, hourly(200))
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    connect(
        "migration_target",
        source.on(f"{source.database} moved"),
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": {"3.3.2": str(runtimes.prepare("3.3.2", lambda line: None))}},
    )
    run = new_run(history_days=DAYS, backup=False)
    names = list(runbook)
    for name in names[: names.index("verify")]:
        with suppress(AirflowSkipException):
            run.execute(runbook[name])
    plan = run.task.xcoms["preflight", "return_value"]["result"]
    (finding,) = [each for each in plan["findings"] if each["check"] == "history_days"]
    assert finding["severity"] == "warning"
    with source.on(plan["working_database"]).connect(read_only=False) as session:
        session.execute(
            "DELETE FROM task_instance WHERE id = (SELECT id FROM task_instance WHERE dag_id = 'hourly'"
            " ORDER BY run_id DESC LIMIT 1)"
        )
    with pytest.raises(AirflowFailException, match="task_instance"):
        run.execute(runbook["verify"])
