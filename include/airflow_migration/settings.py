"""What is true of the control Airflow, from section ``[airflow_migration]`` of its configuration."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from airflow.configuration import AIRFLOW_HOME
from airflow.providers.common.compat.sdk import conf

from airflow_migration.steps.migration import Workshop

SECTION = "airflow_migration"


@cache
def settings() -> Workshop:
    """The configuration, read once."""
    return Workshop(
        runtimes_path=Path(_place("runtimes_path")).expanduser(),
        dumps_path=Path(_place("dumps_path")).expanduser(),
        reports_path=_place("reports_path"),
        bin_path=_value("postgres_bin_path") or None,
    )


def rehearsal_schedule() -> str | None:
    """When `rehearse_migration` runs by itself, as ``schedule`` takes it; None is never."""
    return (conf.get(SECTION, "rehearsal_schedule", fallback="@weekly") or "").strip() or None


def notified_connections() -> list[str]:
    """Connections by which people are told of a run."""
    return _values("notify_conn_ids")


def notified_people() -> list[str]:
    """Addresses for the connections that send e-mail."""
    return _values("notify_emails")


def _values(option: str) -> list[str]:
    return [each.strip() for each in _value(option).split(",") if each.strip()]


def _place(option: str) -> str:
    return _value(option) or f"{AIRFLOW_HOME}/migration-{option.removesuffix('_path')}"


def _value(option: str) -> str:
    return (conf.get(SECTION, option, fallback="") or "").strip()
