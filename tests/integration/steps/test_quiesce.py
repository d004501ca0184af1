"""The source comes to rest, and goes on as before when the migration is given up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from airflow_migration.exceptions import DrainTimeoutError, InvalidInputError
from airflow_migration.metadata import journal
from airflow_migration.steps import quiesce
from airflow_migration.steps.migration import Migration

NewMigration = Callable[..., Migration]


def ignore(_: object) -> None:
    pass


def flags(migration: Migration) -> dict[str, object]:
    with migration.source.address.connect() as conn:
        return {str(dag): flag for dag, flag in conn.execute("SELECT dag_id, is_paused FROM dag").fetchall()}


def write(migration: Migration, statement: str) -> None:
    with migration.source.address.connect(read_only=False) as conn:
        conn.execute(statement)


def test_resume_undoes_pause_and_both_can_be_repeated(migration: NewMigration) -> None:
    begun = migration()
    before = flags(begun)
    assert False in before.values()
    assert quiesce.pause_dags(begun, ignore).paused_now == 1
    assert quiesce.pause_dags(begun, ignore).paused_now == 0
    assert set(flags(begun).values()) == {True}
    assert quiesce.resume_source(begun, ignore).unpaused == 1
    assert quiesce.resume_source(begun, ignore).unpaused == 0
    assert flags(begun) == before


def test_resume_changes_nothing_where_nothing_was_paused(migration: NewMigration) -> None:
    begun = migration()
    before = flags(begun)
    assert quiesce.resume_source(begun, ignore).unpaused == 0
    assert flags(begun) == before


def test_a_migration_that_passed_preflight_beside_another_is_refused_then(migration: NewMigration) -> None:
    begun = migration()
    with begun.source.address.connect(read_only=False) as conn:
        journal.open_migration(conn, "the other one", "t")
    before = flags(begun)
    with pytest.raises(InvalidInputError, match="the other one"):
        quiesce.pause_dags(begun, ignore)
    assert flags(begun) == before
    assert quiesce.resume_source(begun, ignore).unpaused == 0
    assert flags(begun) == before


def test_a_dag_that_comes_up_during_the_drain_is_paused_and_resumed(migration: NewMigration) -> None:
    begun = migration()
    quiesce.pause_dags(begun, ignore)
    write(
        begun,
        "INSERT INTO dag SELECT (jsonb_populate_record(d, jsonb_build_object('dag_id', 'late', 'is_paused', false))).*"
        " FROM dag d LIMIT 1",
    )
    heard: list[object] = []
    quiesce.settle(begun, heard.append)
    assert flags(begun)["late"] is True
    assert any("came up active" in str(line) for line in heard)
    quiesce.resume_source(begun, ignore)
    assert flags(begun)["late"] is False


STARTED = datetime.now(timezone.utc) - timedelta(seconds=100)


def test_a_drain_that_ends_in_time_says_what_goes_on_at_the_target(migration: NewMigration) -> None:
    begun = migration()
    write(begun, "UPDATE task_instance SET state = 'up_for_retry'")
    seen = quiesce.settle(begun, ignore)
    assert seen.drained
    result = quiesce.end_drain(begun, seen, timed_out=False, started=STARTED)
    assert (result.left_running, result.timed_out, result.abandoned) == (0, False, False)
    assert list(result.waiting) == ["up_for_retry"]
    assert result.seconds >= 100


def test_a_drain_that_takes_too_long_fails_with_what_still_runs(migration: NewMigration) -> None:
    begun = migration()
    write(begun, "UPDATE task_instance SET state = 'running'")
    seen = quiesce.read_in_flight(begun)
    with pytest.raises(DrainTimeoutError, match=f"{seen.running} running") as caught:
        quiesce.end_drain(begun, seen, timed_out=True, started=STARTED)
    assert "3600 s" in caught.value.problem
    assert not caught.value.retryable


def test_a_drain_that_takes_too_long_may_go_on_and_says_so(migration: NewMigration) -> None:
    begun = migration(on_drain_timeout="proceed")
    write(begun, "UPDATE task_instance SET state = 'running'")
    seen = quiesce.read_in_flight(begun)
    result = quiesce.end_drain(begun, seen, timed_out=True, started=STARTED)
    assert result.timed_out
    assert result.left_running == seen.running > 0
