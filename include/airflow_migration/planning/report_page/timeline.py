"""A picture of when each step ran, and of when nothing did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_migration.planning.report import PAUSE, UNPAUSE
from airflow_migration.planning.report_page.figures import duration, moment
from airflow_migration.planning.report_page.markup import NOTHING, Html, joined, more, section, table, tag
from airflow_migration.planning.report_page.verdict import failed_steps

ROW, TRACK_AT, THICK = 36, 20, 9
LONG_WAIT = 5.0
"""Seconds from which a wait between two steps is shown; starting a task takes a few."""
CUT = "⫽"
LARGEST_WAIT = 0.25
"""Largest share of the picture's width for one wait: a plan that waited a night for approval hides nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """:param kind: ``bar`` for a step, ``wait`` for a time in which nothing ran, ``paused`` for the cut-over"""

    name: str
    kind: str
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Moments to percents of the width; long waits are shortened.

    :param cuts: start, end and seconds to take out of each shortened wait
    """

    begin: datetime
    seconds: float
    cuts: tuple[tuple[datetime, datetime, float], ...]

    def at(self, moment: datetime) -> float:
        passed = (moment - self.begin).total_seconds()
        for start, end, out in self.cuts:
            if moment > start:
                whole = (end - start).total_seconds()
                passed -= out * min((moment - start).total_seconds() / whole, 1.0)
        return round(100 * passed / self.seconds, 3)


def timeline(report: Mapping[str, Any]) -> Html:
    """The section of the steps."""
    steps = report["steps"]
    ran = [_bar(step) for step in steps if step.get("started")]
    failed = failed_steps(report)
    idle = [step["task_id"] for step in steps if not step.get("started") and step["task_id"] not in failed]
    word = "Not needed" if report["status"] == "success" else "Did not run, or was not needed"
    rows = [(bar.name, moment(bar.start.isoformat()), duration(bar.seconds)) for bar in ran]
    return section(
        "timeline",
        "Timeline",
        _picture(sorted(ran, key=lambda bar: bar.start), failed, approved=_is_approved(report)),
        tag("p", f"{word}: {', '.join(idle)}.", class_="soft") if idle else None,
        more("The same as a table", table("Steps in their order", ("Step", "Started", "Took"), rows)),
    )


def _bar(step: Mapping[str, Any]) -> Bar:
    start = datetime.fromisoformat(step["started"])
    end = datetime.fromisoformat(step["finished"]) if step.get("finished") else start
    return Bar(name=step["task_id"], kind="bar", start=start, end=end)


def waits_between(bars: Sequence[Bar], *, approved: bool = False) -> list[Bar]:
    """The times in which no step ran, where they are long.

    :param bars: in the order of their start
    :param approved: a person had to approve the plan before the DAGs were paused
    """
    found: list[Bar] = []
    until = bars[0].end
    for bar in bars[1:]:
        if (bar.start - until).total_seconds() >= LONG_WAIT:
            # A person's answer has no step of its own in a report.
            name = "waiting for approval" if approved and bar.name == PAUSE else "waiting"
            found.append(Bar(name=name, kind="wait", start=until, end=bar.start))
        until = max(until, bar.end)
    return found


def scale_of(bars: Sequence[Bar], waits: Sequence[Bar]) -> Scale:
    """:param waits: those which may be shortened"""
    begin, end = min(bar.start for bar in bars), max(bar.end for bar in bars)
    whole = (end - begin).total_seconds()
    busy = whole - sum(wait.seconds for wait in waits)
    most = max(busy * LARGEST_WAIT, LONG_WAIT)
    cuts = tuple((wait.start, wait.end, wait.seconds - most) for wait in waits if wait.seconds > most)
    return Scale(begin=begin, seconds=max(whole - sum(out for _, _, out in cuts), 0.001), cuts=cuts)


def _is_approved(report: Mapping[str, Any]) -> bool:
    return bool(((report.get("plan") or {}).get("options") or {}).get("require_approval"))


def _picture(bars: Sequence[Bar], failed: Sequence[str], *, approved: bool) -> Html:
    if not bars:
        return NOTHING
    waits = waits_between(bars, approved=approved)
    scale = scale_of(bars, waits)
    lines = sorted([*_cut_over(bars), *bars, *waits], key=lambda bar: (bar.start, bar.kind != "paused"))
    drawn = [_row(bar, scale, number, bar.name in failed) for number, bar in enumerate(lines)]
    without = [name for name in failed if name not in {bar.name for bar in bars}]
    drawn += [_failure(name, len(lines) + number) for number, name in enumerate(without)]
    title, description = "Timeline of the steps", _in_words(bars, waits, failed)
    picture = tag(
        "svg",
        tag("title", title, id="timeline-title"),
        tag("desc", description, id="timeline-description"),
        joined(drawn),
        class_="timeline",
        role="img",
        aria_labelledby="timeline-title timeline-description",
        height=ROW * len(drawn),
    )
    return joined([picture, tag("p", f"{CUT} drawn shorter than it was.", class_="soft") if scale.cuts else None])


def _cut_over(bars: Sequence[Bar]) -> Iterator[Bar]:
    named = {bar.name: bar for bar in bars}
    if PAUSE in named and UNPAUSE in named:
        yield Bar(name="DAGs paused", kind="paused", start=named[PAUSE].start, end=named[UNPAUSE].end)


def _row(bar: Bar, scale: Scale, number: int, failed: bool) -> Html:
    """One line of text, and its bar below it; widths are percents, so that text keeps its size on a phone."""
    top = number * ROW
    left, right = scale.at(bar.start), scale.at(bar.end)
    soft = None if bar.kind == "bar" else "soft"
    cut = f"{CUT} " if any(start == bar.start for start, _, _ in scale.cuts) and bar.kind == "wait" else ""
    return joined(
        [
            tag("text", "✕ " if failed else None, bar.name, x=0, y=top + 14, class_="mark" if failed else soft),
            tag("text", cut + duration(bar.seconds), x="100%", y=top + 14, text_anchor="end", class_=soft),
            tag("rect", x=0, y=top + TRACK_AT, width="100%", height=THICK, rx=4, class_="track"),
            _mark(bar.kind, left, max(right - left, 0.6), top + TRACK_AT),
        ]
    )


def _mark(kind: str, left: float, width: float, top: int) -> Html:
    left = min(left, 100 - width)
    if kind == "wait":
        middle = top + THICK / 2
        return tag("line", x1=f"{left}%", x2=f"{left + width}%", y1=middle, y2=middle, class_="wait")
    return tag("rect", x=f"{left}%", y=top, width=f"{width}%", height=THICK, rx=3, class_=kind)


def _failure(name: str, number: int) -> Html:
    return tag("text", f"✕ {name} failed", x=0, y=number * ROW + 14, class_="mark")


def _in_words(bars: Sequence[Bar], waits: Sequence[Bar], failed: Sequence[str]) -> str:
    longest = max(bars, key=lambda bar: bar.seconds)
    words = [f"{len(bars)} steps; the longest is {longest.name} with {duration(longest.seconds)}."]
    words += [f"{wait.name}: {duration(wait.seconds)}." for wait in waits]
    return " ".join([*words, *([f"Failed: {', '.join(failed)}."] if failed else [])])
