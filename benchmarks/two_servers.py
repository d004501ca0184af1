"""Two servers of one machine, of its oldest and its newest major version, for what is copied between them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.tools import program_folders, program_version
from demo.server import EmbeddedServer


@contextmanager
def two_servers(
    newer_settings: Mapping[str, str] | None = None,
) -> Iterator[tuple[DatabaseAddress, DatabaseAddress, Path]]:
    """The older, the newer, and a folder that goes with them.

    :param newer_settings: of the newer server alone
    """
    folders = [folder for folder in program_folders() if (folder / "initdb").exists()]
    folders.sort(key=lambda folder: program_version(folder / "postgres") or 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = EmbeddedServer(folder / "old", programs=folders[0])
        new = EmbeddedServer(folder / "new", programs=folders[-1], settings=newer_settings)
        try:
            yield old.start(), new.start(), folder
        finally:
            old.remove()
            new.remove()


def size_arguments(description: str | None) -> argparse.ArgumentParser:
    """A command line with the size of the source."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task-instances", type=int, default=300_000)
    parser.add_argument("--xcoms", type=int, default=100_000)
    return parser
