"""Build the environment of an Airflow release with uv, once, whoever else wants it too."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path

from airflow_migration.exceptions import InvalidInputError, ToolError
from airflow_migration.metadata.releases import Release, newest
from airflow_migration.postgres.process import TAIL_LINES, Client
from airflow_migration.progress import Listener
from airflow_migration.runtimes.pythons import find_uv
from airflow_migration.runtimes.redaction import Redactor

# Providers that a release names appear with it or a little later: 2.11.2's were there after six days.
DAYS_AFTER_RELEASE = 10
INHERITED = re.compile(
    r"(UV|PIP)_\w+|\w+_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NETRC|XDG_\w+", re.I
)


def requirements(release: Release) -> tuple[str, ...]:
    """What to install; the bounds are those that the release's own metadata lacks, measured by installing."""
    extras = "postgres,crypto,password" if release.number < (2,) else "postgres"
    specs = [f"apache-airflow[{extras}]=={release}"]
    if release.number < (2, 2):
        specs.append("sqlalchemy<1.4")
    if release.number >= (3,):
        # With 2.1 the FAB provider fails to import; `db migrate` then says done without FAB's tables (3.3.2).
        specs += ["apache-airflow-providers-fab", "sqlalchemy<2.1"]
    return tuple(specs)


def resolve_date(release: Release) -> str | None:
    """The day whose package index the release is resolved against; None, today, for the newest."""
    if release == newest():
        return None
    return (date.fromisoformat(release.released) + timedelta(days=DAYS_AFTER_RELEASE)).isoformat()


def build(release: Release, python: Path | str, path: Path, client: Client, listener: Listener) -> None:
    """Make the environment appear at `path`, whole or not at all.

    :param python: interpreter, or a minor version for uv to fetch
    :param path: final place; another process that builds the same is waited for
    :raises InvalidInputError: uv cannot get the interpreter
    :raises ToolError: the index does not answer or cannot satisfy the requirements
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _only_builder(path, listener):
        if environment_at(path):
            return
        shutil.rmtree(path, ignore_errors=True)
        _remove_leftovers(path)
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        try:
            _install(release, python, partial, client, listener)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def environment_at(path: Path) -> bool:
    """Whether a finished environment is there whose interpreter still exists."""
    return (path / "bin" / "airflow").exists() and (path / "bin" / "python").exists()


def build_environment() -> dict[str, str]:
    """Where the caller's package index, proxy and certificates are."""
    return {name: value for name, value in os.environ.items() if INHERITED.fullmatch(name)}


def _install(release: Release, python: Path | str, path: Path, client: Client, listener: Listener) -> None:
    uv, where = find_uv(), f"runtime for Airflow {release}"
    listener(f"Building Airflow {release} with Python {python}")
    # Relocatable, as it is renamed when finished.
    code, tail = _uv(client, listener, [uv, "venv", "--relocatable", "--no-project", "--python", python, path])
    if code:
        raise InvalidInputError(
            f"Airflow {release} runs on Python {', '.join(release.pythons)}; none of those is on this "
            f"machine and uv could not make an environment with {python}: {tail}",
            where=where,
            remedy="Install one of them (pyenv, a system package, `uv python install`), or give the path of "
            "an existing environment in the connection's runtime",
        )
    argv: list[str | Path] = [uv, "pip", "install", "--python", path / "bin" / "python"]
    day = resolve_date(release)
    argv += ["--exclude-newer", day] if day else []
    code, tail = _uv(client, listener, [*argv, *requirements(release)])
    if code:
        raise ToolError(
            f"uv could not install {' '.join(requirements(release))} as of {day or 'today'}: {tail}",
            where=where,
            remedy="Check index, proxy and certificates (UV_*, PIP_*, HTTPS_PROXY, SSL_CERT_FILE; "
            "it must tell upload dates), or give the path of an existing environment in the runtime",
        )


def _uv(client: Client, listener: Listener, argv: list[str | Path]) -> tuple[int, str]:
    redactor, tail = Redactor([]), deque[str](maxlen=TAIL_LINES)

    def on_line(line: str) -> None:
        tail.append(redactor.clean(line).strip())
        listener(tail[-1])

    code = client.run(argv, on_line, check=False)
    return code, " | ".join(filter(None, tail))


def _remove_leftovers(path: Path) -> None:
    """Delete what builders left that were killed; who still builds holds the lock of that name."""
    for partial in path.parent.glob("*.partial-*"):
        name = partial.name.partition(".partial-")[0]
        if name == path.name:
            shutil.rmtree(partial, ignore_errors=True)
            continue
        with _lock_file(path.with_name(name)).open("w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial, ignore_errors=True)


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@contextmanager
def _only_builder(path: Path, listener: Listener) -> Iterator[None]:
    with _lock_file(path).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            listener(f"Another process builds {path.name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
