"""What still runs, and whether anybody is left to end it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from psycopg import sql

from airflow_migration.metadata.draining import InFlight, read_in_flight
from airflow_migration.postgres.address import DatabaseAddress, Session

Corpus = Callable[[str], DatabaseAddress]
NewRole = Callable[..., DatabaseAddress]
Owned = Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress]
Hold = Callable[[DatabaseAddress], Session]


def look(address: DatabaseAddress, timezone: str = "UTC") -> InFlight:
    with address.connect() as conn:
        conn.execute("SELECT set_config('TimeZone', %s, false)", (timezone,))
        return read_in_flight(conn)


def run(address: DatabaseAddress, statement: str, *values: object) -> None:
    with address.connect(read_only=False) as conn:
        conn.execute(statement, values or None)


def set_states(address: DatabaseAddress, *states: str | None) -> None:
    """Give the first task instances these states, all others success."""
    run(address, "UPDATE task_instance SET state = 'success'")
    for number, state in enumerate(states):
        run(
            address,
            "UPDATE task_instance SET state = %s WHERE ctid = (SELECT ctid FROM task_instance"
            " WHERE state = 'success' ORDER BY dag_id, task_id LIMIT 1)",
            state if state != "success" else f"never {number}",
        )


def set_job(address: DatabaseAddress, state: str, age: str) -> None:
    run(address, "DELETE FROM job")
    run(
        address,
        "INSERT INTO job (id, state, job_type, latest_heartbeat) VALUES (1, %s, 'SchedulerJob', now() - %s::interval)",
        state,
        age,
    )


@pytest.mark.parametrize("release", ["1.10.15", "2.2.5", "2.10.5"])
def test_states_are_counted_by_whether_they_end_by_themselves(corpus: Corpus, release: str) -> None:
    address = corpus(release)
    set_states(address, "running", "running", "queued", "scheduled", None)
    seen = look(address)
    assert seen.task_instances == {"running": 2, "queued": 1}
    assert seen.waiting == {"scheduled": 1}
    assert seen.running == 3
    assert not InFlight(task_instances=seen.task_instances, waiting=seen.waiting, live_processes=1, sessions=0).drained


def test_what_waits_for_a_scheduler_keeps_nobody_waiting(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    set_states(address, "scheduled", "up_for_retry", "up_for_reschedule", "deferred", None, "failed", "skipped")
    seen = look(address)
    assert seen.running == 0
    assert seen.drained
    assert not seen.abandoned
    assert sum(seen.waiting.values()) == 4


def test_an_empty_database_is_drained(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    run(address, "TRUNCATE task_instance CASCADE")
    seen = look(address)
    assert (seen.task_instances, seen.waiting, seen.drained, seen.abandoned) == ({}, {}, True, False)


def test_running_is_abandoned_only_with_no_live_process_and_no_session(corpus: Corpus, hold: Hold) -> None:
    address = corpus("1.10.15")
    set_states(address, "running")
    set_job(address, "running", "10 seconds")
    assert (look(address).live_processes, look(address).abandoned) == (1, False)
    set_job(address, "running", "10 minutes")
    assert (look(address).live_processes, look(address).abandoned) == (0, True)
    set_job(address, "success", "10 seconds")
    assert look(address).abandoned
    session = hold(address)
    assert (look(address).sessions, look(address).abandoned, look(address).drained) == (1, False, False)
    session.close()


@pytest.mark.parametrize("release", ["1.10.15", "2.10.5"])
@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Kiritimati", "America/Anchorage"])
def test_heartbeats_are_judged_alike_in_every_time_zone(corpus: Corpus, release: str, timezone: str) -> None:
    address = corpus(release)
    run(address, "DELETE FROM job")
    for number, heartbeat in enumerate(("10 seconds", "10 minutes", "9 hours", "-9 hours")):
        run(
            address,
            "INSERT INTO job (id, state, job_type, latest_heartbeat) VALUES (%s, 'running', 'LocalTaskJob',"
            " now() - %s::interval)",
            number,
            heartbeat,
        )
    assert look(address, timezone).live_processes == 2


def test_a_task_of_3_with_a_heartbeat_of_its_own_is_alive(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    set_states(address, "running")
    run(address, "ALTER TABLE task_instance ADD COLUMN last_heartbeat_at timestamptz")
    assert look(address).abandoned
    run(address, "UPDATE task_instance SET last_heartbeat_at = now()")
    assert (look(address).live_processes, look(address).abandoned) == (1, False)
    run(address, "UPDATE task_instance SET last_heartbeat_at = now() - interval '1 hour'")
    assert look(address).abandoned


def test_our_own_sessions_are_not_counted(corpus: Corpus, hold: Hold) -> None:
    address = corpus("2.10.5")
    with address.connect():
        assert look(address).sessions == 0
    hold(address)
    assert look(address).sessions == 1


def test_sessions_of_other_roles_are_counted_by_a_role_that_may_not_see_what_they_do(
    corpus: Corpus, new_role: NewRole, owned: Owned, hold: Hold
) -> None:
    address = corpus("2.10.5")
    set_states(address, "running")
    ours, theirs = owned(address, new_role()), new_role()
    run(address, sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(  # type: ignore[arg-type]
        sql.Identifier(address.database), sql.Identifier(theirs.user)))  # fmt: skip
    assert look(ours).abandoned
    hold(theirs.on(address.database))
    hold(address)
    assert look(ours).sessions == 2
    assert not look(ours).abandoned


def test_looking_changes_nothing(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=True) as conn:
        read_in_flight(conn)
