"""The working database gets its final name, and nobody else's is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from airflow_migration.exceptions import OwnershipError, ToolError
from airflow_migration.metadata import journal
from airflow_migration.postgres import databases
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.steps import copy, cutover, quiesce
from airflow_migration.steps.migration import Migration

NewMigration = Callable[..., Migration]
Corpus = Callable[[str], DatabaseAddress]
Owned = Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress]
Hold = Callable[[DatabaseAddress], Session]

CONN = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


def ignore(_: object) -> None:
    pass


@pytest.fixture
def copied(migration: NewMigration) -> NewMigration:
    def make(**options: object) -> Migration:
        made = migration(**{"backup": False} | options)
        quiesce.pause_dags(made, ignore)
        copy.clone_source(made, ignore)
        copy.make_working_database(made, ignore)
        return made

    return make


@pytest.fixture
def fresh(corpus: Corpus, owned: Owned, postgres_server: DatabaseAddress) -> Callable[[Migration], DatabaseAddress]:
    """Gives the target's name to a fresh Airflow of the target's login."""

    def make(migration: Migration, empty: bool = True) -> DatabaseAddress:
        address = corpus("2.10.5")
        if empty:
            with address.connect(read_only=False) as conn:
                conn.execute("TRUNCATE dag_run, task_instance CASCADE")
        final = migration.final.database
        databases.rename_database(postgres_server, address.database, final, ignore)
        return owned(postgres_server.on(final), migration.target.address)

    return make


def names(migration: Migration) -> set[str]:
    with migration.final.maintenance().connect() as conn:
        return {str(name) for (name,) in conn.execute("SELECT datname FROM pg_database").fetchall()}


def is_the_copy(address: DatabaseAddress, migration: Migration) -> bool:
    with address.connect() as conn:
        return journal.read_entry(conn, migration.id) is not None


def test_a_free_name_is_taken_and_a_retry_says_the_same(copied: NewMigration) -> None:
    migration = copied()
    first = cutover.point_target(migration, ignore)
    assert (first.database, first.set_aside_as) == (migration.final.database, None)
    assert is_the_copy(migration.final, migration)
    assert migration.working.database not in names(migration)
    assert cutover.is_ours(migration)
    assert cutover.point_target(migration, ignore) == first


def test_a_fresh_airflow_is_set_aside_and_its_sessions_are_ended(
    copied: NewMigration, fresh: Callable[[Migration], DatabaseAddress], hold: Hold
) -> None:
    migration = copied()
    address = fresh(migration)
    session = hold(address)
    assert not cutover.is_ours(migration)
    first = cutover.point_target(migration, ignore)
    assert first.set_aside_as
    assert first.set_aside_as in names(migration)
    assert is_the_copy(migration.final, migration)
    assert not is_the_copy(migration.final.on(first.set_aside_as), migration)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    assert cutover.point_target(migration, ignore) == first


def test_a_kill_between_the_two_renames_is_made_good(
    copied: NewMigration, fresh: Callable[[Migration], DatabaseAddress]
) -> None:
    migration = copied()
    fresh(migration)
    aside = cutover._choose_aside(migration)
    cutover._record_hand_over(migration, aside)
    databases.rename_database(migration.final, migration.final.database, aside, ignore)
    assert cutover.point_target(migration, ignore).set_aside_as == aside
    assert is_the_copy(migration.final, migration)


def test_a_target_that_was_put_to_use_since_the_preflight_stays(
    copied: NewMigration, fresh: Callable[..., DatabaseAddress]
) -> None:
    migration = copied()
    fresh(migration, empty=False)
    before = names(migration)
    with pytest.raises(OwnershipError, match=migration.final.database):
        cutover.point_target(migration, ignore)
    assert names(migration) == before
    assert not is_the_copy(migration.final, migration)


def test_another_database_of_that_name_is_not_taken_for_ours(
    copied: NewMigration, fresh: Callable[..., DatabaseAddress]
) -> None:
    migration = copied()
    databases.drop_database(migration.working, migration.working.database, ignore)
    fresh(migration)
    with pytest.raises(OwnershipError):
        cutover.point_target(migration, ignore)
    assert not cutover.is_ours(migration)
    assert migration.final.database in names(migration)


def test_nothing_is_there_to_be_renamed(copied: NewMigration) -> None:
    migration = copied()
    databases.drop_database(migration.working, migration.working.database, ignore)
    with pytest.raises(OwnershipError):
        cutover.point_target(migration, ignore)


def test_a_target_that_was_told_another_name_is_told_the_new_one(copied: NewMigration, tmp_path: Path) -> None:
    path = tmp_path / "target.env"
    path.write_text(f"# the target\n{CONN}='postgresql://u:p@h/an old name'\n")
    migration = copied(control={"kind": "env_file", "path": str(path)})
    first = cutover.point_target(migration, ignore)
    assert set(first.control.changed) == {CONN, *migration.plan.settings}
    assert f'{CONN}="postgresql://u:p@h/{migration.final.database}"' in path.read_text()
    assert cutover.point_target(migration, ignore).control.changed == ()
    assert Path(first.control.backup or "").read_text().endswith("/an old name'\n")


def test_a_person_is_told_what_is_left(copied: NewMigration) -> None:
    migration = copied()
    told = cutover.point_target(migration, ignore).control.instructions
    assert migration.final.database in told[0]
    assert cutover.restart_target(migration, ignore).instructions


def test_the_target_is_restarted_by_its_command(migration: NewMigration, tmp_path: Path) -> None:
    path = tmp_path / "target.env"
    path.write_text("A=1\n")
    command = ["/bin/sh", "-c", 'echo "restarted by hand"; touch "$0"', str(tmp_path / "restarted")]
    begun = migration(control={"kind": "env_file", "path": str(path), "restart_command": command})
    heard: list[object] = []
    assert cutover.restart_target(begun, heard.append).changed == ("/bin/sh",)
    assert (tmp_path / "restarted").exists()
    assert "restarted by hand" in heard


def test_a_restart_that_fails_fails_the_step(migration: NewMigration, tmp_path: Path) -> None:
    path = tmp_path / "target.env"
    path.write_text("A=1\n")
    command = ["/bin/sh", "-c", "echo no such unit; exit 5"]
    begun = migration(control={"kind": "env_file", "path": str(path), "restart_command": command})
    with pytest.raises(ToolError, match="no such unit"):
        cutover.restart_target(begun, ignore)


def test_a_fenced_source_can_be_fenced_again_and_the_target_pointed(copied: NewMigration, hold: Hold) -> None:
    migration = copied()
    for _ in range(2):
        assert cutover.fence_source(migration, ignore).fenced
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        hold(migration.source.address).execute("UPDATE dag SET is_paused = false")
    cutover.point_target(migration, ignore)
    hold(migration.final).execute("UPDATE dag SET is_paused = false")


def test_a_source_that_is_not_to_be_fenced_can_write(copied: NewMigration, hold: Hold) -> None:
    migration = copied(fence_source=False)
    assert not cutover.fence_source(migration, ignore).fenced
    hold(migration.source.address).execute("UPDATE dag SET is_paused = is_paused")
