"""Dump a database and load it elsewhere: whole or not at all, and without telling what it holds."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql
from tests.polling import until

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres import databases
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.dump import dump_database
from airflow_migration.postgres.dump_directory import DumpResult
from airflow_migration.postgres.manifest import read_manifest
from airflow_migration.postgres.portability import Portability
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.restore import RestoreResult, create_empty, discard_partial, restore_dump
from airflow_migration.postgres.tools import find_tool
from airflow_migration.progress import Progress

NewDatabase = Callable[..., DatabaseAddress]
NewRole = Callable[..., DatabaseAddress]
Owned = Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress]
Corpus = Callable[[str], DatabaseAddress]


ABOUT = {"migration": "run 1", "alembic_head": "of a test"}


def ignore(_: object) -> None:
    pass


def tool(address: DatabaseAddress, name: str) -> Path:
    with address.maintenance().connect() as session:
        return find_tool(name, session.info.server_version)


def dump(
    address: DatabaseAddress, path: Path, listener: Callable[[object], None] = ignore, **tools: Path
) -> DumpResult:
    return dump_database(
        Client("dump", address.environment()),
        address,
        path,
        pg_dump=tools.get("pg_dump") or tool(address, "pg_dump"),
        methods={"gzip"},
        about=ABOUT,
        listener=listener,
    )


def restore(
    address: DatabaseAddress, path: Path, listener: Callable[[object], None] = ignore, **tools: Path
) -> RestoreResult:
    manifest = read_manifest(path)
    return restore_dump(
        Client("restore", address.environment()),
        address,
        path,
        manifest=manifest,
        portable=Portability(left_out=(), in_the_way=(), objects=frozenset()),
        pg_restore=tools.get("pg_restore") or tool(address, "pg_restore"),
        listener=listener,
    )


def empty(address: DatabaseAddress, name: str) -> DatabaseAddress:
    create_empty(address.on(name), encoding="UTF8", comment="a label")
    return address.on(name)


def contents(address: DatabaseAddress) -> dict[str, tuple[object, ...] | None]:
    """Row count and digest of every table."""
    with address.connect() as session:
        tables = session.execute("SELECT schemaname, relname FROM pg_stat_user_tables").fetchall()
        query = sql.SQL("SELECT count(*), md5(string_agg(t::text, '\n' ORDER BY t::text)) FROM {}.{} t")
        return {
            f"{schema}.{name}": session.execute(
                query.format(sql.Identifier(str(schema)), sql.Identifier(str(name)))
            ).fetchone()
            for schema, name in tables
        }


def program(path: Path, script: str) -> Path:
    """A program that fails in a way in which a real one does not on demand."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["plain", 'it\'s a=b \\ "odd" ü'])
def test_every_row_arrives(corpus: Corpus, tmp_path: Path, name: str) -> None:
    source = corpus("1.10.15")
    odd = source.on(f"{name} source")
    databases.rename_database(source, source.database, odd.database, ignore)
    heard: list[object] = []
    written = dump(odd, tmp_path / "dumps" / "one", heard.append)
    there = empty(source, name)
    loaded = restore(there, tmp_path / "dumps" / "one", heard.append)
    assert contents(there) == contents(odd)
    assert len(contents(there)) > 20
    assert (written.reused, loaded.reused) == (False, False)
    assert written.bytes > 0
    assert loaded.bytes > 0
    assert loaded.database == name


def test_progress_is_in_bytes_and_comes_to_its_end(corpus: Corpus, tmp_path: Path) -> None:
    source = corpus("2.10.5")
    heard: list[object] = []
    dump(source, tmp_path / "dump", heard.append)
    there = empty(source, source.database + " copy")
    restore(there, tmp_path / "dump", heard.append)
    for what, unit in (("Dump", "bytes"), ("Restore", "bytes"), ("Restore, indexes and constraints", "objects")):
        steps = [one for one in heard if isinstance(one, Progress) and one.what == what]
        done = [one.done for one in steps]
        assert len(done) > 5, what
        assert done == sorted(set(done)), what
        assert {(one.total, one.unit) for one in steps} == {(done[-1], unit)}, what


