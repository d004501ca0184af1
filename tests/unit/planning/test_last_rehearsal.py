"""A plan says when it was last rehearsed, warns when that is long ago, and tells who approves it what that means."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.planning.rehearsed import DAY, LOST, MB, ODD, at_other_release, plan_of, record, rehearsal

from airflow_migration.metadata.findings import Finding
from airflow_migration.planning.approval_text import body, subject
from airflow_migration.planning.last_rehearsal import CHECK, consult
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.rehearsal_report import look_back
from airflow_migration.planning.report_page.figures import duration

SOON = DAY + timedelta(days=2)


def consulted(plan: Plan, *reports: dict[str, Any], now: datetime = SOON) -> Plan:
    made = consult(plan, rehearsals=[record(each) for each in reports], migrations=(), now=now)
    assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made
    return made


def found(plan: Plan) -> Finding | None:
    (*others, last) = plan.findings
    assert all(each.check != CHECK for each in others)
    return last if last.check == CHECK else None


def severity(plan: Plan) -> str | None:
    finding = found(plan)
    return finding.severity if finding else None


def complete(report: dict[str, Any]) -> dict[str, Any]:
    return report | look_back(report, rehearsals=(), migrations=())


def test_a_young_rehearsal_that_verified_is_told_with_its_figures() -> None:
    plan = consulted(plan_of(), complete(rehearsal()))
    finding = found(plan)
    assert finding is not None
    assert finding.severity == "info"
    for figure in ("week 1", "2 day(s)", "verified", "1.0 GB", "1 warning(s)", "downtime"):
        assert figure in finding.summary, figure
    assert plan.prediction is not None
    assert plan.prediction["based_on"] == ["week 1"]
    assert plan.last_rehearsal is not None
    assert plan.last_rehearsal["age_days"] == pytest.approx(2.0, abs=0.1)
    assert plan.last_rehearsal["news"] == []


def test_none_an_old_one_or_one_that_failed_is_warned_of_unless_nobody_asked() -> None:
    failed = rehearsal(verified=False)
    much_later = DAY + timedelta(days=15)
    cases: list[tuple[tuple[dict[str, Any], ...], datetime, str]] = [
        ((), SOON, "never rehearsed"),
        ((rehearsal(),), much_later, "15 day(s) old"),
        ((failed,), SOON, "did not end well"),
    ]
    for reports, now, says in cases:
        finding = found(consulted(plan_of(), *reports, now=now))
        assert finding is not None
        assert finding.severity == "warning"
        assert says in finding.summary
        assert "rehearse_migration" in finding.remedy
        unasked = consulted(plan_of(max_rehearsal_age_days=None), *reports, now=now)
        assert severity(unasked) == ("info" if reports else None)
    assert severity(consulted(plan_of(max_rehearsal_age_days=15), rehearsal(), now=much_later)) == "info"


def test_the_newest_decides() -> None:
    week = DAY + timedelta(weeks=1, days=1)
    assert severity(consulted(plan_of(), rehearsal(2), rehearsal(1, verified=False), now=week)) == "info"
    assert severity(consulted(plan_of(), rehearsal(2, verified=False), rehearsal(1), now=week)) == "warning"


def test_a_rehearsal_to_another_release_is_none_and_is_named() -> None:
    finding = found(consulted(plan_of(), rehearsal(plan=at_other_release(plan_of()))))
    assert finding is not None
    assert finding.severity == "warning"
    assert "3.1.8" in finding.summary


def test_rows_alone_cannot_be_rehearsed_so_nobody_is_warned() -> None:
    plan = replace(plan_of(), transfer="data_only")
    assert consulted(plan) == plan


def test_what_is_new_since_the_rehearsal_is_told() -> None:
    now = plan_of(size=2000 * MB, findings=[replace(ODD, count=5, summary="5 connections have no id"), LOST])
    made = consulted(now, rehearsal())
    assert made.last_rehearsal is not None
    news = " | ".join(made.last_rehearsal["news"])
    for said in (LOST.summary, "was 2", "2.0 GB"):
        assert said in news, said
    assert all(sentence in body(made) for sentence in made.last_rehearsal["news"])


def test_what_a_rehearsal_has_found_in_files_is_counted_and_not_said_to_be_gone() -> None:
    report = rehearsal()
    found = asdict(replace(ODD, check="dag_files_broken", severity="warning"))
    made = consulted(plan_of(), report | {"dag_files": {"count": 9}, "findings": [*report["findings"], found]})
    assert made.last_rehearsal is not None
    assert made.last_rehearsal["findings"]["warning"] == 2
    assert made.last_rehearsal["news"] == []


def section(text: str, title: str) -> str:
    return text.partition(f"### {title}")[2].partition("###")[0]


def test_who_approves_reads_what_is_paused_for_how_long_repaired_and_lost() -> None:
    other = Finding(check="catch_up", severity="warning", summary="4 DAGs catch up", count=4)
    short = rehearsal(1, plan_of(history_days=30), verify=1.0)
    made = consulted(plan_of(findings=[ODD, LOST, other]), rehearsal(2), short)
    assert made.prediction is not None
    about = duration(made.prediction["seconds"])
    assert about in subject(made)
    assert "1.10.15 → 3.3.2" in subject(made)
    assert "17 DAG(s)" in subject(made)
    text = body(made)
    pausing = section(text, "What will be paused")
    for said in (about, "17 are active", "4 are in flight", "upgrade_2 50 s", "history_days 30", "backup false"):
        assert said in pausing, said
    assert ODD.summary in section(text, "What will be repaired")
    assert LOST.summary in section(text, "What cannot be carried")
    assert other.summary in section(text, "What else was found")
    assert "week 2" in section(text, "Last rehearsal")


def test_what_nothing_has_measured_is_not_promised() -> None:
    made = consulted(plan_of(findings=[]))
    assert "about" not in subject(made)
    assert "not known" in section(body(made), "What will be paused")
    assert "Nothing." in section(body(made), "What will be repaired")
    assert "Nothing." in section(body(made), "What cannot be carried")
