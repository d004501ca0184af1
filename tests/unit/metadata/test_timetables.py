"""An old run's interval is what Airflow itself would infer from the schedule that the source recorded."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest

from airflow_migration.metadata.timetables import (
    RecordedSchedule,
    ScheduleError,
    interval_end,
    is_tick,
    read_schedule,
)

UTC = timezone.utc
CRONS: tuple[str, ...] = ("0 0 * * *", "30 2 * * *", "@hourly", "*/7 * * * *", "0 */2 * * *", "0 1 * * 1-5")
CRONS += ("@weekly", "@monthly", "@quarterly", "15 1,13 * * *", "0 0 29 2 *", "0 0 1 1 *", "0 0 L * *")
CRONS += ("5 * * * * 30",)
ZONES = (
    "UTC",
    "Europe/Amsterdam",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "+05:30",
    "-03:00",
)


def when(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def moments() -> list[datetime]:
    """Spread over ten years, and around the changes of clocks."""
    chance = random.Random(20261122)
    spread = [when("2018-01-01") + timedelta(seconds=chance.randrange(10 * 365 * 86400)) for _ in range(40)]
    changes = (
        "2026-03-29T01:00",
        "2026-10-25T01:00",
        "2026-03-08T07:00",
        "2026-11-01T06:00",
        "2026-04-04T15:00",
    )
    around = [when(change) + timedelta(minutes=30 * step) for change in changes for step in range(-6, 7)]
    return [*spread, *around, when("2021-05-05T10:07:33.123456")]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", CRONS)
def test_ends_are_those_that_airflow_infers(cron: str, zone: str) -> None:
    from airflow._shared.timezones.timezone import parse_timezone
    from airflow.models.dag import infer_automated_data_interval
    from airflow.timetables.interval import CronDataIntervalTimetable
    from pendulum import FixedTimezone

    offset = {"+05:30": 19800, "-03:00": -10800}.get(zone)
    theirs = CronDataIntervalTimetable(cron, FixedTimezone(offset) if offset else parse_timezone(zone))
    ours = read_schedule(f'"{cron}"', None, offset or zone)
    assert ours.kind == "cron"
    for moment in moments():
        assert interval_end(ours, moment) == infer_automated_data_interval(theirs, moment).end, moment


@pytest.mark.parametrize(
    ("column", "serialized", "kind"),
    [
        ("null", None, "exact"),
        ('"@once"', None, "exact"),
        ("@once", None, "exact"),
        ("None", None, "exact"),
        ('"Dataset"', None, "exact"),
        ("Asset", None, "exact"),
        ('"@daily"', None, "cron"),
        ("0 1 * * *", None, "cron"),
        ('{"type": "timedelta", "attrs": {"days": 1, "seconds": 0, "microseconds": 0}}', None, "delta"),
        ("1 day, 0:00:00", {"__type": "timedelta", "__var": 86400.0}, "delta"),
        (None, {"__type": "timedelta", "__var": 86400.0}, "delta"),
        (
            "0:05:00",
            {"__type": "airflow.timetables.interval.DeltaDataIntervalTimetable", "__var": {"delta": 300}},
            "delta",
        ),
        (None, None, "unknown"),
        ('"AfterWorkday"', None, "unknown"),
        ('"AfterWorkday"', {"__type": "plugins.AfterWorkday", "__var": {}}, "unknown"),
        ('"61 25 * * *"', None, "unknown"),
        ("5", None, "unknown"),
        ('{"type": "timedelta", "attrs": {"days": 0, "seconds": 0, "microseconds": 0}}', None, "unknown"),
        ('{"type": "relativedelta", "attrs": {"elephants": 1}}', None, "unknown"),
        ("Asset or 0 0 * * *", None, "unknown"),
    ],
)
def test_every_form_that_releases_write_is_read(column: str | None, serialized: object, kind: str) -> None:
    schedule = read_schedule(column, serialized, "UTC")
    assert schedule.kind == kind
    assert bool(schedule.reason) is (kind == "unknown")


def test_a_timetable_has_its_own_timezone() -> None:
    timetable = {
        "__type": "airflow.timetables.interval.CronDataIntervalTimetable",
        "__var": {"expression": "0 1 * * *", "timezone": "Europe/Amsterdam"},
    }
    assert read_schedule(None, timetable, "UTC").timezone == "Europe/Amsterdam"


def test_intervals_of_a_moment_end_where_they_start() -> None:
    assert interval_end(read_schedule("null", None, None), when("2021-01-01")) == when("2021-01-01")


def test_months_and_microseconds_are_added() -> None:
    month = '{"type": "relativedelta", "attrs": {"months": 1, "days": 0}}'
    assert interval_end(read_schedule(month, None, "UTC"), when("2021-01-31")) == when("2021-02-28")
    short = '{"type": "timedelta", "attrs": {"days": 0, "seconds": 90, "microseconds": 5}}'
    assert interval_end(read_schedule(short, None, None), when("2021-01-01")) == when("2021-01-01T00:01:30.000005")


@pytest.mark.parametrize(
    "schedule", [RecordedSchedule(kind="unknown", reason="why"), read_schedule('"0 0 30 2 *"', None, None)]
)
def test_what_never_ticks_is_an_error_and_not_a_guess(schedule: RecordedSchedule) -> None:
    with pytest.raises(ScheduleError):
        interval_end(schedule, when("2021-01-01"))


def test_only_a_cron_without_timezone_needs_one() -> None:
    assert read_schedule('"@daily"', None, None).needs_timezone
    assert not read_schedule('"@daily"', None, "UTC").needs_timezone
    assert not read_schedule("null", None, None).needs_timezone
    assert not read_schedule('{"type": "timedelta", "attrs": {"days": 1}}', None, None).needs_timezone


def test_ticks_are_told_from_other_moments() -> None:
    daily = read_schedule('"0 1 * * *"', None, "Europe/Amsterdam")
    assert is_tick(daily, when("2026-11-20T00:00"))
    assert is_tick(daily, when("2026-07-20T23:00"))
    assert not is_tick(daily, when("2026-11-20T01:00"))
    assert is_tick(read_schedule("null", None, None), when("2026-11-20T01:02:03"))


def test_a_timezone_that_this_machine_does_not_know_is_named() -> None:
    schedule = read_schedule('"@daily"', None, "Mars/Olympus_Mons")
    assert schedule.kind == "unknown"
    assert "Mars/Olympus_Mons" in schedule.reason
