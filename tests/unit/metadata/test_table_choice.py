"""Every table of every release is known: it travels, or there is a reason why not."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from airflow_migration.metadata.releases import release
from airflow_migration.metadata.table_choice import (
    HISTORY_TABLES,
    SETTING_TABLES,
    STAYING,
    TableChoice,
    default_tables,
)
from airflow_migration.metadata.users_schema import USER_TABLES

DATABASES = Path(__file__).parents[2] / "databases"
RELEASES = ("1.10.10", "1.10.15", "2.0.2", "2.2.5", "2.7.3", "2.10.5", "2.11.2", "3.0.6", "3.1.8", "3.3.2")
_TABLE = re.compile(r"^CREATE TABLE public\.(\w+)", re.M)
_KEY = re.compile(r"^ALTER TABLE ONLY public\.(\w+)\n.*FOREIGN KEY .* REFERENCES public\.(\w+)", re.M)


def read(version: str) -> str:
    return gzip.decompress((DATABASES / f"airflow-{version}.sql.gz").read_bytes()).decode(errors="replace")


@pytest.mark.parametrize("version", RELEASES)
def test_every_table_is_known_once(version: str) -> None:
    tables = set(_TABLE.findall(read(version)))
    travel = default_tables(tables, release(version).head)
    assert {"connection", "variable", "slot_pool", "dag", "dag_run", "task_instance", "xcom", "log", "job"} <= travel
    for table in tables - travel:
        assert table in STAYING or table.startswith("alembic_version"), table
    assert not travel & USER_TABLES
    assert not any(table.startswith("alembic_version") for table in travel)


@pytest.mark.parametrize("version", RELEASES)
def test_the_default_set_can_be_emptied_and_filled(version: str) -> None:
    text = read(version)
    tables = set(_TABLE.findall(text))
    travel = default_tables(tables, release(version).head)
    keys = {(child, parent) for child, parent in _KEY.findall(text) if child != parent}
    assert keys
    # What points at a table that travels would keep it from being emptied.
    assert {child for child, parent in keys if parent in travel} <= travel
    # Only authors of notes are named by what travels and stay behind.
    assert {(child, parent) for child, parent in keys if child in travel and parent not in travel} <= {
        ("dag_run_note", "ab_user"),
        ("task_instance_note", "ab_user"),
    }


@pytest.mark.parametrize(("version", "travels"), [("1.10.15", False), ("2.11.2", False), ("3.0.6", True)])
def test_serialized_dags_travel_where_runs_refer_to_them(version: str, travels: bool) -> None:
    chosen = default_tables({"serialized_dag", "dag_code", "dag_run"}, release(version).head)
    assert ("serialized_dag" in chosen) == ("dag_code" in chosen) == travels


@pytest.mark.parametrize(("version", "travels"), [("1.10.15", True), ("2.11.2", True), ("3.0.6", False)])
def test_a_table_that_3_reads_no_more_travels_before_it(version: str, travels: bool) -> None:
    assert ("sla_miss" in default_tables({"sla_miss"}, release(version).head)) == travels


def test_no_table_is_in_two_lists() -> None:
    assert not SETTING_TABLES & HISTORY_TABLES
    assert not (SETTING_TABLES | HISTORY_TABLES) & STAYING.keys()


def test_a_choice_goes_through_json() -> None:
    choice = TableChoice(travel=("dag", "dag_run"), added={"dag": "x"}, left_out={"b": "c"}, cleared={"d": ("e", "f")})
    data = {"travel": ["dag", "dag_run"], "added": {"dag": "x"}, "left_out": {"b": "c"}, "cleared": {"d": ["e", "f"]}}
    assert TableChoice.from_json(data) == choice
