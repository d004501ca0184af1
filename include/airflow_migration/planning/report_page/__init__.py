"""The report as a page for people: one file that needs nothing else, on a phone, a wide screen and on paper."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from airflow_migration.planning.report import ROLL_BACK
from airflow_migration.planning.report_page.comparison import comparison
from airflow_migration.planning.report_page.findings import findings, repairs
from airflow_migration.planning.report_page.markup import NOTHING, Html, Node, facts, joined, listing, section, tag
from airflow_migration.planning.report_page.outlook import forecast
from airflow_migration.planning.report_page.plan import plan, rehearsed
from airflow_migration.planning.report_page.rows import ledger, verification
from airflow_migration.planning.report_page.timeline import timeline
from airflow_migration.planning.report_page.times import downtime, prediction
from airflow_migration.planning.report_page.user_files import configuration, dag_files
from airflow_migration.planning.report_page.verdict import header, kind_of, title_of

__all__ = ["page_of", "plain_page"]

PARTS = {
    "plan": "Plan",
    "rehearsal": "Rehearsal",
    "timeline": "Timeline",
    "prediction": "Predicted downtime",
    "comparison": "What is new",
    "findings": "Findings",
    "repairs": "Repairs",
    "dag-files": "DAG files",
    "configuration": "Configuration",
    "ledger": "Rows",
    "verification": "Verification",
    "downtime": "Downtime",
    "forecast": "How DAGs go on",
    "taken-back": "Taken back",
    "left-to-do": "Left to do",
}
"""Id of each section → its name among the contents, in their order."""


def page_of(report: Mapping[str, Any]) -> str:
    """HTML of a report of any kind, as `build_report` and `build_roll_back_report` make it, also of an older schema.

    It holds no script and loads nothing.
    """
    sections = [made for made in _sections(report) if made]
    return _document(title_of(report), header(report), _contents(sections), *sections, _footer(report))


def plain_page(report: Mapping[str, Any]) -> str:
    """HTML of anything, should `page_of` not know what to make of it."""
    text = json.dumps(report, indent=2, ensure_ascii=False, default=str)
    sentence = "This report has something in it that its page cannot lay out. All of it is here as it was written."
    return _document("Report", tag("header", tag("h1", "Report"), tag("p", sentence)), tag("pre", text))


def _document(title: str, *content: Html) -> str:
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">'),
        tag("title", title),
        Html(f"<style>{style()}</style>"),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *content)), lang='en')}\n"


@cache
def style() -> str:
    """The page's only style sheet, so that a content security policy can name its hash."""
    return files(__package__).joinpath("style.css").read_text(encoding="utf-8")


def _sections(report: Mapping[str, Any]) -> Iterable[Html]:
    yield plan(report)
    yield rehearsed(report)
    yield timeline(report)
    yield prediction(report.get("prediction"))
    yield comparison(report.get("comparison"))
    yield findings(report.get("findings") or ())
    yield repairs(report.get("repairs") or ())
    yield dag_files(report.get("dag_files"))
    yield configuration(report.get("configuration"))
    yield ledger(report.get("ledger") or ())
    yield verification(report.get("verification"))
    yield downtime(report)
    yield forecast(report.get("forecast"))
    yield _taken_back(report)
    yield section("left-to-do", "Left to do", listing(map(str, report.get("left_to_do") or ())))


def _taken_back(report: Mapping[str, Any]) -> Html:
    if kind_of(report) != ROLL_BACK:
        return NOTHING
    pairs = [
        ("DAGs active on the source", report.get("dags_active")),
        ("DAGs that are gone", listing(report.get("dags_missing") or ())),
        ("Runs of the target that are lost", report.get("lost_runs")),
        ("Dropped", listing(report.get("dropped") or ())),
        ("Kept", listing(report.get("kept") or ())),
    ]
    return section("taken-back", "What was taken back", facts(pairs))


def _contents(sections: Iterable[Html]) -> Html:
    there = [id for id in PARTS if any(made.startswith(f'<section id="{id}"') for made in sections)]
    links: list[Node] = [tag("a", PARTS[id], href=f"#{id}") for id in there]
    return tag("nav", joined(links, " "), aria_label="Contents")


def _footer(report: Mapping[str, Any]) -> Html:
    version = report.get("package_version")
    return tag("footer", f"Written by airflow-provider-migration {version}. ", "report.json beside it has all of this.")
