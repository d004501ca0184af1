"""What is new since the rehearsal before, as `rehearsal_comparison.compare` tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_migration.planning.report_page.figures import moment, span
from airflow_migration.planning.report_page.markup import NOTHING, Html, Node, facts, listing, more, section, table, tag
from airflow_migration.progress import amount

FINDINGS = ("Check", "What", "Before", "Now")
SECONDS = ("What", "Seconds before", "Now")


def comparison(made: Mapping[str, Any] | None) -> Html:
    """The section; the first rehearsal has none."""
    if not made:
        return NOTHING
    changes = [change for kind in ("came", "went", "changed") for change in made["findings"][kind]]
    return section(
        "comparison",
        "What is new since the last rehearsal",
        tag("p", f"Beside {made['run_id']} of {moment(made['finished'])}", class_="soft"),
        listing(map(str, made["words"])),
        facts(_figures(made)),
        table("Findings that came, went or changed", FINDINGS, map(_finding, changes)),
        more("Seconds of each step", table("Seconds of each step", SECONDS, map(_seconds, made["steps"]))),
        more(
            "Revisions whose seconds differ most",
            table("Revisions whose seconds differ most", SECONDS, _revisions(made["revisions"])),
        ),
    )


def _figures(made: Mapping[str, Any]) -> Iterator[tuple[str, Node]]:
    size, downtime = made["source_bytes"], made["downtime"]
    yield "Size before", amount(size["before"], "bytes")
    yield "Size now", amount(size["now"], "bytes")
    for when in ("before", "now"):
        if downtime[when]:
            yield f"Predicted downtime {when}", span(downtime[when])


def _finding(change: Mapping[str, Any]) -> tuple[Node, ...]:
    return (
        str(change["check"]),
        str(change["summary"]),
        _counted(change["before"], change["count_before"]),
        _counted(change["now"], change["count"]),
    )


def _counted(severity: str | None, count: int) -> str:
    return f"{severity}, {count:,}" if severity else "in order"


def _seconds(difference: Mapping[str, Any]) -> tuple[Node, ...]:
    return str(difference["name"]), f"{difference['before']:,.1f}", f"{difference['now']:,.1f}"


def _revisions(differences: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Node, ...]]:
    for each in differences:
        name, *seconds = _seconds(each)
        yield f"{name} of {each['release']}: {each['title']}", *seconds
