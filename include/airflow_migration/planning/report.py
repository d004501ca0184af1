"""Put everything that happened into one document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from airflow_migration import __version__
from airflow_migration.planning.users_and_roles import USERS_AND_ROLES, USERS_WITHOUT_ROLES

SCHEMA_VERSION = 2
MIGRATION: Literal["migration"] = "migration"
REHEARSAL: Literal["rehearsal"] = "rehearsal"
ROLL_BACK: Literal["roll_back"] = "roll_back"
PAUSE, DRAIN, VERIFY, UNPAUSE = "pause_dags", "drain_running_tasks", "verify", "unpause_dags"
KEY = "swap_fernet_key"
"""Clears what no key reads, before the first hop."""
FILE_CHECKS = {"check_dag_files": "dag_files", "check_configuration": "configuration"}
"""Task of a rehearsal → what the report calls its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRun:
    """The DAG run that a report is about.

    :param kind: ``migration``, ``rehearsal`` or ``roll_back``
    :param started: ISO 8601
    :param finished: ISO 8601, the moment of the report
    """

    kind: Literal["migration", "rehearsal", "roll_back"]
    dag_id: str
    run_id: str
    started: str
    finished: str


def build_report(
    *,
    run: ReportedRun,
    migration_id: str,
    plan: Mapping[str, Any] | None,
    steps: Mapping[str, Mapping[str, Any] | None],
    errors: Mapping[str, Mapping[str, str]],
    complete: bool,
    blocked_by: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The report of one run, also of one that failed.

    :param plan: the plan as JSON; None when preflight did not pass
    :param steps: task id → what the task left; None when it left nothing
    :param errors: task id → problem, where, remedy of the last try
    :param complete: every step of the plan has ended well
    :param blocked_by: what preflight found when it did not pass
    """
    done = {name: step for name, step in steps.items() if step}
    verification = (done.get(VERIFY) or {}).get("result")
    verified = bool(verification and verification["verified"])
    measured = downtime(done)
    files = {key: (done.get(name) or {}).get("result") for name, key in FILE_CHECKS.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        **asdict(run),
        "migration_id": migration_id,
        "status": "success" if complete and verified else "failed",
        "verified": verified,
        "downtime": measured,
        "rehearsal": plan.get("last_rehearsal") if plan else None,
        "prediction_and_truth": prediction_and_truth(plan, measured),
        "plan": plan,
        "findings": [
            *(plan["findings"] if plan else blocked_by),
            *(finding for result in files.values() if result for finding in result["findings"]),
        ],
        # What was found in files has a place of its own.
        "steps": [
            {"task_id": name, **(done.get(name) or {"result": None})}
            | ({"result": None} if name in FILE_CHECKS else {})
            | {"error": errors.get(name)}
            for name in steps
        ],
        "repairs": [
            {"before_hop": "1" if name == KEY else name.removeprefix("repair_")} | dict(each)
            for name, step in done.items()
            if name == KEY or name.startswith("repair_")
            for each in step["result"].get("repairs", ())
        ],
        "ledger": list((verification or {}).get("ledger", ())),
        "verification": verification,
        **{key: without_findings(result) for key, result in files.items()},
        "forecast": ((done.get(UNPAUSE) or {}).get("result") or {}).get("forecast"),
        "left_to_do": [*left_to_do(done), *_left_of_users(plan)],
    }


def without_findings(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """They are among those of the report."""
    return None if result is None else {name: value for name, value in result.items() if name != "findings"}


def downtime(done: Mapping[str, Mapping[str, Any]]) -> dict[str, float] | None:
    """Seconds from the first DAG paused to the DAGs active on the target, less the drain; None before the end."""
    if PAUSE not in done or UNPAUSE not in done:
        return None
    begun = datetime.fromisoformat(done[PAUSE]["started"])
    ended = datetime.fromisoformat(done[UNPAUSE]["finished"])
    cut_over = (ended - begun).total_seconds()
    drain = float((done.get(DRAIN) or {}).get("seconds", 0.0))
    return {
        "seconds": round(cut_over - drain, 3),
        "cut_over_seconds": round(cut_over, 3),
        "drain_seconds": round(drain, 3),
    }


def prediction_and_truth(plan: Mapping[str, Any] | None, measured: Mapping[str, float] | None) -> dict[str, Any] | None:
    """The downtime that the plan has told beside the one that was, in seconds; None where nothing was told."""
    told = (plan or {}).get("prediction")
    if not told:
        return None
    return {
        "predicted": told["seconds"],
        "low": told["low"],
        "high": told["high"],
        "measured": measured["seconds"] if measured else None,
    }


def left_to_do(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a person still has to do or know."""
    sentences: list[str] = []
    for step in done.values():
        result = step["result"]
        if isinstance(result, Mapping):
            control = result.get("control") if isinstance(result.get("control"), Mapping) else {}
            for part in (result.get("instructions"), (control or {}).get("instructions"), result.get("warnings")):
                sentences.extend(str(sentence) for sentence in part or ())
    return list(dict.fromkeys(sentences))


def _left_of_users(plan: Mapping[str, Any] | None) -> list[str]:
    """What preflight said of people who cannot log in at the target."""
    found = [
        finding
        for finding in (plan["findings"] if plan else ())
        if finding["check"] in (USERS_AND_ROLES, USERS_WITHOUT_ROLES) and finding["severity"] == "warning"
    ]
    return [f"{finding['summary']}. {finding['remedy']}" for finding in found]
