"""The picture of the steps: true to scale, except for waits, which it shortens and says so."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from airflow_migration.planning.report_page.figures import duration, moment, period
from airflow_migration.planning.report_page.timeline import LARGEST_WAIT, Bar, scale_of, timeline, waits_between

BEGIN = datetime(2026, 11, 22, 2, tzinfo=timezone.utc)


def bar(name: str, start: float, end: float) -> Bar:
    return Bar(name=name, kind="bar", start=BEGIN + timedelta(seconds=start), end=BEGIN + timedelta(seconds=end))


def row(name: str, start: float, end: float) -> dict[str, object]:
    made = bar(name, start, end)
    return {"task_id": name, "started": made.start.isoformat(), "finished": made.end.isoformat()}


def test_bars_without_waits_are_true_to_scale() -> None:
    bars = [bar("a", 0, 10), bar("b", 10, 40)]
    scale = scale_of(bars, waits_between(bars))
    assert [scale.at(each.end) for each in bars] == [25.0, 100.0]


def test_a_night_of_waiting_takes_its_share_and_no_more() -> None:
    bars = [bar("preflight", 0, 10), bar("pause_dags", 30_010, 30_020), bar("upgrade_1", 30_020, 30_100)]
    waits = waits_between(bars, approved=True)
    scale = scale_of(bars, waits)
    assert [(wait.name, wait.seconds) for wait in waits] == [("waiting for approval", 30_000)]
    share = (scale.at(waits[0].end) - scale.at(waits[0].start)) / 100
    assert share == pytest.approx(LARGEST_WAIT / (1 + LARGEST_WAIT), abs=1e-4)
    assert scale.at(bars[-1].end) == 100.0


def test_no_one_waits_while_another_step_runs() -> None:
    bars = [bar("long", 0, 100), bar("short", 1, 2), bar("next", 101, 102)]
    assert waits_between(bars) == []


def test_a_wait_between_steps_is_not_taken_for_an_approval() -> None:
    bars = [bar("preflight", 0, 1), bar("pause_dags", 60, 61), bar("drain_running_tasks", 120, 121)]
    assert [wait.name for wait in waits_between(bars)] == ["waiting", "waiting"]
    assert [wait.name for wait in waits_between(bars, approved=True)] == ["waiting for approval", "waiting"]


def test_a_step_that_took_no_time_is_still_seen_and_nothing_leaves_the_picture() -> None:
    steps = [
        row("preflight", 0, 0),
        row("pause_dags", 7000, 7000),
        row("upgrade_1", 7000, 7100),
        row("verify", 7100, 7100),
    ]
    picture = timeline({"status": "failed", "steps": steps})
    places = [
        (float(x), float(width)) for x, width in re.findall(r'<rect x="([\d.]+)%" y="\d+" width="([\d.]+)%"', picture)
    ]
    assert len(places) == 4
    assert all(width >= 0.6 and 0 <= x <= 100 - width for x, width in places)
    assert "drawn shorter" in picture


def test_one_step_alone_is_drawn() -> None:
    assert "preflight" in timeline({"status": "failed", "steps": [row("preflight", 0, 0)]})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "under 0.1 s"), (0.3, "0.3 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"),
        (70, "1 min 10 s"), (3599.7, "1 h"), (3660, "1 h 1 min"), (86_399.9, "1 d"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_seconds_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_moments_are_told_in_utc_and_a_day_once() -> None:
    assert moment("2026-11-22T04:00:05+02:00") == "22 Nov 2026, 02:00:05 UTC"
    assert moment("yesterday") == "yesterday"
    assert moment(None) is None
    assert period("2026-11-02T02:00:00+00:00", "2026-11-02T03:00:00+00:00") == "2 Nov 2026, 02:00:00 to 03:00:00 UTC"
    assert period("2026-11-22T23:00:00+00:00", "2026-11-23T00:00:00+00:00") == (
        "22 Nov 2026, 23:00:00 to 23 Nov 2026, 00:00:00 UTC"
    )
    assert period(None, "2026-11-22T02:00:00+00:00") == "22 Nov 2026, 02:00:00 UTC"
