"""What other DAGs learn of a rehearsal."""

from __future__ import annotations

from typing import Any

from airflow_migration.planning.rehearsal_event import event_of

REPORT: dict[str, Any] = {
    "run_id": "scheduled__1",
    "started": "2026-11-22T02:00:00+00:00",
    "finished": "2026-11-22T02:05:00.5+00:00",
    "verified": True,
    "plan": {"source_size": 25_000_000},
    "findings": [{"severity": severity} for severity in ("blocker", "warning", "ok", "warning", "ok")],
    "prediction": {"seconds": 70.0, "low": 50.0, "high": 90.0, "parts": [], "based_on": []},
}


def test_the_figures_of_a_rehearsal_are_in_its_event() -> None:
    assert event_of(REPORT, "s3://reports/report.json") == {
        "run_id": "scheduled__1",
        "verified": True,
        "downtime_seconds": 70.0,
        "downtime_low": 50.0,
        "downtime_high": 90.0,
        "findings": {"blocker": 1, "warning": 2, "info": 0},
        "source_bytes": 25_000_000,
        "seconds": 300.5,
        "report": "s3://reports/report.json",
    }


def test_a_rehearsal_without_a_prediction_promises_no_downtime() -> None:
    event = event_of(REPORT | {"prediction": None}, "p")
    assert [event[f"downtime_{name}"] for name in ("seconds", "low", "high")] == [None, None, None]
