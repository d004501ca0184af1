"""The report as a page for people: one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 2rem } th { text-align: left }
th, td { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #d8dee4; vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums } .bad { color: #b3261e } .good { color: #1a7f37 }
"""


def page_of(report: Mapping[str, Any]) -> str:
    """HTML of a report, as `build_report` makes it."""
    state = "good" if report["status"] == "success" else "bad"
    verified = "verified" if report["verified"] else "not verified"
    parts = [
        f"<h1>Migration {escape(str(report['migration_id']))}</h1>",
        f'<p class="{state}"><b>{escape(str(report["status"]))}</b>, {verified}</p>',
        _downtime(report["downtime"]),
        _sentences("What went wrong", _errors(report)),
        _sentences("Left to do", report["left_to_do"]),
        _findings(report["findings"]),
        _repairs(report["repairs"]),
        _ledger(report["ledger"]),
        _steps(report["steps"]),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Migration</title><style>{_STYLE}</style>'
        f"</head><body>{''.join(parts)}</body></html>\n"
    )


def _downtime(downtime: Mapping[str, float] | None) -> str:
    if downtime is None:
        return ""
    return f"<p>Downtime {downtime['seconds']:,.0f} s, and {downtime['drain_seconds']:,.0f} s for tasks to end</p>"


def _errors(report: Mapping[str, Any]) -> Iterable[str]:
    yield from (report["verification"] or {}).get("problems", ())
    for step in report["steps"]:
        if step["error"]:
            yield f"{step['task_id']}: {step['error']['problem']}. {step['error']['remedy']}"


def _sentences(title: str, sentences: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in sentences)
    return f"<h2>{escape(title)}</h2><ul>{lines}</ul>" if lines else ""


def _findings(findings: Iterable[Mapping[str, Any]]) -> str:
    """What preflight found; what is in order is left out."""
    rows = [
        (
            escape(str(finding["check"])),
            f'<b class="bad">{finding["severity"]}</b>' if finding["severity"] == "blocker" else finding["severity"],
            escape(", ".join(finding["hops"])),
            f"{finding['count']:,}",
            "<br>".join(escape(str(each)) for each in (finding["summary"], *finding["evidence"])),
            escape(str(finding["remedy"])),
        )
        for finding in findings
        if finding["severity"] != "ok"
    ]
    return _table("What preflight found", ("check", "severity", "hops", "rows", "what", "what to do"), rows)


def _ledger(ledger: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for entry in ledger:
        causes = [*entry["causes"], *entry["changed"], *entry["nulled"]]
        lines = [f"{cause['rows']:,} {escape(str(cause['cause']))}" for cause in causes]
        if entry["unaccounted"]:
            lines.append(f'<b class="bad">{entry["unaccounted"]:,} unaccounted for</b>')
        name = escape(str(entry["table"]))
        if entry["table_after"] not in (None, entry["table"]):
            name += f" → {escape(str(entry['table_after']))}"
        rows.append((name, f"{entry['rows_in']:,}", f"{entry['rows_out']:,}", "<br>".join(lines)))
    return _table("Where every row of the source is", ("table", "rows in", "rows out", "difference"), rows)


def _repairs(repairs: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (
            escape(str(repair["id"])),
            f"{repair['count']:,}",
            escape(str(repair["before_hop"])),
            "<br>".join(escape(str(detail)) for detail in repair["details"]),
        )
        for repair in repairs
    ]
    return _table("Repairs", ("repair", "rows", "before hop", "details"), rows)


def _steps(steps: Iterable[Mapping[str, Any]]) -> str:
    rows = [(escape(str(step["task_id"])), f"{step['seconds']:,.1f}") for step in steps if "seconds" in step]
    return _table("Steps", ("step", "seconds"), rows)


def _table(title: str, names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """:param rows: cells that are HTML already"""
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>" if body else ""


def _cell(cell: str) -> str:
    number = ' class="number"' if cell.replace(",", "").replace(".", "").isdigit() else ""
    return f"<td{number}>{cell}</td>"
