"""Params of a run: what does not work is refused, not ignored."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.planning.options import Options


def read(**params: Any) -> Options:
    return Options.from_params(params, list(params))


def test_nothing_given_is_the_documented_default() -> None:
    assert read() == Options()


def test_every_param_is_taken() -> None:
    params = {
        "source_conn_id": "s",
        "target_conn_id": "t",
        "transfer": "dump",
        "target_database": 'a "name"',
        "tables": "default",
        "fernet": "swap",
        "history_days": 7,
        "backup": False,
        "repairs": "all",
        "cron_timetable": "trigger",
        "drain_timeout": 0,
        "on_drain_timeout": "proceed",
        "require_approval": False,
        "unpause": "none",
        "fence_source": False,
        "max_rehearsal_age_days": 30,
    }
    assert set(params) == set(Options.__dataclass_fields__)
    assert asdict(read(**params)) == params


@pytest.mark.parametrize("fernet", ["swap", "reencrypt", "keep"])
def test_what_may_become_of_the_key(fernet: str) -> None:
    assert read(fernet=fernet).fernet == fernet


@pytest.mark.parametrize(
    ("given", "taken"),
    [("safe", "safe"), ("all", "all"), ([], ()), (["connection_id"], ("connection_id",))],
)
def test_which_repairs_may_run(given: object, taken: object) -> None:
    assert read(repairs=given).repairs == taken


@pytest.mark.parametrize(
    ("given", "taken"),
    [("default", "default"), (["default", "users"], ("default", "users")), (["connection"], ("connection",))],
)
def test_which_tables_travel(given: object, taken: object) -> None:
    assert read(transfer="data_only", tables=given).tables == taken


@pytest.mark.parametrize("given", ["connection", [], None, [""], [7]])
def test_tables_that_are_no_list_are_refused(given: object) -> None:
    with pytest.raises(InvalidInputError, match="tables"):
        read(transfer="data_only", tables=given)


@pytest.mark.parametrize("transfer", ["auto", "clone", "dump"])
def test_tables_are_refused_where_the_whole_database_travels(transfer: str) -> None:
    with pytest.raises(InvalidInputError, match="tables"):
        read(transfer=transfer, tables=["connection"])


@pytest.mark.parametrize("days", [None, 0, 30])
def test_days_of_history(days: int | None) -> None:
    assert read(history_days=days).history_days == days


def test_defaults_of_the_dag_count_where_nothing_is_given() -> None:
    assert Options.from_params({"drain_timeout": 7}, []).drain_timeout == 7


@pytest.mark.parametrize("name", ["source_con_id", "history", "Backup", ""])
def test_an_unknown_param_is_refused_and_named(name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Options.from_params({"backup": True}, ["backup", name])
    assert name in caught.value.problem
    assert "source_conn_id" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transfer", "copy"),
        ("transfer", None),
        ("transfer", ["clone"]),
        ("fernet", "rotate"),
        ("fernet", None),
        ("cron_timetable", "cron"),
        ("on_drain_timeout", "wait"),
        ("history_days", -1),
        ("history_days", 1.5),
        ("history_days", "7"),
        ("history_days", True),
        ("history_days", 40_000),
        ("max_rehearsal_age_days", -1),
        ("max_rehearsal_age_days", "14"),
        ("repairs", "none"),
        ("repairs", None),
        ("repairs", ["no_such_repair"]),
        ("unpause", "all"),
        ("unpause", ""),
    ],
)
def test_a_value_that_does_not_work_yet_is_refused_and_named(name: str, value: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(**{name: value})
    assert name in caught.value.problem


@pytest.mark.parametrize("ids", [[], ["one"], ["one", "ü 2"]])
def test_dag_ids_to_unpause_are_a_tuple(ids: list[str]) -> None:
    assert read(unpause=ids).unpause == tuple(ids)


def test_the_caller_s_params_stay_as_they_are() -> None:
    params = {"unpause": ["one"]}
    Options.from_params(params, ["unpause"])
    assert params == {"unpause": ["one"]}
