"""How long a database takes to another server, beside `pg_dump | psql` by hand: one after the other, in one run.

    .venv/bin/python -m benchmarks.dump --task-instances 300000

Takes the database that 2.10.5 has written, fills it, and carries it to a second server: by a pipe without a file, and
by this package's dump with its manifest and restore with its checks. Statistics are gathered in both.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from benchmarks.preflight import make_source
from benchmarks.two_servers import size_arguments, two_servers
from tests.conftest import run_on

from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from airflow_migration.postgres.databases import describe_server
from airflow_migration.postgres.dump import dump_database
from airflow_migration.postgres.manifest import read_manifest, verify_dump
from airflow_migration.postgres.portability import compare, read_abilities
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.restore import create_empty, restore_dump
from airflow_migration.postgres.tools import compression_methods, find_tool


def main() -> None:
    given = size_arguments(__doc__).parse_args()
    with two_servers() as (old, new, folder):
        source = make_source(old, "2.10.5", given.task_instances, given.xcoms)
        print(json.dumps(measure(source, new, folder), indent=2))


def measure(source: DatabaseAddress, server: DatabaseAddress, folder: Path) -> dict[str, object]:
    """Seconds of both ways, and the ratio."""
    with source.connect() as conn, server.connect() as other:
        version = max(describe_server(conn).version, describe_server(other).version)
    piped = by_hand(source, server, version)
    dumped, verified, restored = by_package(source, server, version, folder / "dump")
    manifest = read_manifest(folder / "dump")
    return {
        "table_bytes": manifest.table_bytes,
        "dump_bytes": manifest.bytes,
        "compression": manifest.compression.method,
        "link_bytes_per_second": manifest.compression.link_bytes_per_second,
        "seconds": {
            "pg_dump | psql": round(piped, 1),
            "dump with manifest": round(dumped, 1),
            "verify": round(verified, 1),
            "restore": round(restored, 1),
        },
        "dump, verify and restore, of the pipe": round((dumped + verified + restored) / piped, 3),
    }


def by_hand(source: DatabaseAddress, server: DatabaseAddress, version: int) -> float:
    run_on(server, "CREATE DATABASE {} TEMPLATE template0", "piped")
    there = server.on("piped")
    began = time.monotonic()
    writer = subprocess.Popen(
        [find_tool("pg_dump", version)], env=clean_environment() | source.environment(), stdout=subprocess.PIPE
    )
    subprocess.run(
        [find_tool("psql", version), "-X", "-q", "-v", "ON_ERROR_STOP=1"],
        env=clean_environment() | there.environment(),
        stdin=writer.stdout,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    if writer.wait():
        raise SystemExit("pg_dump failed")
    run_on(there, "ANALYZE")
    return time.monotonic() - began


def by_package(
    source: DatabaseAddress, server: DatabaseAddress, version: int, path: Path
) -> tuple[float, float, float]:
    """Seconds of the dump, of reading it through, and of the restore."""
    there = server.on("restored")
    pg_dump, pg_restore = find_tool("pg_dump", version), find_tool("pg_restore", version)
    began = time.monotonic()
    dump_database(
        Client("dump", source.environment()),
        source,
        path,
        pg_dump=pg_dump,
        methods=compression_methods(pg_dump, pg_restore),
        about={},
        listener=lambda message: None,
    )
    dumped = time.monotonic()
    manifest = verify_dump(path, 2)
    verified = time.monotonic()
    create_empty(there, encoding=manifest.encoding, comment="")
    with source.connect() as conn, server.connect() as other:
        portable = compare(conn, read_abilities(other))
    restore_dump(
        Client("restore", there.environment()),
        there,
        path,
        manifest=manifest,
        portable=portable,
        pg_restore=pg_restore,
        listener=lambda message: None,
    )
    return dumped - began, verified - dumped, time.monotonic() - verified


if __name__ == "__main__":
    main()
