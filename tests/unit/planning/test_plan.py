"""A plan survives the way between two tasks, and tells a person what will happen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.table_choice import TableChoice
from airflow_migration.planning.approval_text import body
from airflow_migration.planning.hops import plan_hops
from airflow_migration.planning.options import Options
from airflow_migration.planning.plan import Plan, frozen_name, set_aside_name, working_name

TOKEN = "0123456789"

PLAN = Plan(
    migration_id="manual__2026-11-22T02:21:00+00:00",
    token=TOKEN,
    options=Options(),
    transfer="clone",
    fernet="swap",
    repairs=("connection_id", "username_case"),
    source_release="1.10.15",
    source_head="03afc6b6f902",
    target_release="3.3.2",
    target_head="d2f4e1b3c5a7",
    hops=plan_hops("03afc6b6f902", "3.3.2"),
    source_database='a "source"',
    source_server="h:5432 (PostgreSQL 15.18)",
    target_server="h:5432 (PostgreSQL 15.18)",
    frozen_database="the frozen",
    working_database="the working",
    target_database="the target",
    set_aside_as="the fresh one",
    source_size=5_300_000_000,
    active_dags=17,
    in_flight=4,
    findings=(
        Finding(check="a", severity="warning", summary="two rows are odd", count=2, evidence=("x", "ü"), repair="r"),
        Finding(check="b", severity="ok", summary="nothing here"),
    ),
)

PLANS = {
    "clone": PLAN,
    "dump": replace(PLAN, transfer="dump"),
    "data only": replace(
        PLAN,
        transfer="data_only",
        hops=(),
        options=Options(transfer="data_only", tables=("dag", "users"), backup=False),
        tables=TableChoice(travel=("dag", "ab_user"), left_out={"log": "not chosen"}, cleared={"n": ("user_id",)}),
        working_database="the target",
        set_aside_as=None,
    ),
    "no hops": replace(PLAN, hops=(), findings=()),
    "nothing set aside": replace(PLAN, set_aside_as=None),
    "re-encrypted": replace(PLAN, fernet="reencrypt"),
    "some repairs": replace(PLAN, options=Options(repairs=("username_case",)), repairs=("username_case",)),
    "key kept": replace(PLAN, fernet="keep"),
    "named DAGs": replace(PLAN, options=Options(unpause=("one", "two"), backup=False)),
    "nothing unpaused": replace(PLAN, options=Options(unpause="none", fence_source=False)),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_comes_back_from_json_as_it_was(plan: Plan) -> None:
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_plan_of_before_findings_had_hops_and_queries_is_read() -> None:
    data = json.loads(json.dumps(PLAN.to_json()))
    for finding in data["findings"]:
        del finding["hops"], finding["sql"]
    assert Plan.from_json(data) == PLAN


def test_the_words_say_which_upgrade_meets_a_finding() -> None:
    met = Finding(check="c", severity="blocker", summary="a row stops it", hops=("2.11.2", "3.3.2"), sql="SELECT 1;")
    plan = replace(PLAN, findings=(met,))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert "2.11.2 and 3.3.2" in body(plan).partition("What else was found")[2]
    assert "SELECT 1" not in body(plan)


def test_the_json_handed_in_is_not_changed() -> None:
    data = json.loads(json.dumps(PLAN.to_json()))
    Plan.from_json(data)
    assert data == json.loads(json.dumps(PLAN.to_json()))


def test_a_dump_is_made_for_another_server_or_as_a_backup() -> None:
    assert PLANS["dump"].needs_dump
    assert PLANS["clone"].needs_dump
    assert PLANS["data only"].needs_dump
    assert not PLANS["named DAGs"].needs_dump
    assert replace(PLANS["dump"], options=Options(backup=False)).needs_dump


def test_the_words_mention_every_step() -> None:
    words = body(PLAN)
    for said in (
        "paused", "17", "Running tasks", "4 are in flight", "3600 s", "cloned", "the frozen", "dumped", "the working",
        "fernet key", "repaired", "1.10.15 → 2.11.2 → 3.3.2", "mended", "compared", "read-only", "set aside",
        "the fresh one", "not known", "becomes `the target`", "restarted", "unpaused", "two rows are odd", "5.3 GB",
    ):  # fmt: skip
        assert said in words, said
    assert "nothing here" not in words


def test_the_words_leave_out_what_will_not_happen() -> None:
    assert "No upgrade" in body(PLANS["no hops"])
    assert "set aside" not in body(PLANS["nothing set aside"])
    assert "pg_restore" in body(PLANS["dump"])
    assert "dumped" not in body(PLANS["named DAGs"])
    assert "the source's fernet key" not in body(PLANS["re-encrypted"])
    assert "the source's fernet key" not in body(PLANS["key kept"])
    assert "rewritten with the target's" in body(PLANS["re-encrypted"])
    assert "one, two" in body(PLANS["named DAGs"])
    assert "No DAG is unpaused" in body(PLANS["nothing unpaused"])
    assert "read-only" not in body(PLANS["nothing unpaused"])


def test_the_words_say_that_rows_alone_go_into_the_target_s_own_database() -> None:
    words = body(PLANS["data only"])
    assert "rows only: dag, ab_user" in words
    assert "In `the target` the target's own rows" in words
    assert "working database" not in words.replace("encrypted values of the working database", "")


def test_steps_are_numbered_from_one() -> None:
    numbers = [line.split(".")[0] for line in body(PLAN).splitlines() if line[:1].isdigit()]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert len(numbers) > 8


@pytest.mark.parametrize("base", ["airflow", "a" * 63, "ü" * 31, "日本" * 10, "😀" * 15, 'quo"ted', "x"])
def test_names_fit_into_postgres_and_differ(base: str) -> None:
    names = [base, frozen_name(base, TOKEN), working_name(base, TOKEN), set_aside_name(base, TOKEN)]
    assert len(set(names)) == 4
    for name in names:
        assert len(name.encode()) <= 63
        assert name.encode().decode() == name
    for name in names[1:]:
        assert name.endswith(TOKEN)
        assert base.startswith(name[: name.index("__")])


def test_the_words_say_what_logical_dates_will_mean() -> None:
    setting = {"AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True"}
    kept = replace(PLAN, cron_data_intervals=True, settings=setting)
    assert "create_cron_data_intervals = True" in body(kept)
    assert "keep the meaning" in body(kept)
    assert "create_cron_data_intervals" not in body(replace(PLAN, cron_data_intervals=True))
    assert "the moment at which they start" in body(replace(PLAN, cron_data_intervals=False))
    assert Plan.from_json(json.loads(json.dumps(kept.to_json()))) == kept
