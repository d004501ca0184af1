"""Rows alone go into the database of a fresh target, whatever its schema is called, and can be taken out again."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.integration.steps.fresh_targets import NewPair, compare, ignore, rows, write

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import OwnershipError, PreflightError
from airflow_migration.metadata import journal
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.sequences import behind_sequences
from airflow_migration.metadata.table_choice import TableChoice
from airflow_migration.planning.roll_back import RollBackOptions, make_roll_back_plan
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.manifest import DamagedDumpError, describe_files, read_manifest, write_manifest
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, cutover, data_only, quiesce, roll_back
from airflow_migration.steps.migration import Migration

RELEASES = ("1.10.10", "1.10.15", "2.0.2", "2.2.5", "2.7.3", "2.10.5", "2.11.2", "3.0.6", "3.1.8", "3.3.2")
ODD = 'Its "own" Schemä %s'


@pytest.mark.parametrize("release", RELEASES)
def test_history_and_settings_of_every_release_arrive_and_nothing_else(
    pair: NewPair, fernet_key: Secret, release: str
) -> None:
    made = pair(release)
    before = rows(made.target.address)
    migration = made.migration()
    plan = migration.plan
    assert plan.hops == ()
    assert plan.target_head == plan.source_head
    done = copy.make_working_database(migration, ignore)
    assert isinstance(done, data_only.FilledTarget)
    assert {each.table for each in done.tables} == set(plan.choice.travel)
    result = compare(migration, fernet_key)
    assert result.problems == ()
    entries = {entry.table: entry for entry in result.ledger}
    assert entries["dag_run"].rows_in == entries["dag_run"].rows_out > 0
    after = rows(made.target.address)
    assert {table for table in after if after[table] != before[table]} <= set(plan.choice.travel)
    with migration.final.connect() as conn:
        assert not behind_sequences(conn, read_tables(conn))
        assert conn.execute("SELECT 1 FROM connection WHERE conn_id = 'platform'").fetchone() is None


@pytest.mark.parametrize("homes", [("airflow", "public"), (ODD, "ünï code"), ("public", 'a"b'), ("same", "same")])
def test_each_side_has_its_own_schema(pair: NewPair, fernet_key: Secret, homes: tuple[str, str]) -> None:
    migration = pair(homes=homes).migration()
    copy.make_working_database(migration, ignore)
    assert compare(migration, fernet_key).problems == ()
    source, target = rows(migration.frozen), rows(migration.final)
    assert all(source[table] == target[table] for table in ("task_instance", "xcom", "variable", "dag_tag"))


def part_of(migration: Migration, table: str) -> Path:
    """The file of a dump with the rows of one table."""
    parts = read_manifest(migration.dump_path).parts
    return migration.dump_path / next(part.name for part in parts if part.table == table)


def admit(migration: Migration) -> None:
    """Have the manifest describe the dump's files as they are now, as if they had been dumped so."""
    written = read_manifest(migration.dump_path)
    now = {file.name: file for file in describe_files(migration.dump_path, 2)}
    files = [replace(file, bytes=now[file.name].bytes, sha256=now[file.name].sha256) for file in written.files]
    write_manifest(migration.dump_path, replace(written, files=tuple(files)))


def test_a_foreign_key_cannot_be_broken(pair: NewPair) -> None:
    made = pair("2.10.5")
    migration = made.migration()
    before = rows(made.target.address)
    path = part_of(migration, "task_instance")
    content = path.read_bytes()
    assert b"\tbackfill__" in content
    path.write_bytes(content.replace(b"\tbackfill__", b"\tnowhere___"))
    admit(migration)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        copy.make_working_database(migration, ignore)
    assert rows(made.target.address) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def change(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\tsuccess\t", b"\tfailed_\t"))
    assert path.read_bytes() != content


def test_a_damaged_dump_is_found_before_the_target_is_touched_and_made_anew_by_the_step_before(
    pair: NewPair, fernet_key: Secret
) -> None:
    made = pair("2.10.5")
    migration = made.migration()
    before = rows(made.target.address)
    for harm in (cut, change, Path.unlink):
        path = part_of(migration, "task_instance")
        harm(path)
        with pytest.raises(DamagedDumpError, match=re.escape(path.name)) as caught:
            copy.make_working_database(migration, ignore)
        assert "dump_database" in caught.value.remedy
        assert rows(made.target.address) == before
        with migration.source.address.connect() as conn:
            assert journal.read_act(conn, migration.id, journal.FILL) is None
        assert not copy.dump_frozen(migration, ignore).reused
        assert copy.dump_frozen(migration, ignore).reused
    copy.make_working_database(migration, ignore)
    assert compare(migration, fernet_key).problems == ()


def test_a_dump_of_other_rows_is_not_kept(pair: NewPair) -> None:
    migration = pair("2.10.5").migration(tables=("variable",))
    wider = replace(migration, plan=replace(migration.plan, tables=TableChoice(travel=("connection", "variable"))))
    assert not copy.dump_frozen(wider, ignore).reused
    assert {part.table for part in read_manifest(migration.dump_path).parts} == {"connection", "variable"}


def _killed(migration: Migration, at: str) -> None:
    def listener(message: object) -> None:
        if at in str(message):
            os.kill(os.getpid(), signal.SIGKILL)

    copy.make_working_database(migration, listener)


def kill(migration: Migration, at: str) -> None:
    """Fill the target in a process of its own, which is killed once it says so."""
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(migration, at))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("limit", [0, data_only.AT_ONCE])
@pytest.mark.parametrize("at", ["are empty", "Load: "])
def test_a_kill_between_truncate_and_load_loses_nothing(
    pair: NewPair, fernet_key: Secret, monkeypatch: pytest.MonkeyPatch, limit: int, at: str
) -> None:
    monkeypatch.setattr(data_only, "AT_ONCE", limit)
    made = pair("1.10.15")
    before = rows(made.target.address)
    migration = made.migration()
    kill(migration, at)
    if limit:
        assert rows(made.target.address) == before
    if at == "are empty" and not limit:
        monkeypatch.setattr(data_only, "AT_ONCE", data_only.AT_ONCE)
    done = copy.make_working_database(migration, ignore)
    assert isinstance(done, data_only.FilledTarget)
    assert compare(migration, fernet_key).problems == ()
    again = copy.make_working_database(migration, ignore)
    assert isinstance(again, data_only.FilledTarget)
    assert again.reused
    assert again.tables == done.tables


