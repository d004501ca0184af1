"""How long the DAGs were paused, and how long that was said to take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_migration.planning.report_page.figures import duration, span
from airflow_migration.planning.report_page.markup import NOTHING, Html, facts, section, table, tag


def downtime(report: Mapping[str, Any]) -> Html:
    """The section of the downtime; none before the end."""
    seen, compared = report.get("downtime"), report.get("prediction_and_truth")
    if not seen:
        return NOTHING
    pairs = [
        ("Downtime", tag("b", duration(seen["seconds"]))),
        ("Tasks that were let end", duration(seen["drain_seconds"])),
        ("All in all", f"{duration(seen['cut_over_seconds'])} from the first DAG paused to the last one active"),
        ("Predicted", None if not compared else _predicted(compared)),
    ]
    return section("downtime", "Downtime", facts(pairs))


def _predicted(compared: Mapping[str, Any]) -> str | None:
    if compared.get("predicted") is None:
        return None
    said = span({"seconds": compared["predicted"], "low": compared.get("low"), "high": compared.get("high")})
    low, high, measured = compared.get("low"), compared.get("high"), compared.get("measured")
    if low is None or high is None or measured is None:
        return said
    return f"{said}; {'as predicted' if low <= measured <= high else 'longer' if measured > high else 'shorter'}"


def prediction(made: Mapping[str, Any] | None) -> Html:
    """The section of what a rehearsal says of the cut-over."""
    if not made:
        return NOTHING
    runs = [str(each) for each in made.get("based_on") or ()]
    return section(
        "prediction",
        "Predicted downtime",
        tag("p", tag("b", span(made))),
        table(
            "Where it comes from",
            ("Step", "Seconds", "At least", "At most", "From"),
            map(_part, made.get("parts") or ()),
        ),
        table("With other params", ("Params", "Downtime"), map(_choice, made.get("choices") or ())),
        tag("p", f"Based on {', '.join(runs)}.", class_="soft") if runs else None,
    )


def _part(part: Mapping[str, Any]) -> tuple[str, ...]:
    seconds = (f"{part[name]:,.1f}" for name in ("seconds", "low", "high"))
    return str(part["step"]), *seconds, str(part["from"])


def _choice(choice: Mapping[str, Any]) -> tuple[str, str]:
    days = choice["history_days"]
    history = "all history" if days is None else f"history_days {days}"
    return f"transfer {choice['transfer']}, {history}, {'with' if choice['backup'] else 'without'} backup", span(choice)
