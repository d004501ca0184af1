"""A server behind a slow link, which may break: measured, taken into account, and tried again."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.polling import until

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres import byte_progress
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.dump import dump_database
from airflow_migration.postgres.link_speed import SAMPLES, measure_link
from airflow_migration.postgres.manifest import read_manifest, verify_dump
from airflow_migration.postgres.portability import Portability
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.restore import create_empty, discard_partial, restore_dump
from airflow_migration.postgres.tools import compression_methods, find_tool
from airflow_migration.progress import Progress

MEGABYTE = 1_000_000
BLOCK = 16384
CATCH_UP = 0.1
"""Seconds of delay that are made good: where processors are short a thread wakes up later than a block takes."""


class Link:
    """Stands between a client and a server, lets so many bytes through in a second, and can be cut."""

    def __init__(self, server: DatabaseAddress, rate: float) -> None:
        self._server, self._rate = server, rate
        self._door = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[socket.socket] = []
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        self.carried = 0
        self.cut_after: int | None = None

    def address(self, address: DatabaseAddress) -> DatabaseAddress:
        return replace(address, port=self._door.getsockname()[1])

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.cut()

    def cut(self) -> None:
        with self._lock:
            for each in self._pairs:
                with suppress(OSError):  # it has ended by itself
                    each.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            server = socket.create_connection((self._server.host, self._server.port))
            with self._lock:
                self._pairs += [client, server]
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while True:
                try:
                    for end in select.select([client, server], [], [], 60)[0]:
                        block = end.recv(BLOCK)
                        if not block:
                            return
                        self._wait_for(len(block))
                        (server if end is client else client).sendall(block)
                except (OSError, ValueError):  # closed by the other end, or cut
                    return

    def _wait_for(self, size: int) -> None:
        with self._lock:
            self.carried += size
            self._free_at = max(self._free_at, time.monotonic() - CATCH_UP) + size / self._rate
            pause = self._free_at - time.monotonic()
            cut = self.cut_after is not None and self.carried > self.cut_after
        if cut:
            self.cut_after = None
            self.cut()
        time.sleep(max(0, pause))  # this is the rate


@pytest.fixture
def link(postgres_server: DatabaseAddress) -> Iterator[Callable[[float], Link]]:
    made: list[Link] = []

    def make(rate: float) -> Link:
        made.append(Link(postgres_server, rate))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def large(new_database: Callable[..., DatabaseAddress]) -> DatabaseAddress:
    """Just large enough for the link to matter; packs well."""
    database = new_database()
    with database.connect(read_only=False) as conn:
        conn.execute(
            "CREATE TABLE large AS SELECT n AS id, repeat(md5(n::text), 10) AS text FROM generate_series(1, 50000) n"
        )
        conn.execute("CREATE TABLE small AS SELECT n AS id FROM generate_series(1, 100) n")
        conn.execute("ALTER TABLE large ADD PRIMARY KEY (id)")
    return database


def dump(address: DatabaseAddress, path: Path, listener: Callable[[object], None] = print) -> None:
    with address.connect() as conn:
        version = conn.info.server_version
    pg_dump, pg_restore = find_tool("pg_dump", version), find_tool("pg_restore", version)
    dump_database(
        Client("dump", address.environment()),
        address,
        path,
        pg_dump=pg_dump,
        methods=compression_methods(pg_dump, pg_restore),
        about={"of": "a test"},
        listener=listener,
    )


def restore(address: DatabaseAddress, path: Path, listener: Callable[[object], None] = print) -> None:
    with address.maintenance().connect() as conn:
        pg_restore = find_tool("pg_restore", conn.info.server_version)
    create_empty(address, encoding="UTF8", comment="")
    restore_dump(
        Client("restore", address.environment()),
        address,
        path,
        manifest=read_manifest(path),
        portable=Portability(left_out=(), in_the_way=(), objects=frozenset()),
        pg_restore=pg_restore,
        listener=listener,
    )


@pytest.mark.parametrize("megabytes", [2, 8])
def test_the_speed_of_a_link_is_measured_in_little_time(
    link: Callable[[float], Link], large: DatabaseAddress, megabytes: int
) -> None:
    slow = link(megabytes * MEGABYTE)
    began = time.monotonic()
    measured = measure_link(slow.address(large))
    assert 0.5 < measured / (megabytes * MEGABYTE) < 2
    assert time.monotonic() - began < 10
    assert slow.carried < sum(SAMPLES)


def test_a_dump_over_a_slow_link_is_packed_and_over_a_fast_one_is_not(
    link: Callable[[float], Link], large: DatabaseAddress, tmp_path: Path
) -> None:
    dump(link(6 * MEGABYTE).address(large), tmp_path / "slow")
    dump(large, tmp_path / "fast")
    slow, fast = read_manifest(tmp_path / "slow"), read_manifest(tmp_path / "fast")
    assert slow.compression.method != "none"
    assert fast.compression.method == "none"
    assert slow.bytes < fast.bytes / 2
    assert slow.compression.link_bytes_per_second is not None
    assert fast.compression.link_bytes_per_second is not None
    assert slow.compression.link_bytes_per_second < 20 * MEGABYTE < fast.compression.link_bytes_per_second
    for name in ("slow", "fast"):
        there = large.on(f"from {name}")
        restore(there, tmp_path / name)
        with there.connect() as conn:
            assert conn.execute("SELECT count(*), sum(length(text)) FROM large").fetchone() == (50000, 16000000)


def test_one_large_table_does_not_keep_the_log_silent(
    link: Callable[[float], Link], large: DatabaseAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_progress, "INTERVAL", 0.2)
    monkeypatch.setattr("airflow_migration.postgres.dump.SMALL", 10**12)  # not measured, so not packed
    heard: list[object] = []
    dump(link(8 * MEGABYTE).address(large), tmp_path / "dump", heard.append)
    restore(link(8 * MEGABYTE).address(large).on("in pieces"), tmp_path / "dump", heard.append)
    for what in ("Dump", "Restore"):
        shares = [one.done / one.total for one in heard if isinstance(one, Progress) and one.what == what and one.total]
        assert len([share for share in shares if 0.05 < share < 0.95]) >= 3, what
        assert shares == sorted(shares), what
        assert shares[-1] == 1, what


def test_a_dump_whose_connection_is_cut_is_made_anew(
    link: Callable[[float], Link], large: DatabaseAddress, tmp_path: Path
) -> None:
    breaking = link(50 * MEGABYTE)
    breaking.cut_after = sum(SAMPLES) + 2 * MEGABYTE
    path = tmp_path / "dump"
    with pytest.raises(ToolError) as caught:
        dump(breaking.address(large), path)
    assert caught.value.retryable
    assert list(tmp_path.iterdir()) == []
    dump(breaking.address(large), path)
    verify_dump(path, 2)


def test_a_restore_whose_connection_is_cut_is_made_anew(
    link: Callable[[float], Link], large: DatabaseAddress, tmp_path: Path
) -> None:
    dump(large, tmp_path / "dump")
    breaking = link(50 * MEGABYTE)
    there = breaking.address(large).on("cut in the middle")
    create_empty(there, encoding="UTF8", comment="")
    breaking.cut_after = breaking.carried + 4 * MEGABYTE
    with pytest.raises(ToolError) as caught:
        restore(there, tmp_path / "dump")
    assert caught.value.retryable
    discard_partial(there, print)
    restore(there, tmp_path / "dump")
    with there.connect() as conn:
        assert conn.execute("SELECT count(*) FROM large").fetchone() == (50000,)


ALONE = """
import os, sys
from pathlib import Path
from tests.integration.postgres.test_slow_link import dump, restore
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

