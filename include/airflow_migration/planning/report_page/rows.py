"""Where the source's rows are, and how it was proven."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_migration.planning.report_page.figures import duration, several
from airflow_migration.planning.report_page.markup import (
    NOTHING,
    Html,
    Node,
    joined,
    listing,
    more,
    section,
    table,
    tag,
)

LEDGER_NAMES = ("Table", "Rows in", "Rows out", "What became of the difference")


def ledger(entries: Sequence[Mapping[str, Any]]) -> Html:
    """The section of the loss ledger, tables with a difference first."""
    told = [entry for entry in entries if _causes(entry) or entry["unaccounted"]]
    same = [entry for entry in entries if entry not in told]
    lost = sum(max(entry["unaccounted"], 0) for entry in entries)
    rows = sum(entry["rows_in"] for entry in entries)
    sentence = f"{several(rows, 'row')} in {several(len(entries), 'table')} of the source."
    return section(
        "ledger",
        "Where every row of the source is",
        tag("p", sentence, " ", tag("b", f"✕ {lost:,} unaccounted for.") if lost else "✓ All are accounted for.")
        if entries
        else None,
        table("Tables with a difference", LEDGER_NAMES, map(_entry, told)),
        more(
            f"{several(len(same), 'table')} with all rows there",
            table("Tables without a difference", LEDGER_NAMES[:3], (_entry(entry)[:3] for entry in same)),
        ),
    )


def _causes(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*entry["causes"], *entry["changed"], *entry["nulled"]]


def _entry(entry: Mapping[str, Any]) -> tuple[Node, ...]:
    lines: list[Node] = [f"{_difference(cause['rows'])} {cause['cause']}" for cause in entry["causes"]]
    lines += [f"{cause['rows']:,} in place: {cause['cause']}" for cause in (*entry["changed"], *entry["nulled"])]
    if entry["unaccounted"]:
        lines.insert(0, tag("b", f"✕ {entry['unaccounted']:,} unaccounted for"))
    name, after = entry["table"], entry["table_after"]
    name += f" → {after}" if after not in (None, name) else ""
    return name, entry["rows_in"], entry["rows_out"], joined(lines, "<br>")


def _difference(left: int) -> str:
    """:param left: rows that have left the table; negative when they came to it"""
    return f"+{-left:,}" if left < 0 else f"\N{MINUS SIGN}{left:,}"


def verification(result: Mapping[str, Any] | None) -> Html:
    """The section of the verification."""
    if not result:
        return NOTHING
    problems = [str(problem) for problem in result.get("problems", ())]
    contents = result.get("contents") or ()
    explained = [each for each in contents if any(each.get(name) for name in ("missing", "added", "changed"))]
    names = ("Table", "Rows", "Missing", "Added", "Changed", "Explained by")
    return section(
        "verification",
        "Verification",
        tag("p", "✓ The upgraded database holds what the frozen copy holds.") if result["verified"] else None,
        tag("div", listing(problems), class_="trouble") if problems else None,
        listing(_sentences(result)),
        more(
            f"{several(len(explained), 'table')} in which rows differ for a known cause",
            table("Rows that differ", names, map(_content, explained)),
        ),
        more(
            "Questions to the target's own commands",
            table(
                "Answers of the target's own release",
                ("Command", "Answer", "As expected"),
                ((each["command"], each["finding"], _yes(each["matches"])) for each in result.get("samples", ())),
            ),
        ),
    )


def _sentences(result: Mapping[str, Any]) -> Iterator[str]:
    contents, encrypted = result.get("contents") or (), result.get("encrypted")
    if contents:
        rows = sum(each["rows"] for each in contents)
        yield f"{several(rows, 'row')} of {several(len(contents), 'table')} compared value by value."
    if encrypted:
        yield f"{encrypted['readable']:,} of {encrypted['encrypted']:,} encrypted values read with the target's key."
    heads = result.get("heads")
    if heads:
        same = "as" if heads["found"] == heads["expected"] else "not as"
        yield f"Schema version {heads['found']}, {same} the target release has it."
    if "sequences" in result:
        behind = result["sequences"]["behind"]
        yield f"Sequences behind their ids: {', '.join(behind)}." if behind else "All sequences stand above their ids."
    if result.get("samples"):
        good = sum(bool(each["matches"]) for each in result["samples"])
        yield f"{good} of {len(result['samples'])} answers of the target's own commands are as expected."
    if result.get("seconds") is not None:
        yield f"All of it took {duration(result['seconds'])}."


def _content(each: Mapping[str, Any]) -> tuple[Node, ...]:
    return each["table"], each["rows"], each["missing"], each["added"], each["changed"], each.get("cause") or "a repair"


def _yes(answer: object) -> str:
    return "✓ yes" if answer else "✕ no"
