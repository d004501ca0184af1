"""Rows alone go from a database of one encoding into tables of another server, and the manifest says whose they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.dump_directory import DumpResult
from airflow_migration.postgres.manifest import DamagedDumpError, Manifest, read_manifest
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.restore import create_empty
from airflow_migration.postgres.table_dump import dump_tables, load_part
from airflow_migration.postgres.tools import find_tool

TABLES = """
CREATE TABLE words (id int PRIMARY KEY, word text, length int GENERATED ALWAYS AS (length(word)) STORED);
CREATE TABLE "By % year" (year int, "Größe" text) PARTITION BY LIST (year);
CREATE TABLE y1 PARTITION OF "By % year" FOR VALUES IN (1);
CREATE TABLE y2 ("Größe" text, year int);
ALTER TABLE "By % year" ATTACH PARTITION y2 FOR VALUES IN (2);
CREATE TABLE apart (id int)
"""
ROWS = """
INSERT INTO words SELECT n, 'Zürich ' || n FROM generate_series(1, 2000) n;
INSERT INTO "By % year" VALUES (1, 'ä'), (2, 'ö'), (2, NULL);
INSERT INTO apart VALUES (1)
"""
ABOUT = {"migration": "run 1"}
numbers = itertools.count(1)
Dump = Callable[[], DumpResult]


def ignore(_: object) -> None:
    pass


@pytest.fixture
def source(postgres_server: DatabaseAddress) -> DatabaseAddress:
    address = postgres_server.on(f"latin rows {next(numbers)}")
    create_empty(address, encoding="LATIN1", comment="")
    with address.connect(read_only=False) as conn:
        conn.execute(TABLES + ";" + ROWS)
    return address


@pytest.fixture
def dump(source: DatabaseAddress, tmp_path: Path) -> Dump:
    """Dumps two of the tables."""
    with source.connect() as conn:
        version = conn.info.server_version
    programs = find_tool("pg_dump", version), find_tool("pg_restore", version)

    def run() -> DumpResult:
        return dump_tables(
            Client("dump", source.environment()),
            source,
            tmp_path / "dump",
            tables=("words", "By % year"),
            programs=programs,
            about=ABOUT,
            listener=ignore,
        )

    return run


def load(address: DatabaseAddress, path: Path, manifest: Manifest) -> dict[str, int]:
    """Rows by table."""
    loaded: dict[str, int] = {}
    with address.connect(read_only=False) as conn:
        for part in manifest.parts:
            assert part.table is not None
            rows = load_part(conn, path, part, on_bytes=ignore)
            loaded[part.table] = loaded.get(part.table, 0) + rows
    return loaded


def content(address: DatabaseAddress) -> list[object]:
    with address.connect() as conn:
        return [
            conn.execute(sql.SQL("SELECT * FROM {} ORDER BY 1, 2").format(sql.Identifier(table))).fetchall()
            for table in ("words", "By % year")
        ]


def test_rows_of_latin1_and_of_partitions_arrive(
    source: DatabaseAddress, newer_server: DatabaseAddress, dump: Dump, tmp_path: Path
) -> None:
    result = dump()
    manifest = read_manifest(tmp_path / "dump")
    assert (result.jobs, result.compression.method) == (manifest.jobs, "none")
    assert (manifest.encoding, manifest.database_encoding, manifest.about) == ("UTF8", "LATIN1", ABOUT)
    assert sorted((str(part.table), part.columns) for part in manifest.parts) == [
        ("By % year", ("Größe", "year")),
        ("By % year", ("year", "Größe")),
        ("words", ("id", "word")),
    ]
    there = newer_server.on(source.database)
    create_empty(there, encoding="UTF8", comment="")
    with there.connect(read_only=False) as conn:
        conn.execute(TABLES)
    assert load(there, tmp_path / "dump", manifest) == {"words": 2000, "By % year": 3}
    assert content(there) == content(source)
    with there.connect() as conn:
        assert conn.execute("SELECT count(*) FROM apart").fetchone() == (0,)


def test_a_file_that_is_cut_while_it_is_loaded_loads_nothing(
    source: DatabaseAddress, dump: Dump, tmp_path: Path
) -> None:
    dump()
    manifest = read_manifest(tmp_path / "dump")
    with source.connect(read_only=False) as conn:
        conn.execute('TRUNCATE words, "By % year"')
    path = tmp_path / "dump" / next(part.name for part in manifest.parts if part.table == "words")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:100]))  # at the end of a row, so that Postgres sees nothing wrong
    with pytest.raises(DamagedDumpError, match=path.name):
        load(source, tmp_path / "dump", manifest)
    assert content(source) == [[], []]