host, port, user, database, path, what = sys.argv[1:]
address = DatabaseAddress(
    host=host, port=int(port), user=user, password=Secret(os.environ["PASSWORD"]), database=database
)
{"dump": dump, "restore": restore}[what](address, Path(path))
"""


def killed(address: DatabaseAddress, path: Path, what: str, when: Callable[[], bool]) -> None:
    """Does it in a process of its own, which is killed without a chance to tidy up."""
    arguments = [address.host, str(address.port), address.user, address.database, str(path), what]
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, *arguments],
        env={**os.environ, "PASSWORD": address.password.reveal(), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
    )

    def runs() -> None:
        assert process.poll() is None, "it ended by itself"

    try:
        until(when, pause=0.01, check=runs)
    finally:
        process.kill()
        process.wait()


def test_a_dump_killed_in_the_middle_is_made_anew_beside_what_it_left_running(
    link: Callable[[float], Link], large: DatabaseAddress, tmp_path: Path
) -> None:
    path = tmp_path / "dump"
    killed(link(6 * MEGABYTE).address(large), path, "dump", lambda: bool(list(tmp_path.glob("*.partial-*/*.dat*"))))
    assert not path.exists()
    dump(large, path)
    verify_dump(path, 2)


def test_a_restore_killed_in_the_middle_is_made_anew(
    link: Callable[[float], Link], large: DatabaseAddress, tmp_path: Path
) -> None:
    dump(large, tmp_path / "dump")
    there = large.on("killed in the middle")
    create_empty(there, encoding="UTF8", comment="")

    def loading() -> bool:
        query = "SELECT 1 FROM pg_stat_progress_copy WHERE datname = current_database()"
        with there.connect() as conn:
            return conn.execute(query).fetchone() is not None

    killed(link(6 * MEGABYTE).address(there), tmp_path / "dump", "restore", loading)
    discard_partial(there, print)
    restore(there, tmp_path / "dump")
    with there.connect() as conn:
        assert conn.execute("SELECT count(*) FROM large").fetchone() == (50000,)
