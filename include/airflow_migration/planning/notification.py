"""What people are told of a run where they are: the verdict, what stands in the way, and where the report is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from airflow_migration.planning.report_page.figures import duration, period, several, span
from airflow_migration.planning.report_page.verdict import problem_in_place, title_of, troubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """:param subject: one line
    :param lines: the text, in plain words
    """

    subject: str
    lines: tuple[str, ...]

    @property
    def html(self) -> str:
        return "".join(f"<p>{escape(line)}</p>" for line in self.lines)

    @property
    def slack(self) -> str:
        """Slack's own markup knows three characters (https://docs.slack.dev/messaging/formatting-message-text)."""
        return "\n".join(escape(line, quote=False) for line in (self.subject, *self.lines))


def notification_of(report: Mapping[str, Any], *, path: str, link: str | None) -> Notification:
    """:param path: of ``report.json``
    :param link: to the report in the UI; None where Airflow's own address is not known
    """
    lines = [*_when(report), *_told(troubles(report)), *_figures(report)]
    return Notification(
        subject=_line(title_of(report)),
        lines=tuple(_line(line) for line in [*lines, f"Report: {link}" if link else None, f"File: {path}"] if line),
    )


def notification_without_report(
    *, dag_id: str, run_id: str, errors: Mapping[str, Mapping[str, str]], link: str | None
) -> Notification:
    """Of a run that ended before there was anything to report, or whose report could not be written.

    :param errors: task id → problem, where, remedy
    :param link: to the run in the UI
    """
    found = ((name, problem_in_place(name, error), error["remedy"]) for name, error in errors.items())
    lines = _told(found)
    last = f"Run: {link}" if link else "The log of the run's tasks says more"
    return Notification(
        subject=_line(f"{dag_id} {run_id}: it has no report"), lines=tuple(_line(line) for line in [*lines, last])
    )


def _when(report: Mapping[str, Any]) -> Iterator[str]:
    when = period(report.get("started"), report.get("finished"))
    if when:
        yield when


def _told(found: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    """The first problem with its remedy, and how many more there are."""
    told = list(found)
    for where, problem, remedy in told[:1]:
        yield f"{where}: {problem}"
        if remedy:
            yield f"What to do: {remedy}"
    if len(told) > 1:
        yield f"And {several(len(told) - 1, 'more problem')}"


def _figures(report: Mapping[str, Any]) -> Iterator[str]:
    downtime, prediction = report.get("downtime"), report.get("prediction")
    if prediction:
        yield f"Predicted downtime: {span(prediction)}"
    if downtime:
        yield f"Downtime: {duration(downtime['seconds'])}"
    if report.get("lost_runs") is not None:
        yield f"{several(report['lost_runs'], 'run')} of the target are lost"
    left = len(report.get("left_to_do") or ())
    if left:
        yield f"Left to do for a person: {several(left, 'thing')}"


def _line(text: str) -> str:
    """One line: a line break in a subject would begin another header."""
    return " ".join(text.split())
