"""Users of the source log in at a target that keeps FAB's users, on its real API server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.polling import until

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.planning.users_and_roles import FAB
from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from airflow_migration.secret import Secret
from demo.control import stop_group
from demo.ports import free_ports

START_SECONDS = 300.0
# What FAB's reset_password of each line writes, by its own werkzeug (1.10.15: 0.16, 2.10.5: 2.2).
METHODS = {"1.10.15": "pbkdf2:sha256:150000", "2.10.5": "pbkdf2:sha256:260000"}
HASH = "import sys; from werkzeug.security import generate_password_hash as h; print(h(sys.stdin.read(), sys.argv[1]))"
PEOPLE = {"anna": "Admin", "vera": "Viewer"}


@pytest.mark.parametrize("release", METHODS)
def test_users_of_the_source_log_in_at_the_target_as_what_they_were(
    release: str,
    connect: Any,
    new_run: Any,
    migrate: Callable[[Any], dict[str, Any]],
    corpus: Any,
    fernet_key: Secret,
    target_env: Path,
    tmp_path: Path,
    runtimes: Any,
) -> None:
    environments = {each: runtimes.prepare(each, lambda line: None) for each in ("2.11.2", "3.3.2")}
    source: DatabaseAddress = corpus(release)
    employ(source, METHODS[release], environments["2.11.2"] / "bin" / "python")
    target = source.on(f"users of {release}")
    with target_env.open("a") as file:
        file.write(f"AIRFLOW__CORE__AUTH_MANAGER={FAB}\n")
        file.write(f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN={url(target)}\n")
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    connect(
        "migration_target",
        target,
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": {name: str(path) for name, path in environments.items()}},
    )
    done = migrate(new_run(backup=False, fence_source=False))
    assert done["verify"]["verified"] is True
    assert done["upgrade_2" if release.startswith("1.") else "upgrade_1"]["fab_head"]

    with api_server(environments["3.3.2"], target_env, tmp_path / "target") as address:
        answers = {}
        for name in PEOPLE:
            assert log_in(address, name, "wrong").status_code == httpx.codes.UNAUTHORIZED
            token = log_in(address, name, f"{name}'s own").json()["access_token"]
            for path in ("dags", "assets", "connections"):
                answer = httpx.get(f"{address}/api/v2/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=60)
                answers[name, path] = answer.status_code
    assert answers == {
        ("anna", "dags"): 200,
        ("anna", "assets"): 200,
        ("anna", "connections"): 200,
        ("vera", "dags"): 200,
        ("vera", "assets"): 200,
        ("vera", "connections"): 403,
    }


def employ(source: DatabaseAddress, method: str, python: Path) -> None:
    """Add users with roles, by hand: with ids that no sequence knows of, as restored databases have them."""
    with source.connect(read_only=False) as session:
        for name, role in PEOPLE.items():
            hashed = subprocess.run(
                [python, "-c", HASH, method], input=f"{name}'s own", capture_output=True, text=True, check=True
            ).stdout.strip()
            session.execute(
                "INSERT INTO ab_role (id, name) SELECT max(id) + 1, %(role)s::text FROM ab_role"
                " HAVING bool_and(name <> %(role)s::text)",
                {"role": role},
            )
            session.execute(
                "INSERT INTO ab_user (id, first_name, last_name, username, password, active, email)"
                " SELECT max(id) + 1, 'A', 'B', %s, %s, true, %s FROM ab_user",
                (name, hashed, f"{name}@example.com"),
            )
            session.execute(
                "INSERT INTO ab_user_role (id, user_id, role_id) SELECT (SELECT max(id) + 1 FROM ab_user_role),"
                " u.id, r.id FROM ab_user u, ab_role r WHERE u.username = %s AND r.name = %s",
                (name, role),
            )


def url(address: DatabaseAddress) -> str:
    login = f"{quote(address.user, safe='')}:{quote(address.password.reveal(), safe='')}"
    return f"postgresql+psycopg2://{login}@{address.host}:{address.port}/{address.database}"


def log_in(address: str, name: str, password: str) -> httpx.Response:
    return httpx.post(f"{address}/auth/token", json={"username": name, "password": password}, timeout=60)


@contextmanager
def api_server(environment: Path, settings: Path, home: Path) -> Iterator[str]:
    """The target's own API server with the settings that the migration has left."""
    file, (port,) = EnvFile(str(settings)), free_ports(1)
    names = ("CORE__FERNET_KEY", "CORE__AUTH_MANAGER", "DATABASE__SQL_ALCHEMY_CONN")
    home.mkdir()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [environment / "bin" / "airflow", "api-server"],
            env=clean_environment()
            | {f"AIRFLOW__{name}": str(file.get(f"AIRFLOW__{name}")) for name in names}
            | {
                "AIRFLOW_HOME": str(home),
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(port),
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            },
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_is_healthy(f"{address}/api/v2/monitor/health", process, home / "log")
        yield address
    finally:
        stop_group(process.pid)


def wait_until_it_is_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_healthy() -> bool:
        try:
            return httpx.get(address, timeout=10).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def told() -> str:
        return f"the target's API server does not answer:\n{log.read_text()[-3000:]}"

    def runs() -> None:
        assert process.poll() is None, told()

    until(is_healthy, seconds=START_SECONDS, pause=0.2, check=runs, told=told)
