"""The end of the demo: what the report says, in tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(console: Console, report: dict[str, Any], path: Path) -> None:
    """Print hops, rows, repairs, verification and downtime."""
    for error in (step for step in report["steps"] if step["error"]):
        said = error["error"]
        console.print(f"[red]{error['task_id']}[/red]: {said['where']}: {said['problem']}. {said['remedy']}.")
    results = {step["task_id"]: step["result"] for step in report["steps"] if step["result"]}
    console.print()
    if report["plan"]:
        _print_plan(console, report["plan"], results)
    if report["repairs"]:
        _print_repairs(console, report["repairs"])
    if report["ledger"]:
        _print_ledger(console, report["ledger"])
    for problem in (report["verification"] or {}).get("problems", ()):
        console.print(f"[red]{problem}[/red]")
    handed = results.get("unpause_dags")
    if handed:
        console.print(f"Active again: {handed['unpaused']} DAG(s)")
    if report["downtime"]:
        console.print(f"Downtime: {report['downtime']['seconds']:.1f} s (without the drain)")
    for sentence in report["left_to_do"]:
        console.print(f"To know: {sentence}", soft_wrap=True)
    colour = "green" if report["verified"] else "red"
    console.print(f"Verified: [{colour}]{'yes' if report['verified'] else 'no'}[/{colour}]")
    console.print(f"Report: {path}", soft_wrap=True)


def _print_plan(console: Console, plan: dict[str, Any], results: dict[str, Any]) -> None:
    path = " → ".join([plan["source_release"], *(hop["release"] for hop in plan["hops"])])
    console.print(f"Path: {path}, transfer: {plan['transfer']}")
    for hop in plan["hops"]:
        done = results.get(f"upgrade_{hop['number']}")
        if done:
            slowest = sorted(done["revisions"], key=lambda each: -each["seconds"])[:1]
            named = f", slowest {slowest[0]['revision']} {slowest[0]['seconds']:.1f} s" if slowest else ""
            console.print(
                f"Hop {hop['number']}: {hop['release']}, {len(done['revisions'])} revisions"
                f" in {done['seconds']:.1f} s{named}"
            )


def _print_repairs(console: Console, repairs: list[dict[str, Any]]) -> None:
    table = Table("before hop", "repair", "rows", "what", title="Repairs", title_justify="left")
    for each in repairs:
        shown = "\n".join([*each["details"][:4], *(["…"] if len(each["details"]) > 4 else [])])
        table.add_row(each["before_hop"], each["id"], f"{each['count']:,}", shown)
    console.print(table)


def _print_ledger(console: Console, ledger: list[dict[str, Any]]) -> None:
    table = Table("table", "rows in", "rows out", "difference", "unaccounted", title="Ledger", title_justify="left")
    for each in ledger:
        if not each["rows_in"] and not each["rows_out"]:
            continue
        causes = "\n".join(
            f"{cause['rows']:,} {cause['cause']}" for cause in (*each["causes"], *each["changed"], *each["nulled"])
        )
        before, after = each["table"], each["table_after"]
        shown = before if after in (None, before) else f"{before} → {after}"
        table.add_row(shown, f"{each['rows_in']:,}", f"{each['rows_out']:,}", causes, f"{each['unaccounted']:,}")
    console.print(table)