def test_a_role_without_superuser_loads_what_it_then_owns(
    corpus: Corpus, new_role: NewRole, owned: Owned, tmp_path: Path
) -> None:
    source, role = owned(corpus("2.2.5"), new_role()), new_role()
    dump(source, tmp_path / "dump")
    there = empty(role, source.database + " copy")
    restore(there, tmp_path / "dump")
    with there.connect() as session:
        owners = session.execute(
            "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'"
            " UNION SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()"
        ).fetchall()
    assert owners == [(role.user,)]


def test_a_second_dump_keeps_the_first(corpus: Corpus, tmp_path: Path) -> None:
    source, path = corpus("2.10.5"), tmp_path / "dump"
    first = dump(source, path)
    stamp = (path / "toc.dat").stat().st_mtime_ns
    second = dump(source, path)
    assert second.reused
    assert (second.bytes, second.tables) == (first.bytes, first.tables)
    assert (path / "toc.dat").stat().st_mtime_ns == stamp


def test_a_half_written_dump_never_has_the_final_name(corpus: Corpus, tmp_path: Path) -> None:
    source, path = corpus("2.10.5"), tmp_path / "dumps" / "one"
    script = 'for last; do :; done; mkdir "$last"; echo half > "$last/3000.dat"; echo "pg_dump: error: full"; exit 1'
    with pytest.raises(ToolError, match="full"):
        dump(source, path, pg_dump=program(tmp_path / "pg_dump", script))
    assert not path.exists()
    assert not dump(source, path).reused
    assert not (path / "3000.dat").exists() or (path / "3000.dat").read_text() != "half\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["one"]


def test_a_killed_dump_is_made_anew(corpus: Corpus, tmp_path: Path) -> None:
    source, path = corpus("2.10.5"), tmp_path / "one"
    script = 'for last; do :; done; mkdir "$last"; echo half > "$last/rubbish"; kill -9 $$'
    with pytest.raises(ToolError):
        dump(source, path, pg_dump=program(tmp_path / "pg_dump", script))
    assert not path.exists()
    dump(source, path)
    assert not (path / "rubbish").exists()