@pytest.mark.parametrize("at", [None, "are empty", "Load: "])
def test_a_roll_back_puts_the_targets_own_rows_back(
    pair: NewPair, monkeypatch: pytest.MonkeyPatch, at: str | None
) -> None:
    monkeypatch.setattr(data_only, "AT_ONCE", 0)
    made = pair("2.10.5")
    before = rows(made.target.address)
    migration = made.migration()
    if at:
        kill(migration, at)
    else:
        copy.make_working_database(migration, ignore)
        cutover.point_target(migration, ignore)
        with migration.final.connect(read_only=False) as conn:
            conn.execute("UPDATE dag SET is_paused = false")
    options = RollBackOptions(migration_id=migration.id, require_approval=False)
    plan = make_roll_back_plan(options=options, source=made.source, target=made.target, listener=ignore)
    assert plan.filled
    assert plan.working_database is None
    assert plan.handed_over == (at is None)
    back = roll_back.RollBack(plan=plan, source=made.source, target=made.target, workshop=migration.workshop)
    for _ in range(2):
        roll_back.pause_target(back, ignore)
        roll_back.restore_target_settings(back, ignore)
        roll_back.put_back_target_database(back, ignore)
        assert rows(made.target.address) == before
    with made.target.address.connect() as conn:
        assert not journal.exists(conn)
    roll_back.lift_fence(back, ignore)
    assert roll_back.resume_source(back, ignore)
    dropped = roll_back.drop_created(back, ignore)
    assert dropped.dropped == ()
    roll_back.close_journal(back, ignore)
    assert rows(made.target.address) == before


def test_a_target_that_has_got_runs_since_preflight_is_not_emptied(pair: NewPair) -> None:
    made = pair("2.10.5")
    migration = made.migration()
    run = (
        "INSERT INTO dag_run (dag_id, run_id, run_type, execution_date, queued_at, state)"
        " VALUES ('own', 'own', 'manual', now(), now(), 'running')"
    )
    write(made.target.address, run)
    before = rows(made.target.address)
    with pytest.raises(OwnershipError, match="runs of its own"):
        copy.make_working_database(migration, ignore)
    assert rows(made.target.address) == before
    with pytest.raises(PreflightError, match="runs of its own"):
        made.planned(migration_id="another")


def test_another_head_is_a_blocker_that_says_what_to_do(
    pair: NewPair, deployment: Callable[..., Deployment], corpus: Callable[[str], DatabaseAddress]
) -> None:
    made = pair("2.10.5")
    write(made.target.address, "UPDATE alembic_version SET version_num = '405de8318b3a'")
    with pytest.raises(PreflightError, match="405de8318b3a") as caught:
        made.planned()
    assert "clone or dump" in caught.value.remedy


def test_a_source_that_went_on_fills_the_target_anew(pair: NewPair, fernet_key: Secret) -> None:
    made = pair("2.10.5")
    own_rows = rows(made.target.address)
    migration = made.migration()
    copy.make_working_database(migration, ignore)
    quiesce.resume_source(migration, ignore)
    write(made.source.address, "INSERT INTO variable (key, val, is_encrypted) VALUES ('later', 'x', false)")
    quiesce.pause_dags(migration, ignore)
    copy.clone_source(migration, ignore)
    copy.dump_frozen(migration, ignore)
    copy.make_working_database(migration, ignore)
    assert compare(migration, fernet_key).problems == ()
    data_only.restore_target_rows(migration.final, migration.id, ignore)
    assert rows(made.target.address) == own_rows
