"""Take out of a report what `run_records` keeps of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_migration.metadata.findings import SEVERITIES
from airflow_migration.planning.report import FILE_CHECKS, MIGRATION, PAUSE, REHEARSAL, UNPAUSE, VERIFY
from airflow_migration.planning.run_records import Pair, RecordedFinding, RecordedRevision, RunRecord

COPY, CLONE_TASK, RESTORE = "copy_source", "clone_database", "restore_database"


def pair_of(plan: Mapping[str, Any]) -> Pair:
    """:param plan: as JSON"""
    ends = {
        end: f"{str(plan[f'{end}_server']).partition(' ')[0]}/{plan[f'{end}_database']}" for end in ("source", "target")
    }
    return Pair(**ends)


def record_of(report: Mapping[str, Any]) -> RunRecord | None:
    """What is kept of a report; None of one that tells nothing: without a plan, or of a migration without an end."""
    plan, downtime = report["plan"], report.get("downtime")
    if not plan or (report["kind"] == MIGRATION and not downtime):
        return None
    pair = pair_of(plan)
    done = {step["task_id"]: step for step in report["steps"] if step.get("result")}
    told = report.get("prediction") or plan.get("prediction")
    return RunRecord(
        **{name: report[name] for name in ("kind", "run_id", "started", "finished", "status", "verified")},
        source=pair.source,
        target=pair.target,
        **{name: plan[name] for name in ("source_release", "source_head", "target_release", "transfer")},
        options=_options(plan),
        source_bytes=plan["source_size"],
        findings=group_findings(plan["findings"]),
        files=tuple(name for name in FILE_CHECKS.values() if report.get(name)),
        file_findings=group_findings(report["findings"][len(plan["findings"]) :]),
        steps={name: step["seconds"] for name, step in done.items() if not _was_done(name, step["result"])},
        revisions=tuple(_revisions(done)),
        **_template(done, report["kind"]),
        history_seconds=((done.get(RESTORE) or {"result": {}})["result"].get("history") or {}).get("seconds", 0.0),
        between=_between(report),
        downtime=downtime["seconds"] if downtime else None,
        predicted=told_by(told),
    )


def told_by(prediction: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is kept of a prediction."""
    return {name: prediction[name] for name in ("seconds", "low", "high")} if prediction else None


def _options(plan: Mapping[str, Any]) -> dict[str, Any]:
    asked = plan["options"]
    repairs = asked.get("repairs")
    return {
        "history_days": asked.get("history_days"),
        "fernet": plan["fernet"],
        "repairs": repairs if isinstance(repairs, str) else list(repairs or ()),
    }


def group_findings(findings: Iterable[Mapping[str, Any]]) -> tuple[RecordedFinding, ...]:
    """:param findings: as JSON"""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for finding in findings:
        if finding["severity"] != "ok":
            groups.setdefault(finding["check"], []).append(finding)
    return tuple(
        RecordedFinding(
            check=check,
            severity=max((each["severity"] for each in group), key=SEVERITIES.index),
            count=sum(each["count"] for each in group),
            summary="; ".join(each["summary"] for each in group),
        )
        for check, group in groups.items()
    )


def _was_done(name: str, result: Any) -> bool:
    """Whether a task that was tried again has found its work done, so that its seconds measure nothing."""
    if not isinstance(result, Mapping):
        return False
    return bool(result.get("reused")) or (name.startswith("upgrade_") and not result["revisions"])


def _revisions(done: Mapping[str, Mapping[str, Any]]) -> Iterator[RecordedRevision]:
    for name, step in done.items():
        if name.startswith("upgrade_"):
            for each in step["result"]["revisions"]:
                yield RecordedRevision(step=name, release=step["result"]["release"], **each)


def _template(done: Mapping[str, Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """Of the copy by template: a rehearsal's second one, a migration's first."""
    step = done.get(RESTORE if kind == REHEARSAL else CLONE_TASK)
    if step is None or step["result"]["reused"]:
        return {}
    return {"template_bytes": step["result"]["bytes"], "template_seconds": step["result"]["seconds"]}


def _between(report: Mapping[str, Any]) -> float:
    """Over the tasks that every run of its kind has, one after the other; the first only starts the clock."""
    first, last = (COPY, VERIFY) if report["kind"] == REHEARSAL else (PAUSE, UNPAUSE)
    steps: Sequence[Mapping[str, Any]] = report["steps"]
    names = [step["task_id"] for step in steps]
    if first not in names or last not in names:
        return 0.0
    chain = steps[names.index(first) : names.index(last) + 1]
    if len(chain) < 2 or not (chain[0].get("started") and chain[-1].get("finished")):
        return 0.0
    whole = datetime.fromisoformat(chain[-1]["finished"]) - datetime.fromisoformat(chain[0]["started"])
    busy = sum(float(step.get("seconds", 0.0)) for step in chain)
    return round(max(0.0, whole.total_seconds() - busy) / (len(chain) - 1), 3)
