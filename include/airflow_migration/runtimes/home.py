"""An AIRFLOW_HOME for one command of another release, and the removal of those that a kill has left."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = "airflow-migration"


@contextmanager
def own_home() -> Iterator[Path]:
    """A folder that we alone can read, with an empty ``dags`` in it; gone afterwards.

    It is named for this process, so that a later one knows when nobody is left to remove it.
    """
    remove_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-{_machine()}-{os.getpid()}-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        (home / "dags").mkdir()
        yield home


def remove_leftovers() -> None:
    """Remove the homes of processes of this user and machine that live no more."""
    for path in Path(tempfile.gettempdir()).glob(f"{NAME}-{_machine()}-*-*"):
        pid = path.name.split("-")[3]
        with suppress(FileNotFoundError):
            if pid.isdigit() and not _lives(int(pid)) and path.lstat().st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)


def _machine() -> str:
    """Containers may share a folder for temporary files, and each counts its processes from 1."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
