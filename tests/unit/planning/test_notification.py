"""What people are told of a run: the verdict first, one problem, where the report is, and no markup of others."""

from __future__ import annotations

from typing import Any

from airflow_migration.planning.notification import notification_of, notification_without_report

REPORT: dict[str, Any] = {
    "kind": "migration",
    "run_id": "manual__1",
    "migration_id": "manual__1",
    "started": "2026-11-22T02:00:00+00:00",
    "finished": "2026-11-22T02:20:00+00:00",
    "status": "success",
    "verified": True,
    "downtime": {"seconds": 70.0, "cut_over_seconds": 75.0, "drain_seconds": 5.0},
    "plan": {},
    "findings": [],
    "steps": [{"task_id": "verify", "error": None}],
    "verification": None,
    "left_to_do": ["Restart it"],
}
PROBLEM = {"problem": "duplicate key\n<b>&", "where": "upgrade_1", "remedy": "Mend the row"}
FAILED = REPORT | {
    "status": "failed",
    "downtime": None,
    "steps": [{"task_id": "upgrade_1", "error": PROBLEM}, {"task_id": "resume_source", "error": PROBLEM}],
}
LINK = "http://airflow/migrations/reports/migrate_airflow/manual__1"


def test_a_run_that_went_well_is_told_with_its_downtime() -> None:
    told = notification_of(REPORT, path="/reports/report.json", link=LINK)
    assert told.subject == "Migration manual__1: Migrated, and every row is accounted for"
    assert told.lines == (
        "22 Nov 2026, 02:00:00 to 02:20:00 UTC",
        "Downtime: 1 min 10 s",
        "Left to do for a person: 1 thing",
        f"Report: {LINK}",
        "File: /reports/report.json",
    )


def test_a_failure_is_told_with_its_first_problem_and_what_to_do() -> None:
    told = notification_of(FAILED, path="/reports/report.json", link=None)
    assert told.subject.endswith("The migration stopped at upgrade_1")
    assert told.lines[1:4] == ("upgrade_1: duplicate key <b>&", "What to do: Mend the row", "And 1 more problem")
    assert told.lines[-1] == "File: /reports/report.json"


def test_what_a_report_says_is_no_markup_in_either_channel() -> None:
    told = notification_of(FAILED, path="p", link=None)
    assert "duplicate key &lt;b&gt;&amp;" in told.html
    assert "duplicate key &lt;b&gt;&amp;" in told.slack
    assert "<b>" not in told.html + told.slack


def test_a_rehearsal_tells_the_range_of_the_downtime() -> None:
    rehearsal = {"kind": "rehearsal", "downtime": None, "prediction": {"seconds": 70, "low": 50, "high": 90}}
    told = notification_of(REPORT | rehearsal, path="p", link=None)
    assert "Predicted downtime: 1 min 10 s (50 s to 1 min 30 s)" in told.lines


def test_a_subject_is_one_line_whatever_the_run_is_called() -> None:
    told = notification_of(REPORT | {"run_id": "a\r\nBcc: b"}, path="p", link=None)
    assert told.subject.startswith("Migration a Bcc: b: ")


def test_a_run_without_a_report_is_told_of_too() -> None:
    told = notification_without_report(dag_id="d", run_id="r", errors={"preflight": PROBLEM}, link=None)
    assert told.subject == "d r: it has no report"
    assert told.lines[:2] == ("preflight: upgrade_1: duplicate key <b>&", "What to do: Mend the row")
