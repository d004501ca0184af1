"""A pooler in front of a server is recognised, whatever its mode, and left as it was found."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.polling import until

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from demo.ports import free_ports
from demo.server import Account

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no PgBouncer (Debian: apt-get install pgbouncer)")
NewPool = Callable[..., DatabaseAddress]


def write_settings(folder: Path, server: DatabaseAddress, databases: str, port: int, mode: str) -> Path:
    users, settings = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{server.user}" "{server.password.reveal()}"\n')
    settings.write_text(
        f"[databases]\n{databases} = host={server.host} port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = {mode}\ndefault_pool_size = 1\n"
    )
    return settings


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["session", "transaction"])
def pooled(request: pytest.FixtureRequest, postgres_server: DatabaseAddress) -> Iterator[NewPool]:
    """Puts a real PgBouncer in front of the server, for all databases or some."""
    assert PROGRAM is not None
    account, folders, running = Account.choose(), list[Path](), list[subprocess.Popen[bytes]]()

    def start(databases: str = "*") -> DatabaseAddress:
        folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        folders.append(folder)
        (port,) = free_ports(1)
        settings = write_settings(folder, postgres_server, databases, port, request.param)
        account.own(folder)
        process = subprocess.Popen(
            [PROGRAM, "--quiet", settings], cwd="/", stderr=subprocess.DEVNULL, **account.arguments()
        )
        running.append(process)

        def runs() -> None:
            assert process.poll() is None, "PgBouncer ended"

        until(lambda: answers(port), check=runs)
        return replace(postgres_server, port=port)

    yield start
    for process in running:
        process.terminate()
        process.wait()
    for folder in folders:
        shutil.rmtree(folder)


def test_no_session_is_opened_and_no_setting_is_left_in_the_pool(
    pooled: NewPool, new_database: Callable[..., DatabaseAddress]
) -> None:
    address = replace(pooled(), database=new_database().database)
    with pytest.raises(InvalidInputError, match="direct address"):
        address.connect()
    with psycopg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password.reveal(),
        dbname=address.database,
    ) as client:
        settings = client.execute(
            "SELECT current_setting('search_path'), current_setting('default_transaction_read_only')"
        )
        assert settings.fetchone() == ('"$user", public', "off")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_pooler_on_either_side_is_refused_before_anything_is_touched(
    pooled: NewPool,
    corpus: Callable[[str], DatabaseAddress],
    deployment: Callable[..., Deployment],
    plan_for: Callable[..., Plan],
    fernet_key: Secret,
    side: str,
) -> None:
    source = corpus("2.10.5")
    target, pooler = source.on("the target"), pooled()
    source, target = (
        replace(each, port=pooler.port) if name == side else each
        for name, each in (("source", source), ("target", target))
    )
    with pytest.raises(InvalidInputError, match="PgBouncer") as caught:
        plan_for(deployment(source, fernet_keys=fernet_key), deployment(target))
    assert str(pooler.port) in str(caught.value)
    assert "direct address" in caught.value.remedy


def test_a_pooler_that_does_not_know_the_maintenance_database_is_no_riddle(
    pooled: NewPool,
) -> None:
    address = pooled("only_this")
    with pytest.raises(InvalidInputError, match="PgBouncer"):
        address.maintenance().connect()
