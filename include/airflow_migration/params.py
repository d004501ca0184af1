"""Params that more than one of the DAGs has: one schema and one title, with what each DAG says of them."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from airflow_migration.metadata.repairs.registry import REPAIRS
from airflow_migration.planning import cron_timetables
from airflow_migration.planning.keys import FERNET, SWAP
from airflow_migration.planning.options import LONGEST
from airflow_migration.planning.repairs import ALL, SAFE

WHERE, HOW = "Where", "How"
"""Sections of the trigger form."""


def source_conn_id(fate: str) -> Param:
    """:param fate: what becomes of the source, as the end of a sentence"""
    return _conn_id("source", fate)


def target_conn_id(fate: str) -> Param:
    """:param fate: likewise, of the target"""
    return _conn_id("target", fate)


def _conn_id(side: str, fate: str) -> Param:
    return Param(
        f"migration_{side}",
        type="string",
        minLength=1,
        title=f"{side.capitalize()} connection",
        description=f"Connection of type airflow_deployment to the deployment that {fate}",
        section=WHERE,
    )


def target_database(description: str) -> Param:
    return Param(
        None,
        type=["null", "string"],
        minLength=1,
        maxLength=63,
        title="Target database",
        description=description,
        section=WHERE,
    )


def transfer(choices: tuple[str, ...], description: str) -> Param:
    return Param("auto", enum=list(choices), title="Transfer", description=description, section=HOW)


def fernet(description: str) -> Param:
    return Param(SWAP, enum=list(FERNET), title="Fernet key", description=description, section=HOW)


def history_days(description: str) -> Param:
    return Param(
        None,
        type=["null", "integer"],
        minimum=0,
        maximum=LONGEST,
        title="Days of history",
        description=description,
        section=HOW,
    )


def repairs(**description: Any) -> Param:
    """:param description: as ``description``, or as ``description_md``"""
    return Param(
        SAFE,
        anyOf=[
            {"type": "string", "enum": [SAFE, ALL]},
            {"type": "array", "items": {"type": "string", "enum": list(REPAIRS)}},
        ],
        title="Repairs",
        section=HOW,
        **description,
    )


def cron_timetable(description: str) -> Param:
    return Param(
        cron_timetables.DATA_INTERVAL,
        enum=list(cron_timetables.CHOICES),
        title="Logical dates",
        description=description,
        section=HOW,
    )


def require_approval(description: str) -> Param:
    return Param(True, type="boolean", title="Approval", description=description, section=HOW)
