"""The server that demo and tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.polling import until

from airflow_migration.exceptions import InvalidInputError, MigrationError, ServerUnreachableError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.tools import program_folders
from airflow_migration.secret import Secret
from demo.server import EmbeddedServer


def all_programs() -> list[Path]:
    return [folder for folder in program_folders() if (folder / "initdb").exists()]


@pytest.fixture(params=all_programs(), ids=str)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "postgres", settings={"fsync": "off"}, programs=request.param)
    yield server
    server.remove()


def test_data_outlive_a_restart_and_end_with_remove(server: EmbeddedServer) -> None:
    address = server.start()
    with address.connect(read_only=False) as session:
        session.execute("CREATE TABLE kept (i int)")
    server.stop()
    with pytest.raises(ServerUnreachableError):
        address.connect()

    with EmbeddedServer(server.directory).start().connect() as session:
        assert session.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    home = server.log.parent
    server.remove()
    assert not home.exists()
    assert not server.directory.exists()


def test_a_second_start_finds_the_running_server(server: EmbeddedServer) -> None:
    assert EmbeddedServer(server.directory, settings={"fsync": "off"}).start() == server.start()


def test_nobody_comes_in_without_the_password(server: EmbeddedServer) -> None:
    address = server.start()
    with pytest.raises(InvalidInputError):
        replace(address, password=Secret("guess")).connect()
    with pytest.raises(InvalidInputError):
        replace(address, password=Secret("")).connect()
    notes = server.directory / "server.json"
    assert notes.stat().st_mode & 0o077 == 0


def test_a_setting_that_postgres_refuses_is_in_the_error(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "postgres", settings={"no_such_setting": "1"})
    try:
        with pytest.raises(MigrationError, match="no_such_setting"):
            server.start()
    finally:
        server.remove()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_the_server_ends_with_a_killed_owner(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from demo.server import EmbeddedServer
        EmbeddedServer(Path(sys.argv[1])).start()
        print("started", flush=True)
        sys.stdin.read()
    """
    argv = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "postgres")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "started\n"
        server = EmbeddedServer(tmp_path / "postgres")
        assert is_up(server.address)
        owner.send_signal(signal.SIGKILL)
    until(lambda: not is_up(server.address))
    server.remove()


def is_up(address: DatabaseAddress) -> bool:
    try:
        address.connect().close()
    except ServerUnreachableError:
        return False
    return True
