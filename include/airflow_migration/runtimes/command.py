"""How each release's `airflow` is called: its upgrade command and an environment made from nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import Release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

# libpq takes everything from its PG* variables: names that a URL cannot hold work, and no secret is in it.
URL = "postgresql+psycopg2:///"
QUIET = {f"AIRFLOW__{section}__LOGGING_LEVEL": "ERROR" for section in ("CORE", "LOGGING")}
"""Settings for a command whose output is read by a program."""
UPGRADE_OPTIONS = ("--no-reserialize-dags", "--yes")
SETTING = re.compile(r"AIRFLOW__[A-Z0-9_]+__[A-Z0-9_]+")
OURS = re.compile(r"AIRFLOW__\w+__(SQL_ALCHEMY_CONN|SQL_ALCHEMY_SCHEMA|FERNET_KEY|DAGS_FOLDER|PLUGINS_FOLDER)\w*")
SECRETIVE = re.compile(r"SECRET|PASSWORD|TOKEN|KEY|CONN|URI|URL|BACKEND", re.I)


def upgrade_command(release: Release) -> tuple[str, ...]:
    """The command that brings the database to this release's head (``airflow/cli`` of each line)."""
    if release.number < (2,):
        return ("upgradedb",)
    return ("db", "upgrade") if release.number < (2, 7) else ("db", "migrate")


def upgrade_options(help_text: str) -> tuple[str, ...]:
    """The options that keep an upgrade from asking and from running DAG code, where the release has them.

    The help decides: 2.11.2's ``db migrate`` has no ``--no-reserialize-dags`` any more.
    """
    return tuple(option for option in UPGRADE_OPTIONS if re.search(rf"{option}\b", help_text))


def bare_environment(home: Path) -> dict[str, str]:
    """For commands that need no database."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "ignore",
        "TERM": "dumb",
        "COLUMNS": "200",
    }


def airflow_environment(
    release: Release, home: Path, address: DatabaseAddress, keys: Secret, settings: Mapping[str, str]
) -> dict[str, str]:
    """For commands on a database, secrets included: never for a log.

    :param home: a folder of this run's own, with an empty ``dags`` in it
    :param keys: fernet keys, newest first; empty for none (left out, Airflow would make one up)
    :param settings: more ``AIRFLOW__…`` variables; the database, the key and the folders stay ours
    :raises InvalidInputError: a setting is no Airflow variable
    """
    for name in settings:
        if not SETTING.fullmatch(name):
            raise InvalidInputError(
                f"{name!r} is not the name of an Airflow setting",
                where="runtime settings",
                remedy="Name settings AIRFLOW__SECTION__OPTION",
            )
    section = _database_section(release)
    environment = bare_environment(home) | address.environment()
    environment |= {name: value for name, value in settings.items() if not OURS.fullmatch(name)}
    environment |= {
        f"AIRFLOW__{section}__SQL_ALCHEMY_CONN": URL,
        f"AIRFLOW__{section}__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__CORE__FERNET_KEY": keys.reveal(),
    }
    return environment


def _database_section(release: Release) -> str:
    return "CORE" if release.number < (2, 3) else "DATABASE"


def script_environment(release: Release, home: Path) -> dict[str, str]:
    """For code that must reach neither a database of ours nor the home of who runs the migration."""
    section = _database_section(release)
    return bare_environment(home) | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        f"AIRFLOW__{section}__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'nothing.db'}",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": "30",
    }


def secret_values(address: DatabaseAddress, keys: Secret, settings: Mapping[str, str]) -> list[str]:
    """What must not be seen in the output of a command with this environment."""
    password = address.password.reveal()
    fernet = [key.strip() for key in keys.reveal().split(",")]
    return [password, *fernet, *(value for name, value in settings.items() if SECRETIVE.search(name))]
