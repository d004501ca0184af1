"""ruff names what Airflow 3 has removed, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_migration.exceptions import ToolError
from airflow_migration.metadata.releases import release
from airflow_migration.planning.air_rules import by_rule, replacements, rules_for, run_rules

OLD = """from airflow import DAG
from airflow.operators.bash_operator import BashOperator
with DAG("old", schedule_interval="@daily"):  # noqa
    BashOperator(task_id="x", bash_command="true")
"""


def test_what_3_0_has_removed_is_named_with_line_and_replacement(tmp_path: Path) -> None:
    (tmp_path / "etl").mkdir()
    (tmp_path / "etl" / "old.py").write_text(OLD)
    (tmp_path / "broken.py").write_text("def f(:\n")
    found = {each.rule: each for each in by_rule(run_rules(rules_for(release("3.3.2")), tmp_path))}
    place = found["AIR301"].places[0]
    assert (place.path, place.line) == ("etl/old.py", 3)
    assert "schedule_interval" in place.message
    assert "`schedule`" in place.fix
    assert (found["AIR302"].count, found["AIR302"].files, found["AIR302"].places[0].line) == (1, 1, 4)


def test_a_target_before_3_0_has_nothing_to_look_for(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(OLD)
    assert run_rules(rules_for(release("2.11.2")), tmp_path) == []


def test_a_name_that_has_moved_is_told_without_a_file_that_uses_it() -> None:
    names = [
        ("airflow.operators.dummy_operator", "DummyOperator"),
        ("airflow.utils.helpers", "chain"),
        ("ours", "x"),
    ]
    known = replacements(names, release("3.3.2"))
    assert "EmptyOperator" in known[names[0]]
    assert "airflow.sdk" in known[names[1]]
    assert names[2] not in known
    assert replacements([], release("3.3.2")) == {}


def test_a_ruff_that_does_not_know_a_rule_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError):
        run_rules(("AIR999",), tmp_path)
