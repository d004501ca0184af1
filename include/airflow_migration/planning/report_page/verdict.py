"""What came of the run, in one sentence and a few figures, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_migration.planning.report import MIGRATION, REHEARSAL, ROLL_BACK, VERIFY
from airflow_migration.planning.report_page.figures import between, duration, period, several
from airflow_migration.planning.report_page.markup import NOTHING, Html, Node, facts, joined, tag

KINDS = {MIGRATION: "Migration", REHEARSAL: "Rehearsal", ROLL_BACK: "Roll back"}
MARKS = {"good": "✓", "warn": "!", "bad": "✕"}

Report = Mapping[str, Any]


def kind_of(report: Report) -> str:
    """Reports of schema version 1 do not say."""
    return str(report.get("kind") or (ROLL_BACK if "source_resumed" in report else MIGRATION))


def name_of(report: Report) -> str:
    """The run, by its id; reports of schema version 1 have the migration's."""
    return str(report.get("run_id") or report["migration_id"])


def title_of(report: Report) -> str:
    """Run and verdict in a line."""
    return f"{KINDS.get(kind_of(report), 'Run')} {name_of(report)}: {verdict(report)[1]}"


def header(report: Report) -> Html:
    """The top of the page."""
    kind = kind_of(report)
    state, sentence = verdict(report)
    mark = tag("span", MARKS[state], class_="mark", aria_hidden="true")
    return tag(
        "header",
        tag("p", KINDS.get(kind, kind), class_="kind"),
        tag("h1", mark, " ", sentence),
        tag("p", *_run(report), class_="run soft"),
        facts(_figures(report), class_="figures"),
        joined(_trouble(*each) for each in troubles(report)),
        _left(report),
        class_=state,
    )


def verdict(report: Report) -> tuple[str, str]:
    """``good``, ``warn`` or ``bad``, and why in a sentence."""
    kind = kind_of(report)
    failed = failed_steps(report)
    if report["status"] == "success":
        return _success(report, kind, failed)
    if kind == ROLL_BACK:
        return "bad", f"Not taken back yet: it stopped at {failed[0]}" if failed else "Not taken back yet"
    verification = report.get("verification")
    if verification and not verification["verified"]:
        return "bad", "Stopped: the upgraded database does not hold what the source held"
    blockers = count_of(report, "blocker")
    if not report.get("plan") and blockers:
        return "bad", f"Refused before anything was touched: {several(blockers, 'blocker')}"
    what = "rehearsal" if kind == REHEARSAL else "migration"
    return "bad", f"The {what} stopped at {failed[0]}" if failed else f"The {what} did not come to its end"


def failed_steps(report: Report) -> list[str]:
    """Tasks that have left an error, in the order of the steps."""
    return [step["task_id"] for step in report["steps"] if step.get("error")]


def _success(report: Report, kind: str, failed: Sequence[str]) -> tuple[str, str]:
    if kind == ROLL_BACK:
        return "good", "Taken back: the source is in charge again"
    if kind == MIGRATION:
        return "good", "Migrated, and every row is accounted for"
    if failed:
        return "warn", f"The copy was migrated and verified, but {' and '.join(failed)} failed"
    blockers = count_of(report, "blocker")
    if blockers:
        return "warn", f"The rehearsal went well, but {several(blockers, 'blocker')} would refuse the migration itself"
    return "good", "Rehearsed: the migration would go well today"


def count_of(report: Report, severity: str) -> int:
    return sum(finding["severity"] == severity for finding in report.get("findings", ()))


def troubles(report: Report) -> Iterator[tuple[str, str, str]]:
    """Place, problem and remedy of each thing that went wrong, the first first."""
    for step in report["steps"]:
        error = step.get("error")
        if error:
            yield step["task_id"], problem_in_place(step["task_id"], error), error["remedy"]
    if VERIFY not in failed_steps(report):
        for problem in (report.get("verification") or {}).get("problems", ()):
            yield VERIFY, problem, ""


def problem_in_place(task_id: str, error: Mapping[str, str]) -> str:
    """A problem with the connection, database or file that it is about."""
    where = error.get("where")
    return error["problem"] if where in (None, "", task_id) else f"{where}: {error['problem']}"


def _run(report: Report) -> Iterator[str]:
    yield name_of(report)
    if kind_of(report) == ROLL_BACK and report.get("run_id"):
        yield f", of migration {report['migration_id']}"
    seen = [step for step in report["steps"] if step.get("started")]
    first, last = (seen[0]["started"], seen[-1]["finished"]) if seen else (None, None)
    when = period(report.get("started") or first, report.get("finished") or last)
    if when:
        yield f" · {when}"


def _figures(report: Report) -> Iterator[tuple[str, Node]]:
    if kind_of(report) == ROLL_BACK:
        yield "DAGs active on the source", _number(report.get("dags_active"))
        yield "Runs of the target lost", _number(report.get("lost_runs"))
        return
    downtime, prediction = report.get("downtime"), report.get("prediction")
    yield "Verified", "yes" if report["verified"] else "no"
    if prediction:
        spread = between(prediction)
        small = tag("small", spread) if spread else None
        yield "Predicted downtime", joined([duration(prediction["seconds"]), small], " ")
    elif downtime:
        yield "Downtime", duration(downtime["seconds"])
    ledger = report.get("ledger") or ()
    if ledger:
        yield "Rows accounted for", f"{sum(entry['rows_in'] - max(entry['unaccounted'], 0) for entry in ledger):,}"
    for severity in ("blocker", "warning"):
        count = count_of(report, severity)
        yield f"{severity.capitalize()}s", f"{count:,}" if count else None


def _number(count: int | None) -> str | None:
    return None if count is None else f"{count:,}"


def _trouble(where: str, problem: str, remedy: str) -> Html:
    text = tag("p", tag("span", where, class_="name"), ": ", problem)
    return tag("div", text, tag("p", remedy) if remedy else None, class_="trouble")


def _left(report: Report) -> Html:
    count = len(report.get("left_to_do") or ())
    if not count:
        return NOTHING
    return tag("p", tag("a", several(count, "thing"), href="#left-to-do"), " left to do for a person.")
