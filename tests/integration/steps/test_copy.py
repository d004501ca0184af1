"""Two copies are made of the source, whole and up to date, whatever happened to an earlier try."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from tests.polling import until

from airflow_migration.exceptions import OwnershipError, ToolError
from airflow_migration.metadata import journal
from airflow_migration.postgres import clone, databases
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.manifest import read_manifest, write_manifest
from airflow_migration.steps import copy, quiesce
from airflow_migration.steps.migration import Migration

NewMigration = Callable[..., Migration]
Hold = Callable[[DatabaseAddress], Session]

OF_OTHERS = """
    CREATE TABLE celery_taskmeta (id int PRIMARY KEY, result bytea);
    INSERT INTO celery_taskmeta SELECT n, '\\x80' FROM generate_series(1, 5) n;
    CREATE SCHEMA "their own"; CREATE TABLE "their own".notes (note text);
    INSERT INTO "their own".notes SELECT 'note ' || n FROM generate_series(1, 7) n
"""


def ignore(_: object) -> None:
    pass


@pytest.fixture
def paused(migration: NewMigration) -> NewMigration:
    def make(**options: object) -> Migration:
        made = migration(**options)
        quiesce.pause_dags(made, ignore)
        return made

    return make


def contents(address: DatabaseAddress, *schemas: str) -> dict[str, tuple[object, ...] | None]:
    """Row count and digest of every table of Airflow."""
    with address.connect() as conn:
        tables = conn.execute(
            "SELECT schemaname::text, relname::text FROM pg_stat_user_tables WHERE schemaname = ANY (%s)",
            (list(schemas or ["public"]),),
        ).fetchall()
        query = sql.SQL("SELECT count(*), md5(string_agg(t::text, '\n' ORDER BY t::text)) FROM {} t")
        return {
            str(name): conn.execute(query.format(sql.Identifier(str(schema), str(name)))).fetchone()
            for schema, name in tables
        }


def state_of(address: DatabaseAddress, migration: Migration) -> str | None:
    with address.connect() as conn:
        entry = journal.read_entry(conn, migration.id)
        return entry.state if entry else None


def write(address: DatabaseAddress, statement: str) -> None:
    with address.connect(read_only=False) as conn:
        conn.execute(statement)


def exists(address: DatabaseAddress) -> bool:
    with address.maintenance().connect() as conn:
        return databases.database_exists(conn, address.database)


def test_the_frozen_clone_is_the_source_and_is_no_source(
    paused: NewMigration, busy: Callable[[DatabaseAddress], None], hold: Hold
) -> None:
    migration = paused()
    busy(migration.source.address)
    assert not copy.clone_source(migration, ignore).reused
    assert contents(migration.frozen) == contents(migration.source.address)
    assert state_of(migration.frozen, migration) == journal.COPIED
    assert state_of(migration.source.address, migration) == journal.OPEN
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        hold(migration.frozen).execute("DELETE FROM dag")


def test_a_second_try_keeps_the_clone(paused: NewMigration) -> None:
    migration = paused()
    copy.clone_source(migration, ignore)
    write(migration.frozen, "CREATE TABLE here_already ()")
    assert copy.clone_source(migration, ignore).reused
    assert "here_already" in contents(migration.frozen)


def test_a_clone_killed_before_it_was_marked_is_marked_by_the_next_try(paused: NewMigration, hold: Hold) -> None:
    migration = paused()
    source = migration.source.address
    copy._claim(migration, journal.CREATE_FROZEN, migration.frozen)
    clone.clone_database(
        source, template=source.database, database=migration.frozen.database, owner=None, comment="", listener=ignore
    )
    assert state_of(migration.frozen, migration) == journal.OPEN
    assert copy.clone_source(migration, ignore).reused
    assert state_of(migration.frozen, migration) == journal.COPIED
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        hold(migration.frozen).execute("DELETE FROM dag")


@pytest.mark.parametrize("which", ["frozen", "working"])
def test_a_database_of_somebody_else_is_never_touched(
    paused: NewMigration, new_database: Callable[..., DatabaseAddress], which: str
) -> None:
    migration = paused()
    if which == "working":
        copy.clone_source(migration, ignore)
    taken = new_database(getattr(migration, which).database)
    write(taken, "CREATE TABLE precious ()")
    with pytest.raises(OwnershipError, match=taken.database):
        (copy.clone_source if which == "frozen" else copy.make_working_database)(migration, ignore)
    assert "precious" in contents(taken)


def test_a_try_that_was_killed_behind_shut_doors_does_not_shut_out_the_next(paused: NewMigration) -> None:
    migration = paused()
    clone.block_connections(migration.source.address, migration.source.address.database, ignore)
    copy.clone_source(migration, ignore)
    assert contents(migration.frozen) == contents(migration.source.address)


def test_shut_doors_are_the_way_where_somebody_stays(
    paused: NewMigration, hold: Hold, postgres_server: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "EXCLUSIVE_ATTEMPTS", 1)
    migration = paused()
    source = migration.source.address
    keeper = hold(postgres_server.on(source.database))
    shut = sql.SQL("SELECT 1 FROM pg_database WHERE datname = {} AND NOT datallowconn").format(source.database)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(copy.clone_source, migration, ignore)
        with postgres_server.connect(autocommit=True) as admin:

            def goes_on() -> None:
                assert not made.done(), made.result()

            until(lambda: admin.execute(shut).fetchone(), check=goes_on)
        keeper.close()
        assert not made.result().reused
    assert contents(migration.frozen) == contents(source)
    assert not copy.allow_connections(migration, ignore)


def test_a_pg_dump_that_outlived_its_task_is_ended_and_its_files_are_removed(paused: NewMigration, hold: Hold) -> None:
    migration = paused()
    copy.clone_source(migration, ignore)
    left = hold(migration.frozen)
    partial = migration.dump_path.with_name(migration.dump_path.name + ".partial-1")
    partial.mkdir(parents=True)
    (partial / "half").write_text("half")
    copy.dump_frozen(migration, ignore)
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    assert not partial.exists()
    assert migration.dump_path.is_dir()


def test_doors_that_a_kill_left_shut_are_opened(paused: NewMigration) -> None:
    migration = paused()
    clone.block_connections(migration.source.address, migration.source.address.database, ignore)
    assert copy.allow_connections(migration, ignore)
    assert not copy.allow_connections(migration, ignore)
    migration.source.address.connect().close()


@pytest.mark.parametrize("transfer", ["clone", "dump"])
def test_the_working_database_is_the_frozen_one_and_belongs_to_the_target(
    paused: NewMigration, hold: Hold, transfer: str
) -> None:
    migration = paused(transfer=transfer)
    write(migration.source.address, OF_OTHERS)
    others = contents(migration.source.address, "their own")
    assert others.keys() == {"notes"}
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    made = copy.make_working_database(migration, ignore)
    assert (made.database, made.reused) == (migration.plan.working_database, False)
    assert contents(migration.working) == contents(migration.frozen)
    assert contents(migration.working)["celery_taskmeta"] == contents(migration.source.address)["celery_taskmeta"]
    assert contents(migration.working, "their own") == others
    assert state_of(migration.working, migration) == journal.COPIED
    with migration.working.connect() as conn:
        foreign = conn.execute(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind IN ('r', 'S', 'v') AND nspname IN ('public', 'airflow_migration')"
            " AND pg_get_userbyid(relowner) <> current_user"
            " UNION ALL SELECT datname FROM pg_database WHERE datname = current_database()"
            " AND pg_get_userbyid(datdba) <> current_user"
        ).fetchall()
    assert foreign == []
    session = hold(migration.working)
    session.execute("ALTER TABLE dag ADD COLUMN of_an_upgrade int")
    session.commit()
    write(migration.working, "CREATE TABLE here_already ()")
    assert copy.make_working_database(migration, ignore).reused
    assert "here_already" in contents(migration.working)


ODD = ('Ä "x" % \\ ' + "ü" * 40).encode()[:63].decode(errors="ignore")


@pytest.mark.parametrize("transfer", ["clone", "dump"])
@pytest.mark.parametrize(("old", "new"), [("public", ODD), (ODD, "public"), (ODD, "airflow")])
def test_the_tables_are_where_the_target_looks_for_them(
    paused: NewMigration, hold: Hold, transfer: str, old: str, new: str
) -> None:
    migration = paused(transfer=transfer, homes=(old, new), users="fab")
    assert migration.plan.users_schema == "fab"
    before = contents(migration.source.address, old, "fab")
    assert len(before) > 30
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    for _ in range(2):
        copy.make_working_database(migration, ignore)
        assert contents(migration.working, new) == before
    with hold(migration.working) as theirs:
        theirs.execute("SELECT count(*) FROM ab_user")
        theirs.execute("CREATE TABLE of_an_upgrade (id serial)")
    assert contents(migration.frozen, old, "fab") == contents(migration.source.address, old, "fab") == before


def half_loading(tmp_path: Path, migration: Migration) -> Migration:
    """The same migration with a pg_restore that is killed half-way."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "pg_restore"
    script.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "pg_restore (PostgreSQL) 99.0"; exit 0; }\n'
        "echo 'pg_restore: connecting'; kill -9 $$\n"
    )
    script.chmod(0o755)
    return replace(migration, workshop=replace(migration.workshop, bin_path=str(folder)))


