"""The home of a command is private while it runs, and is removed by whoever comes later if a kill left it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import airflow_migration
from airflow_migration.runtimes.home import own_home

HOLD = "from airflow_migration.runtimes.home import own_home\nwith own_home() as home: print(home, flush=True); input()"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process with a home of its own."""
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(Path(airflow_migration.__file__).parents[1])}
    argv = [sys.executable, "-c", HOLD]
    return subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_home_is_private_and_goes_away(folder: Path) -> None:
    with own_home() as home:
        assert stat.S_IMODE(home.stat().st_mode) == stat.S_IRWXU
        assert [path.name for path in home.iterdir()] == ["dags"]
    assert [*folder.iterdir()] == []


def test_only_homes_of_the_dead_are_removed(folder: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdout
    other = Path(holder.stdout.readline().strip())
    try:
        with own_home():
            assert other.is_dir()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert other.is_dir()
    with own_home() as home:
        assert not other.exists()
        assert home.is_dir()


def test_what_is_not_ours_stays(folder: Path) -> None:
    others = [folder / name for name in ("airflow-migration-tests-x", "airflow-migration-00000000-1-x", "another")]
    for path in others:
        path.mkdir()
    with own_home():
        assert all(path.is_dir() for path in others)
