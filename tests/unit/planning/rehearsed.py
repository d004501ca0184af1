"""Reports of rehearsals and migrations in the shape of real ones, made by `build_report` from what steps leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, Literal

from airflow_migration.metadata.findings import Finding
from airflow_migration.planning.hops import plan_hops
from airflow_migration.planning.options import Options
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.record_report import record_of
from airflow_migration.planning.report import MIGRATION, REHEARSAL, ReportedRun, build_report
from airflow_migration.planning.run_records import RunRecord

DAY = datetime(2026, 11, 20, 3, tzinfo=timezone.utc)
"""Of the first rehearsal."""
MB = 1_000_000
REHEARSAL_SECONDS = {
    "copy_source": 60.0, "restore_database": 10.0, "swap_fernet_key": 0.1, "repair_1": 2.0, "upgrade_1": 30.0,
    "repair_2": 3.0, "upgrade_2": 50.0, "repair_3": None, "upgrade_3": None, "mend_schedules": 1.0, "verify": 20.0,
}  # fmt: skip
MIGRATION_SECONDS = {
    "pause_dags": 1.0, "drain_running_tasks": 100.0, "clone_database": 12.0, "dump_database": 15.0,
    "quiet_target": None,
    "restore_database": 11.0, "swap_fernet_key": 0.5, "repair_1": 2.0, "upgrade_1": 31.0, "repair_2": 3.0,
    "upgrade_2": 55.0, "repair_3": None, "upgrade_3": None, "mend_schedules": 1.0, "verify": 21.0, "fence_source": 0.2,
    "point_target": 0.7, "restart_target": 6.0, "unpause_dags": 40.0,
}  # fmt: skip
GAP = 1.5
NO_CHANGE: Mapping[str, float] = MappingProxyType({})
REVISIONS = {
    "upgrade_1": ("2.11.2", (("849da589634d", "Resource based permissions.", 15.0), ("e1", "Small.", 1.0))),
    "upgrade_2": ("3.3.2", (("d59cbbef95eb", "Add UUID primary key.", 40.0),)),
}
ODD = Finding(check="connection_id", severity="warning", summary="2 connections have no id", count=2, repair="r")
LOST = Finding(check="xcom_lost", severity="warning", summary="568 XComs cannot become JSON", count=568, remedy="Look")


def plan_of(size: int = 1000 * MB, findings: Sequence[Finding] = (ODD,), **options: Any) -> Plan:
    """A migration from 1.10.15 to 3.3.2 on one server."""
    return Plan(
        migration_id="cut-over",
        token="0123456789",
        options=Options(**options),
        transfer="clone",
        fernet="swap",
        repairs=("connection_id",),
        source_release="1.10.15",
        source_head="03afc6b6f902",
        target_release="3.3.2",
        target_head="d2f4e1b3c5a7",
        hops=plan_hops("03afc6b6f902", "3.3.2"),
        source_database="airflow",
        source_server="db:5432 (PostgreSQL 15.18)",
        target_server="db:5432 (PostgreSQL 15.18)",
        frozen_database="frozen",
        working_database="working",
        target_database="airflow_3",
        set_aside_as=None,
        source_size=size,
        active_dags=17,
        in_flight=4,
        findings=tuple(findings),
    )


def rehearsal(number: int = 1, plan: Plan | None = None, *, verified: bool = True, **seconds: float) -> dict[str, Any]:
    """The report of the nth weekly rehearsal.

    :param seconds: of steps that took another time
    """
    return _report(REHEARSAL, f"week {number}", DAY + timedelta(weeks=number - 1), plan or plan_of(), verified, seconds)


def migration(plan: Plan | None = None, day: datetime = DAY, **seconds: float) -> dict[str, Any]:
    """The report of a migration that went well."""
    return _report(MIGRATION, f"migration {day:%d}", day, plan or plan_of(), True, seconds)


def record(report: Mapping[str, Any]) -> RunRecord:
    """What is kept of it, as it is read again."""
    made = record_of(report)
    assert made is not None
    assert RunRecord.from_text(made.to_text()) == made
    return made


def at_other_release(plan: Plan) -> Plan:
    return replace(plan, target_release="3.1.8")


def _report(
    kind: Literal["migration", "rehearsal"],
    run_id: str,
    started: datetime,
    plan: Plan,
    verified: bool,
    changed: Mapping[str, float],
) -> dict[str, Any]:
    steps = steps_of(kind, plan, started, verified=verified, changed=changed)
    finished = max(datetime.fromisoformat(step["finished"]) for step in steps.values() if step)
    last = "verify" if kind == REHEARSAL else "unpause_dags"
    report = build_report(
        run=ReportedRun(
            kind=kind,
            dag_id="rehearse_migration" if kind == REHEARSAL else "migrate_airflow",
            run_id=run_id,
            started=started.isoformat(),
            finished=finished.isoformat(),
        ),
        migration_id=run_id,
        plan=plan.to_json(),
        steps=steps,
        errors={},
        complete=bool(steps[last]),
    )
    plain: dict[str, Any] = json.loads(json.dumps(report))
    return plain


def steps_of(
    kind: str, plan: Plan, started: datetime, *, verified: bool = True, changed: Mapping[str, float] = NO_CHANGE
) -> dict[str, dict[str, Any] | None]:
    """What the tasks of a run leave in XCom."""
    steps: dict[str, dict[str, Any] | None] = {"preflight": None}
    now = started + timedelta(seconds=5)
    for name, usually in (REHEARSAL_SECONDS if kind == REHEARSAL else MIGRATION_SECONDS).items():
        seconds = changed.get(name, usually)
        steps[name] = None
        if seconds is not None:
            end = now + timedelta(seconds=seconds)
            result = _result(name, plan, seconds, verified)
            steps[name] = {"started": str(now), "finished": str(end), "seconds": seconds, "result": result}
            now = end
        now += timedelta(seconds=GAP)
    return steps


def _result(name: str, plan: Plan, seconds: float, verified: bool) -> dict[str, Any]:
    copy = {"bytes": plan.source_size, "seconds": seconds * 0.8, "reused": False}
    if name == "restore_database":
        days = plan.options.history_days
        return copy | {"history": None if days is None else {"seconds": seconds * 0.1}}
    if name == "clone_database":
        return copy
    if name == "verify":
        return {"verified": verified, "ledger": [], "problems": []}
    if name in REVISIONS:
        release, known = REVISIONS[name]
        share = seconds / REHEARSAL_SECONDS[name]  # type: ignore[operator]
        revisions = [{"revision": revision, "title": title, "seconds": took * share} for revision, title, took in known]
        return {"release": release, "revisions": revisions, "seconds": seconds, "warnings": []}
    return {"repairs": []} if name.startswith("repair_") else {"seconds": seconds}