def test_a_half_loaded_working_database_is_made_anew(paused: NewMigration, tmp_path: Path) -> None:
    migration = paused(transfer="dump")
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    with pytest.raises(ToolError):
        copy.make_working_database(half_loading(tmp_path, migration), ignore)
    write(migration.working, "CREATE TABLE dag (half int)")
    assert not copy.make_working_database(migration, ignore).reused
    assert contents(migration.working) == contents(migration.frozen)


def test_a_working_database_that_was_complete_once_counts_for_nothing_when_it_is_gone(
    paused: NewMigration, tmp_path: Path
) -> None:
    migration = paused(transfer="dump")
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    copy.make_working_database(migration, ignore)
    databases.drop_database(migration.working, migration.working.database, ignore)
    with pytest.raises(ToolError):
        copy.make_working_database(half_loading(tmp_path, migration), ignore)
    assert not copy.make_working_database(migration, ignore).reused
    assert contents(migration.working) == contents(migration.frozen)


def test_copies_of_before_a_resume_are_made_anew(paused: NewMigration) -> None:
    """The run is tried again after the source was resumed: it has gone on, and no copy may lag behind."""
    migration = paused()
    source = migration.source.address
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    copy.make_working_database(migration, ignore)
    quiesce.resume_source(migration, ignore)
    write(source, "INSERT INTO variable (key, val) VALUES ('since', 'then')")
    quiesce.pause_dags(migration, ignore)
    assert not copy.clone_source(migration, ignore).reused
    assert not copy.dump_frozen(migration, ignore).reused
    assert not copy.make_working_database(migration, ignore).reused
    assert contents(migration.frozen) == contents(source)
    assert contents(migration.working) == contents(source)


