"""The demo's two deployments: an old one with data, and the settings of a new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.fernet import Fernet

from airflow_migration.postgres.address import DatabaseAddress

TARGET_DATABASE = "airflow_3"
TARGET_RELEASE = "3.3.2"
FACTS = Path(__file__).parent / "source" / "facts.json"


def write_target(folder: Path, server: DatabaseAddress) -> Path:
    """The new deployment's environment file, as its installer would leave it: with a key of its own."""
    folder.mkdir(parents=True, mode=0o700)
    path = folder / "airflow.env"
    path.touch(mode=0o600)
    login = f"{quote(server.user, safe='')}:{quote(server.password.reveal(), safe='')}"
    path.write_text(
        "# Settings of the new Airflow\n"
        f"AIRFLOW__CORE__FERNET_KEY={Fernet.generate_key().decode()}\n"
        f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://{login}@{server.host}:{server.port}/{TARGET_DATABASE}\n"
        "AIRFLOW__CORE__LOAD_EXAMPLES=False\n"
    )
    return path


def connections(source: DatabaseAddress, target_file: Path) -> list[dict[str, Any]]:
    """Both connections, as the REST API takes them."""
    key = json.loads(FACTS.read_text())["fernet_key"]
    common = {
        "conn_type": "airflow_deployment",
        "host": source.host,
        "port": source.port,
        "login": source.user,
        "password": source.password.reveal(),
    }
    return [
        common
        | {
            "connection_id": "migration_source",
            "schema": source.database,
            "extra": json.dumps({"secret_fernet_key": key, "airflow_version": "1.10.15"}),
        },
        common
        | {
            "connection_id": "migration_target",
            "schema": TARGET_DATABASE,
            "extra": json.dumps(
                {"airflow_version": TARGET_RELEASE, "control": {"kind": "env_file", "path": str(target_file)}}
            ),
        },
    ]
