"""Pausing takes exactly what was active to rest, and resuming gives exactly that back."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata import journal, pausing
from airflow_migration.postgres.address import DatabaseAddress, Session

Corpus = Callable[[str], DatabaseAddress]
Flags = dict[str, bool | None]

RELEASES = ["1.10.15", "2.2.5", "2.10.5"]


def add_dag(conn: Session, dag_id: str) -> None:
    """Another DAG like the first."""
    conn.execute(
        "INSERT INTO dag SELECT (jsonb_populate_record(d, jsonb_build_object('dag_id', %s::text))).*"
        " FROM dag d LIMIT 1",
        (dag_id,),
    )


def set_flags(address: DatabaseAddress) -> Flags:
    """A third of the DAGs active, a third paused, the rest without a flag (where the release lets it)."""
    with address.connect(read_only=False) as conn:
        ids = [str(dag_id) for (dag_id,) in conn.execute("SELECT dag_id FROM dag ORDER BY 1").fetchall()]
        for number in range(len(ids), 4):
            ids.append(f"made for the test %s {number} ü")
            add_dag(conn, ids[-1])
        for number, dag_id in enumerate(ids):
            flag = [False, True, None][number % 3]
            try:
                with conn.transaction():
                    conn.execute("UPDATE dag SET is_paused = %s WHERE dag_id = %s", (flag, dag_id))
            except psycopg.errors.NotNullViolation:
                conn.execute("UPDATE dag SET is_paused = false WHERE dag_id = %s", (dag_id,))
    return flags(address)


def flags(address: DatabaseAddress) -> Flags:
    with address.connect() as conn:
        rows = conn.execute("SELECT dag_id, is_paused FROM dag").fetchall()
        return {str(dag_id): flag for dag_id, flag in rows}  # type: ignore[misc]


def contents(address: DatabaseAddress) -> dict[str, object]:
    """A digest of each table's rows; of `dag` without the flag, of our own schema nothing."""
    with address.connect() as conn:
        tables = conn.execute(
            "SELECT schemaname, relname FROM pg_stat_user_tables WHERE schemaname <> 'airflow_migration'"
        ).fetchall()
        digests: dict[str, object] = {}
        for schema, name in tables:
            row = "(to_jsonb(t) - 'is_paused')" if name == "dag" else "to_jsonb(t)"
            # A row that was written and says the same has another xmin.
            written = "" if name == "dag" else ", max(xmin::text)"
            rows = f"md5(string_agg({row}::text, '\n' ORDER BY {row}::text))"
            query = f"SELECT count(*), {rows}{written} FROM {{}}.{{}} t"
            digests[f"{schema}.{name}"] = conn.execute(
                sql.SQL(query).format(sql.Identifier(str(schema)), sql.Identifier(str(name)))
            ).fetchone()
        return digests


def pause(address: DatabaseAddress, migration_id: str = "run 1") -> pausing.PauseResult:
    with address.connect(read_only=False) as conn:
        return pausing.pause_dags(conn, migration_id=migration_id, target="a target")


def resume(address: DatabaseAddress, migration_id: str = "run 1") -> pausing.UnpauseResult:
    with address.connect(read_only=False) as conn:
        return pausing.resume_dags(conn, migration_id=migration_id)


@pytest.mark.parametrize("release", RELEASES)
def test_resume_gives_exactly_the_earlier_flags_and_can_be_repeated(corpus: Corpus, release: str) -> None:
    address = corpus(release)
    before = set_flags(address)
    active = [dag_id for dag_id, flag in before.items() if not flag]
    assert 0 < len(active) < len(before)
    paused = pause(address)
    assert paused == pausing.PauseResult(active=len(active), paused_now=len(active))
    assert set(flags(address).values()) == {True}
    assert resume(address) == pausing.UnpauseResult(unpaused=len(active), already_active=0, missing=())
    assert flags(address) == before
    assert resume(address) == pausing.UnpauseResult(unpaused=0, already_active=0, missing=())
    assert flags(address) == before


