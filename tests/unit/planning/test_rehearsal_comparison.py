"""A rehearsal says what is new since the one before, and never compares what measures something else."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from tests.unit.planning.rehearsed import LOST, MB, ODD, at_other_release, plan_of, record, rehearsal

from airflow_migration.planning.rehearsal_comparison import compare
from airflow_migration.planning.rehearsal_report import look_back


def compared(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    made = compare(record(before), record(now))
    assert json.loads(json.dumps(made)) == json.loads(json.dumps(made, default=list))
    return made


def test_nothing_new_is_said() -> None:
    made = compared(rehearsal(1), rehearsal(2))
    assert made["run_id"] == "week 1"
    assert made["not_comparable"] == []
    assert made["words"] == ["Nothing is new since rehearsal week 1"]


def test_findings_come_go_and_change() -> None:
    before = plan_of(findings=[ODD, replace(ODD, check="went", summary="it was odd")])
    now = plan_of(findings=[replace(ODD, count=7, summary="7 connections have no id"), LOST])
    made = compared(rehearsal(1, before), rehearsal(2, now))
    assert [each["check"] for each in made["findings"]["came"]] == ["xcom_lost"]
    assert [each["check"] for each in made["findings"]["went"]] == ["went"]
    (changed,) = made["findings"]["changed"]
    assert (changed["count_before"], changed["count"]) == (2, 7)
    words = " | ".join(made["words"])
    assert LOST.summary in words
    assert "it was odd" in words
    assert "was 2" in words


def test_a_worse_finding_of_the_same_count_is_a_change() -> None:
    worse = plan_of(findings=[replace(ODD, severity="blocker")])
    (changed,) = compared(rehearsal(1), rehearsal(2, worse))["findings"]["changed"]
    assert (changed["before"], changed["now"]) == ("warning", "blocker")


def test_size_steps_and_revisions_that_grew_are_named() -> None:
    made = compared(rehearsal(1), rehearsal(2, plan_of(size=1500 * MB), upgrade_2=100.0, repair_1=2.1))
    assert made["source_bytes"] == {"before": 1000 * MB, "now": 1500 * MB}
    assert {each["name"]: each["now"] for each in made["steps"]}["upgrade_2"] == 100.0
    first = made["revisions"][0]
    assert (first["name"], first["release"], first["before"], first["now"]) == ("d59cbbef95eb", "3.3.2", 40.0, 80.0)
    words = " | ".join(made["words"])
    assert "+50%" in words
    assert "upgrade_2 took 100.0 s, 50.0 s before" in words
    assert "Add UUID primary key." in words
    assert "repair_1" not in words, "a tenth of a second is no news"


def test_seconds_of_another_release_or_of_less_history_are_not_compared() -> None:
    for other, reason in (
        (plan_of(history_days=30), "history_days was empty, and is 30"),
        (at_other_release(plan_of()), "the target was 3.3.2, and is 3.1.8"),
    ):
        made = compared(rehearsal(1), rehearsal(2, other, upgrade_2=100.0))
        assert made["not_comparable"] == [reason]
        assert made["steps"] == made["revisions"] == []
        assert made["words"] == [f"Seconds are not compared: {reason}"]


def with_dag_files(report: dict[str, Any], summary: str, count: int) -> dict[str, Any]:
    """A rehearsal that has imported the DAG files too."""
    found = asdict(replace(ODD, check="dag_files_broken", summary=summary, count=count))
    return report | {"dag_files": {"count": 9}, "findings": [*report["findings"], found]}


def test_what_was_found_in_dag_files_is_compared_when_both_have_looked_there() -> None:
    before, now = (with_dag_files(rehearsal(n), f"{n} DAG files do not import", n) for n in (1, 2))
    (changed,) = compared(before, now)["findings"]["changed"]
    assert (changed["check"], changed["count_before"], changed["count"]) == ("dag_files_broken", 1, 2)
    for once in (compared(before, rehearsal(2)), compared(rehearsal(1), now)):
        assert not any(once["findings"].values()), "neither gone nor new: nobody has looked"
        (said,) = once["words"]
        assert "files" in said


def test_a_rehearsal_that_fails_verification_for_the_first_time_says_so() -> None:
    made = compared(rehearsal(1), rehearsal(2, verified=False))
    assert made["verified"] == {"before": True, "now": False}
    assert "not verified any more" in made["words"][0]


def test_a_report_is_completed_by_the_rehearsals_before() -> None:
    first = rehearsal(1)
    alone = look_back(first, rehearsals=(), migrations=())
    assert alone["comparison"] is None
    assert alone["prediction"]["based_on"] == ["week 1"]
    second = rehearsal(2, plan_of(size=2000 * MB), upgrade_2=100.0)
    made = look_back(second, rehearsals=(record(first | alone),), migrations=())
    assert made["prediction"]["based_on"] == ["week 2", "week 1"]
    downtime = made["comparison"]["downtime"]
    assert downtime["before"]["seconds"] == alone["prediction"]["seconds"]
    assert downtime["now"]["seconds"] == made["prediction"]["seconds"] > downtime["before"]["seconds"]


def test_a_rehearsal_that_did_not_verify_predicts_nothing_and_is_compared_all_the_same() -> None:
    made = look_back(rehearsal(2, verified=False), rehearsals=(record(rehearsal(1)),), migrations=())
    assert made["prediction"] is None
    assert made["comparison"]["verified"]["now"] is False
    assert look_back(rehearsal() | {"plan": None}, rehearsals=(), migrations=()) == {
        "prediction": None,
        "comparison": None,
    }
