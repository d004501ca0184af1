"""Find an interpreter on this machine that a given Airflow release runs on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import Release
from airflow_migration.postgres.address import clean_environment
from airflow_migration.runtimes.programs import find_program

# uv installs into 3.7 and newer; 1.10.15 was built with 3.7 and 3.8.
OLDEST = (3, 7)
# FAB's provider came to 3.13 late, and every release from 2.9 on was measured with this one.
FAVOURITE = "3.12"
ANSWER_TIMEOUT = 20
PROBE = "import sys; print('%d.%d' % sys.version_info[:2])"


def suitable_pythons(release: Release) -> tuple[str, ...]:
    """Minor versions to try for a release, best first.

    :raises InvalidInputError: it runs on Pythons only that no tool installs into any more
    """
    fit = [minor for minor in reversed(release.pythons) if _number(minor) >= OLDEST]
    if not fit:
        raise InvalidInputError(
            f"Airflow {release} runs on Python {', '.join(release.pythons)} only: too old to build for",
            where=f"runtime for Airflow {release}",
            remedy="Give the path of an existing environment with it in the connection's runtime",
        )
    return tuple(sorted(fit, key=lambda minor: minor != FAVOURITE))


def find_python(release: Release) -> tuple[str, Path] | None:
    """The best interpreter present: its minor version and its path."""
    for minor in suitable_pythons(release):
        for path in candidates(minor):
            if python_version(path) == minor:
                return minor, path
    return None


def candidates(minor: str) -> Iterator[Path]:
    """Where an interpreter may be, in the order of preference; not every one works."""
    name = f"python{minor}"
    if _number(minor) == sys.version_info[:2]:
        yield Path(sys.executable)
    on_path = [Path(folder) / name for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    managed = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    usual = [Path(folder) / name for folder in ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin", home / ".local/bin")]
    elsewhere = [
        path / "bin" / name
        for folder, pattern in (
            (pyenv, f"{minor}.*"),
            (managed, f"cpython-{minor}.*"),
            (Path("/opt/python"), f"{minor}.*"),
        )
        for path in sorted(folder.glob(pattern), reverse=True)
    ]
    yield from (path for path in [*on_path, *elsewhere, *usual] if path.exists())


def python_version(path: Path) -> str | None:
    """The interpreter's minor version; None when it does not start (pyenv's shims of absent versions)."""
    try:
        done = subprocess.run(
            [path, "-c", PROBE],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def find_uv() -> Path:
    """The uv that came with this package, else one on PATH.

    :raises InvalidInputError: there is none
    """
    return find_program(
        "uv",
        what="builds the environments of other Airflow releases",
        where="runtime",
        remedy="Install the Python package uv beside this one, or give existing environments",
    )


def _number(minor: str) -> tuple[int, ...]:
    return tuple(map(int, minor.split(".")))
