"""Ask the kept rehearsals what they say to a plan: whether one is there, what is new since, how long it will take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from airflow_migration.metadata.findings import Finding
from airflow_migration.planning.downtime_prediction import Wanted, predict_downtime
from airflow_migration.planning.options import DATA_ONLY
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.record_report import group_findings
from airflow_migration.planning.rehearsal_comparison import compare_findings
from airflow_migration.planning.run_records import RunRecord
from airflow_migration.progress import amount

CHECK = "rehearsal"
_REMEDY = (
    "Trigger rehearse_migration, which leaves the source undisturbed and measures all of this, and read its report;"
    " or set max_rehearsal_age_days to null"
)


def consult(
    plan: Plan, *, rehearsals: Sequence[RunRecord], migrations: Sequence[RunRecord], now: datetime | None = None
) -> Plan:
    """The plan with what the last rehearsal says: a finding, its figures, what is new since, and the prediction.

    :param rehearsals: of this source and target, newest first
    :param migrations: of this control Airflow, newest first
    """
    if plan.transfer == DATA_ONLY:  # it has no upgrade, and cannot be rehearsed
        return plan
    now = now or datetime.now(timezone.utc)
    same = [each for each in rehearsals if each.path == (plan.source_head, plan.target_release)]
    prediction = predict_downtime(Wanted.by(plan.to_json()), rehearsals=same, migrations=migrations)
    told = _summary(same[0], plan, now) if same else None
    finding = _finding(plan, same[0] if same else None, rehearsals, now)
    return replace(
        plan,
        findings=(*plan.findings, *finding),
        last_rehearsal=told,
        prediction=prediction,
    )


def _age(record: RunRecord, now: datetime) -> float:
    """Days."""
    return max(0.0, (now - datetime.fromisoformat(record.finished)).total_seconds() / 86_400)


def _summary(record: RunRecord, plan: Plan, now: datetime) -> dict[str, Any]:
    news = list(compare_findings(record.findings, group_findings(plan.to_json()["findings"])).in_words())
    if amount(record.source_bytes, "bytes") != amount(plan.source_size, "bytes"):
        news.append(
            f"The source has {amount(plan.source_size, 'bytes')}, and had {amount(record.source_bytes, 'bytes')}"
        )
    if record.history_days != plan.options.history_days:
        days = _days(record.history_days), _days(plan.options.history_days)
        news.append("It was rehearsed with {}, and is to travel with {}".format(*days))
    return {
        "run_id": record.run_id,
        "finished": record.finished,
        "age_days": round(_age(record, now), 1),
        "status": record.status,
        "verified": record.verified,
        "findings": record.counts(),
        "source_bytes": record.source_bytes,
        "history_days": record.history_days,
        "downtime": record.predicted,
        "news": news,
    }


def _days(days: int | None) -> str:
    return "all history" if days is None else f"{days} day(s) of history"


def _finding(plan: Plan, last: RunRecord | None, rehearsals: Sequence[RunRecord], now: datetime) -> Iterator[Finding]:
    most = plan.options.max_rehearsal_age_days
    if last is None:
        if most is not None:
            yield _warning(
                f"The way from {plan.source_release} to {plan.target_release} was never rehearsed"
                f" with this source and target{_other_ways(rehearsals)}"
            )
        return
    age, figures = _age(last, now), _figures(last)
    if not last.verified and most is not None:
        yield _warning(f"The last rehearsal, {last.run_id}{_ago(age)}, did not end well: {figures}")
    elif most is not None and age > most:
        yield _warning(f"The last rehearsal, {last.run_id}, is {age:.0f} day(s) old, more than {most}: {figures}")
    else:
        yield Finding(
            check=CHECK,
            severity="info",
            summary=f"The last rehearsal is {last.run_id}{_ago(age)}: {figures}",
        )


def _ago(days: float) -> str:
    return " of today" if days < 1 else f" of {days:.0f} day(s) ago"


def _warning(summary: str) -> Finding:
    return Finding(check=CHECK, severity="warning", summary=summary, remedy=_REMEDY)


def _figures(record: RunRecord) -> str:
    counts = record.counts()
    told = [
        "verified" if record.verified else "not verified",
        amount(record.source_bytes, "bytes"),
        f"{counts['blocker']} blocker(s) and {counts['warning']} warning(s)",
    ]
    if record.predicted:
        told.append(f"a downtime of {record.predicted['seconds']:,.0f} s predicted")
    return ", ".join(told)


def _other_ways(rehearsals: Iterable[RunRecord]) -> str:
    ways = dict.fromkeys(f"{each.source_release} to {each.target_release}" for each in rehearsals)
    return f", but {', '.join(ways)} was" if ways else ""