def test_nobody_else_may_read_a_dump(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "dumps" / "one"
    dump(corpus("2.10.5"), path)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_half_loaded_database_is_made_anew(corpus: Corpus, tmp_path: Path) -> None:
    source, path = corpus("2.10.5"), tmp_path / "dump"
    dump(source, path)
    there = empty(source, source.database + " copy")
    with there.connect(read_only=False) as session:
        session.execute("CREATE TABLE dag_run (of_a_killed_try int)")
    with pytest.raises(ToolError, match="dag_run"):
        restore(there, path)
    discard_partial(there, ignore)
    restore(empty(source, there.database), path)
    assert contents(there) == contents(source)


def test_what_pg_restore_says_in_other_words_is_a_failure_too(corpus: Corpus, tmp_path: Path) -> None:
    source, path = corpus("2.10.5"), tmp_path / "dump"
    dump(source, path)
    there = empty(source, source.database + " copy")
    with pytest.raises(ToolError):
        restore(there, path, pg_restore=program(tmp_path / "pg_restore", "echo 'pg_restore: Fehler: nichts'; exit 1"))


def test_a_parameter_that_an_older_server_does_not_know_is_no_failure(corpus: Corpus, tmp_path: Path) -> None:
    source, path = corpus("2.10.5"), tmp_path / "dump"
    dump(source, path)
    there = empty(source, source.database + " copy")
    script = """
case "$*" in *--list*) exit 0;; esac
echo 'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"'
echo 'Command was: SET transaction_timeout = 0;'
echo 'pg_restore: warning: errors ignored on restore: 1'
exit 1"""
    assert restore(there, path, pg_restore=program(tmp_path / "pg_restore", script)).database == there.database


def test_row_data_is_withheld_when_a_restore_fails(new_database: NewDatabase, tmp_path: Path) -> None:
    source = new_database()
    with source.connect(read_only=False) as session:
        session.execute("CREATE TABLE connection (id int, password text)")
        session.execute("INSERT INTO connection VALUES (1, 'hidden'), (1, 'hidden too')")
    dump(source, tmp_path / "dump")
    there = empty(source, source.database + " copy")
    with there.connect(read_only=False) as session:
        # pg_restore's own CREATE TABLE fails, then its rows do: both tell row data or statements.
        session.execute("CREATE TABLE connection (id int PRIMARY KEY, password text CHECK (password <> 'hidden'))")
    heard: list[object] = []
    with pytest.raises(ToolError) as caught:
        restore(there, tmp_path / "dump", heard.append)
    assert "connection" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "hidden" not in "\n".join(map(str, heard))


def dump_when_locked(client: Client, address: DatabaseAddress, path: Path, blocker: Session) -> None:
    """The dump, which waits for the rollback of the blocker's lock from before pg_dump is started."""
    pg_dump = tool(address, "pg_dump")

    def lock(message: object) -> None:
        if str(message).startswith("Dump by"):
            blocker.execute("LOCK TABLE dag_run")

    dump_database(client, address, path, pg_dump=pg_dump, methods=(), about=ABOUT, listener=lock)


def children() -> list[int]:
    own = Path(f"/proc/{os.getpid()}/task")
    return [int(pid) for task in own.iterdir() for pid in (task / "children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the arguments of processes from /proc")
def test_a_password_is_in_nobodys_arguments(corpus: Corpus, new_role: NewRole, owned: Owned, tmp_path: Path) -> None:
    source = owned(corpus("2.10.5"), new_role())
    before, seen = set(children()), set[str]()
    client = Client("dump", source.environment())

    with source.connect(read_only=False) as blocker:

        def run() -> None:
            dump_when_locked(client, source, tmp_path / "dump", blocker)

        thread = threading.Thread(target=run)
        thread.start()
        wait_for_its_lock(source, thread)
        for pid in set(children()) - before:
            seen.add(Path(f"/proc/{pid}/cmdline").read_text())
        blocker.rollback()
    thread.join()
    assert any("pg_dump" in line for line in seen)
    assert not [line for line in seen if source.password.reveal() in line or "never-shown" in line]
    assert (tmp_path / "dump").exists()


def wait_for_its_lock(address: DatabaseAddress, thread: threading.Thread) -> None:
    """Until the thread's dump waits for the table that is locked."""

    def waits() -> bool:
        with address.maintenance().connect() as session:
            row = session.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'").fetchone()
        return row is not None

    def goes_on() -> None:
        assert thread.is_alive()

    until(waits, check=goes_on)


def test_a_stopped_dump_leaves_no_session_and_no_dump(corpus: Corpus, tmp_path: Path) -> None:
    source, path = corpus("2.10.5"), tmp_path / "dump"
    client = Client("dump", source.environment())
    failures: list[ToolError] = []

    with source.connect(read_only=False) as blocker:

        def run() -> None:
            try:
                dump_when_locked(client, source, path, blocker)
            except ToolError as err:
                failures.append(err)

        thread = threading.Thread(target=run)
        thread.start()
        wait_for_its_lock(source, thread)
        client.stop()
        thread.join(30)
        assert not thread.is_alive()
    assert failures
    assert not path.exists()


def test_an_empty_database_is_created_once(postgres_server: DatabaseAddress, new_database: NewDatabase) -> None:
    address = postgres_server.on(new_database().database + ' "empty" ü')
    for _ in range(2):
        create_empty(address, encoding="UTF8", comment="a label")
    with address.connect() as session:
        assert contents(address) == {}
        assert databases.database_encoding(session) == "UTF8"


def test_another_encoding_is_kept(new_database: NewDatabase, tmp_path: Path, postgres_server: DatabaseAddress) -> None:
    source = postgres_server.on("latin one")
    create_empty(source, encoding="LATIN1", comment="")
    with source.connect(read_only=False) as session:
        session.execute("CREATE TABLE t AS SELECT 'Zürich' AS v")
        encoding = databases.database_encoding(session)
    dump(source, tmp_path / "dump")
    there = source.on("latin one copy")
    create_empty(there, encoding=encoding, comment="")
    restore(there, tmp_path / "dump")
    with there.connect() as session:
        assert databases.database_encoding(session) == "LATIN1"
        assert session.execute("SELECT v FROM t").fetchone() == ("Zürich",)


def test_a_complete_dump_can_be_loaded_again_after_a_move(corpus: Corpus, tmp_path: Path) -> None:
    source = corpus("2.10.5")
    dump(source, tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    there = empty(source, source.database + " copy")
    restore(there, tmp_path / "there")
    assert contents(there) == contents(source)
