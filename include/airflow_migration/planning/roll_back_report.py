"""Put everything that a roll back did into one document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from airflow_migration import __version__
from airflow_migration.planning.report import SCHEMA_VERSION, ReportedRun, left_to_do

PAUSE_TARGET, RESUME, DROP = "pause_target", "resume_source", "drop_created"


def build_roll_back_report(
    *,
    run: ReportedRun,
    plan: Mapping[str, Any],
    steps: Mapping[str, Mapping[str, Any] | None],
    errors: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """The report of one roll back, also of one that failed.

    :param plan: the plan as JSON
    :param steps: task id → what the task left; None when it left nothing
    :param errors: task id → problem, where, remedy of the last try
    """
    done = {name: step for name, step in steps.items() if step}
    results = {name: step["result"] for name, step in done.items()}
    paused, resumed, dropped = (results.get(name) or {} for name in (PAUSE_TARGET, RESUME, DROP))
    return {
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        **asdict(run),
        "migration_id": plan["options"]["migration_id"],
        "status": "success" if DROP in done else "failed",
        "source_resumed": RESUME in done,
        "dags_active": resumed["unpaused"] + resumed["already_active"] if resumed else None,
        "dags_missing": list(resumed.get("missing", ())),
        "lost_runs": paused.get("lost_runs", plan["lost_runs"]),
        "dropped": list(dropped.get("dropped", ())),
        "kept": list(dropped.get("kept", ())),
        "plan": dict(plan),
        "steps": [
            {"task_id": name, **(done.get(name) or {"result": None}), "error": errors.get(name)} for name in steps
        ],
        "left_to_do": left_to_do(done),
    }