def test_a_backup_is_kept(paused: NewMigration) -> None:
    migration = paused()
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    assert copy.discard_copies(migration, ignore) == copy.DiscardResult(dropped_database=None, removed_dump=None)
    assert exists(migration.frozen)
    assert migration.dump_path.exists()


def test_without_a_backup_nothing_is_left_and_that_can_be_repeated(paused: NewMigration) -> None:
    migration = paused(transfer="dump", backup=False)
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    copy.make_working_database(migration, ignore)
    first = copy.discard_copies(migration, ignore)
    assert first.dropped_database == migration.frozen.database
    assert first.removed_dump == str(migration.dump_path)
    assert not exists(migration.frozen)
    assert not migration.dump_path.exists()
    assert exists(migration.working)
    assert exists(migration.source.address)
    assert copy.discard_copies(migration, ignore) == copy.DiscardResult(dropped_database=None, removed_dump=None)


@pytest.mark.parametrize("transfer", ["clone", "dump"])
def test_a_dump_that_was_damaged_since_is_made_anew_before_it_is_used(paused: NewMigration, transfer: str) -> None:
    migration = paused(transfer=transfer)
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    heard: list[str] = []
    victim = next(path for path in sorted(migration.dump_path.glob("*.dat")) if path.stat().st_size > 1000)
    victim.write_bytes(victim.read_bytes()[:-100])
    if transfer == "dump":
        copy.make_working_database(migration, lambda message: heard.append(str(message)))
        assert contents(migration.working) == contents(migration.frozen)
    else:
        assert not copy.dump_frozen(migration, lambda message: heard.append(str(message))).reused
    assert [line for line in heard if "made anew" in line and victim.name in line]
    assert copy.dump_frozen(migration, ignore).reused


def test_a_dump_tells_whose_it_is_and_no_secret(paused: NewMigration) -> None:
    migration = paused(transfer="dump")
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    text = (migration.dump_path / "manifest.json").read_text()
    manifest = read_manifest(migration.dump_path)
    assert manifest.about["migration"] == migration.id
    assert manifest.about["alembic_head"] == migration.plan.source_head
    assert sum(file.bytes for file in manifest.files) == manifest.bytes
    for deployment in (migration.source, migration.target):
        assert deployment.address.password.reveal() not in text
    assert migration.source.fernet_keys.reveal() not in text


def test_what_is_no_dump_of_ours_is_never_removed(paused: NewMigration) -> None:
    migration = paused(transfer="dump")
    copy.clone_source(migration, ignore)
    migration.dump_path.mkdir(parents=True)
    theirs = migration.dump_path / "precious.txt"
    theirs.write_text("precious")
    with pytest.raises(OwnershipError, match=r"precious\.txt"):
        copy.dump_frozen(migration, ignore)
    theirs.unlink()
    copy.dump_frozen(migration, ignore)
    manifest = read_manifest(migration.dump_path)
    write_manifest(migration.dump_path, replace(manifest, about={"migration": "another"}))
    with pytest.raises(OwnershipError, match="not of this migration"):
        copy.dump_frozen(migration, ignore)
    assert migration.dump_path.exists()