def test_a_missing_flag_of_1_10_comes_back_as_missing(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    assert None in set_flags(address).values()
    before = flags(address)
    pause(address)
    resume(address)
    assert flags(address) == before


@pytest.mark.parametrize("release", RELEASES)
def test_nothing_else_of_the_source_is_changed(corpus: Corpus, release: str) -> None:
    address = corpus(release)
    set_flags(address)
    before = contents(address)
    assert len(before) > 15
    pause(address)
    assert contents(address) == before
    resume(address)
    assert contents(address) == before


def test_the_record_and_the_flags_change_together_or_not_at_all(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    before = set_flags(address)
    with address.connect(read_only=False) as conn:
        conn.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'not this one'; END $$"
        )
        conn.execute("CREATE TRIGGER refuse BEFORE UPDATE ON dag FOR EACH STATEMENT EXECUTE FUNCTION refuse()")
    with pytest.raises(psycopg.errors.RaiseException):
        pause(address)
    assert flags(address) == before
    with address.connect() as conn:
        assert not journal.exists(conn)


def test_a_resume_that_fails_can_be_made_again(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    before = set_flags(address)
    pause(address)
    with address.connect(read_only=False) as conn:
        conn.execute("ALTER TABLE dag ADD CONSTRAINT refuse CHECK (is_paused)")
    with pytest.raises(psycopg.errors.CheckViolation):
        resume(address)
    assert set(flags(address).values()) == {True}
    with address.connect(read_only=False) as conn:
        conn.execute("ALTER TABLE dag DROP CONSTRAINT refuse")
    resume(address)
    assert flags(address) == before


def test_a_retry_keeps_the_first_record(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    before = set_flags(address)
    first = pause(address)
    second = pause(address)
    assert second == pausing.PauseResult(active=first.active, paused_now=0)
    resume(address)
    assert flags(address) == before


def test_a_dag_that_came_up_since_is_paused_and_resumed_too(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    before = set_flags(address)
    pause(address)
    with address.connect(read_only=False) as conn:
        add_dag(conn, "late")
        conn.execute("UPDATE dag SET is_paused = false WHERE dag_id = 'late'")
    assert pause(address).paused_now == 1
    assert flags(address)["late"] is True
    resume(address)
    assert flags(address) == before | {"late": False}


def test_a_second_migration_is_refused_with_the_id_of_the_first(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    before = set_flags(address)
    pause(address, "the first")
    with pytest.raises(InvalidInputError, match="the first"):
        pause(address, "the second")
    with address.connect() as conn:
        assert pausing.read_active(conn, "the second") == ()
    resume(address, "the second")
    assert set(flags(address).values()) == {True}
    resume(address, "the first")
    assert flags(address) == before


def test_a_new_try_after_a_resume_sees_the_flags_anew(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    set_flags(address)
    pause(address)
    resume(address)
    with address.connect(read_only=False) as conn:
        conn.execute("UPDATE dag SET is_paused = NOT is_paused")
    before = flags(address)
    pause(address)
    resume(address)
    assert flags(address) == before


def test_a_dag_that_is_gone_is_named(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    set_flags(address)
    pause(address)
    with address.connect() as conn:
        gone = pausing.read_active(conn, "run 1")[0]
    with address.connect(read_only=False) as conn:
        conn.execute("DELETE FROM dag WHERE dag_id = %s", (gone,))
    assert resume(address).missing == (gone,)


def test_resuming_what_was_never_paused_changes_nothing(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    before = set_flags(address)
    assert resume(address).unpaused == 0
    assert flags(address) == before
    with address.connect() as conn:
        assert not journal.exists(conn)


def test_exactly_the_named_dags_are_unpaused(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    set_flags(address)
    pause(address)
    with address.connect() as conn:
        wanted = pausing.read_active(conn, "run 1")
    with address.connect(read_only=False) as conn:
        first = pausing.unpause_dags(conn, (*wanted, "no such dag"))
    with address.connect(read_only=False) as conn:
        second = pausing.unpause_dags(conn, wanted)
        assert pausing.count_active(conn) == len(wanted)
    assert first == pausing.UnpauseResult(unpaused=len(wanted), already_active=0, missing=("no such dag",))
    assert second == pausing.UnpauseResult(unpaused=0, already_active=len(wanted), missing=())
    assert {dag_id for dag_id, flag in flags(address).items() if not flag} == set(wanted)


def test_no_dag_is_unpaused_when_none_is_named(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    set_flags(address)
    pause(address)
    with address.connect(read_only=False) as conn:
        assert pausing.unpause_dags(conn, ()).unpaused == 0
    assert set(flags(address).values()) == {True}


@pytest.mark.parametrize("version", ["1.10.15", "2.10.5", "3.3.2"])
def test_only_dags_that_are_active_and_have_a_file_are_scheduled(corpus: Corpus, version: str) -> None:
    address = corpus(version)
    with address.connect(read_only=False) as conn:
        for dag_id in ("kept", "paused", "without a file"):
            add_dag(conn, dag_id)
        conn.execute("UPDATE dag SET is_paused = dag_id NOT IN ('kept', 'without a file')")
        gone = "is_stale = true" if version == "3.3.2" else "is_active = false"
        conn.execute(f"UPDATE dag SET {gone} WHERE dag_id = 'without a file'")
        assert pausing.read_scheduled(conn) == ("kept",)
