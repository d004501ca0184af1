"""Old history leaves the working database only, once, whatever happened to an earlier try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
from tests.integration.metadata.old_runs import OldRun, add_runs

from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.steps import copy, quiesce
from airflow_migration.steps.migration import Migration

NewMigration = Callable[..., Migration]


def ignore(_: object) -> None:
    pass


def rows(address: DatabaseAddress) -> tuple[object, ...] | None:
    with address.connect() as conn:
        return conn.execute(
            "SELECT (SELECT count(*) FROM dag_run WHERE dag_id = 'old'),"
            " (SELECT count(*) FROM task_instance WHERE dag_id = 'old')"
        ).fetchone()


@pytest.fixture
def cloned(migration: NewMigration) -> Migration:
    """A migration whose source has forty old runs, up to its frozen clone."""
    made = migration(history_days=30)
    runs = [OldRun(dag_id="old", run_id=f"scheduled__{n}", date=f"2019-01-01T00:{n:02}Z") for n in range(40)]
    with made.source.address.connect(read_only=False) as conn:
        add_runs(conn, runs)
    quiesce.pause_dags(made, ignore)
    copy.clone_source(made, ignore)
    return made


@pytest.mark.parametrize("last_words", ["handed to role", "travel", "stay behind"])
def test_a_kill_at_any_moment_leaves_all_or_nothing_and_the_retry_goes_on(cloned: Migration, last_words: str) -> None:
    def die(message: object) -> None:
        if last_words in str(message):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy.make_working_database(cloned, die)
    assert rows(cloned.working) == (40, 80)
    first = copy.make_working_database(cloned, ignore)
    # The plan made anew would name another moment.
    later = replace(cloned, plan=replace(cloned.plan, history_cutoff="2030-01-01T00:00:00+00:00"))
    again = copy.make_working_database(later, ignore)
    assert first.history
    assert again.history
    assert (first.history.reused, again.history.reused) == (False, True)
    assert asdict(again.history)["tables"] == asdict(first.history)["tables"]
    assert again.history.cutoff == first.history.cutoff
    assert rows(cloned.working) == (1, 2)
    assert rows(cloned.frozen) == rows(cloned.source.address) == (40, 80)


def test_without_history_days_everything_travels(migration: NewMigration) -> None:
    made = migration()
    with made.source.address.connect(read_only=False) as conn:
        add_runs(conn, [OldRun(dag_id="old", run_id=f"run {n}", date=f"2019-01-01T00:0{n}Z") for n in range(3)])
    quiesce.pause_dags(made, ignore)
    copy.clone_source(made, ignore)
    assert copy.make_working_database(made, ignore).history is None
    assert rows(made.working) == (3, 6)
