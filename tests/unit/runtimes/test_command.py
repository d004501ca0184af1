"""Each release is called in its own words, with an environment that nothing leaks into."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.build import requirements, resolve_date
from airflow_migration.runtimes.command import (
    airflow_environment,
    upgrade_command,
    upgrade_options,
)
from airflow_migration.runtimes.pythons import suitable_pythons
from airflow_migration.secret import Secret

ADDRESS = DatabaseAddress(host="db", user="me", password=Secret("pass word"), database="airflow", schema='a"b c\\d')


@pytest.mark.parametrize(
    ("version", "command"),
    [
        ("1.10.15", "upgradedb"),
        ("2.0.2", "db upgrade"),
        ("2.6.3", "db upgrade"),
        ("2.7.0", "db migrate"),
        ("3.3.2", "db migrate"),
    ],
)
def test_the_upgrade_command_of_each_line(version: str, command: str) -> None:
    assert " ".join(upgrade_command(release(version))) == command


def test_options_are_those_that_the_help_lists() -> None:
    assert upgrade_options("  --no-reserialize-dags  -y, --yes   Do not prompt") == (
        "--no-reserialize-dags",
        "--yes",
    )
    assert upgrade_options("  --to-version  -v, --verbose") == ()


@pytest.mark.parametrize(("version", "section"), [("2.2.5", "CORE"), ("2.3.0", "DATABASE"), ("3.3.2", "DATABASE")])
def test_no_secret_is_in_the_url_and_settings_cannot_point_elsewhere(version: str, section: str) -> None:
    settings = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": "echo else", "AIRFLOW__CORE__AUTH_MANAGER": "x.Y"}
    made = airflow_environment(release(version), Path("/home"), ADDRESS, Secret("k1,k2"), settings)
    assert "pass" not in made[f"AIRFLOW__{section}__SQL_ALCHEMY_CONN"]
    assert made["PGPASSWORD"] == "pass word"
    assert made["AIRFLOW__CORE__FERNET_KEY"] == "k1,k2"
    assert made["AIRFLOW__CORE__AUTH_MANAGER"] == "x.Y"
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD" not in made


def test_without_a_key_airflow_is_told_that_there_is_none() -> None:
    assert (
        airflow_environment(release("1.10.15"), Path("/"), ADDRESS, Secret(""), {})["AIRFLOW__CORE__FERNET_KEY"] == ""
    )


def test_a_setting_that_is_no_airflow_variable_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        airflow_environment(release("3.3.2"), Path("/"), ADDRESS, Secret(""), {"PATH": "/tmp"})


def test_bounds_that_old_and_new_releases_need() -> None:
    assert "sqlalchemy<1.4" in requirements(release("1.10.15"))
    assert "sqlalchemy<2.1" in requirements(release("3.3.2"))
    assert requirements(release("2.11.2")) == ("apache-airflow[postgres]==2.11.2",)
    assert resolve_date(release("2.10.5")) == "2025-02-20"


def test_pythons_are_tried_in_order_and_too_old_ones_refused() -> None:
    assert suitable_pythons(release("3.3.2"))[0] == "3.12"
    assert suitable_pythons(release("1.10.15")) == ("3.8", "3.7")
    with pytest.raises(InvalidInputError):
        suitable_pythons(release("1.10.2"))
