"""The next run, and how many at once, are those that Airflow's own timetables give."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_migration.metadata.next_runs import LIMIT, Interval, Restriction, count_between, look_ahead, next_run
from airflow_migration.metadata.timetables import RecordedSchedule, ScheduleError, interval_end, previous_tick

UTC = timezone.utc
NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)
CRONS = ("0 0 * * *", "30 2 * * *", "@hourly", "*/7 * * * *", "0 */2 * * *", "0 1 * * 1-5", "0 0 1 * *", "0 0 29 2 *")
ZONES = ("UTC", "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe")
DELTAS: tuple[dict[str, float], ...] = (
    {"hours": 2},
    {"days": 1},
    {"seconds": 90.5},
    {"days": 7, "seconds": 3600},
    {"months": 1},
)


def when(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def daily(**more: Any) -> RecordedSchedule:
    return RecordedSchedule(kind="cron", cron="0 0 * * *", timezone="UTC", **more)


def ask(schedule: RecordedSchedule, restriction: Restriction, last: Interval | None, now: datetime) -> Any:
    """A run's logical date and start, or why there is none."""
    try:
        found = next_run(schedule, restriction, last, now)
    except ScheduleError:
        return "no tick"
    return found and (found.start, found.end)


class Theirs:
    """Airflow's own timetables at any moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def ask(self, timetable: Any, restriction: Restriction, last: Interval | None, now: datetime) -> Any:
        import pendulum
        from airflow.timetables.base import DataInterval, TimeRestriction

        for module in ("interval", "trigger"):
            self._patch.setattr(f"airflow.timetables.{module}.utcnow", lambda: pendulum.instance(now))

        def instance(moment: datetime | None) -> Any:
            return moment and pendulum.instance(moment)

        found = timetable.next_dagrun_info(
            last_automated_data_interval=last and DataInterval(instance(last.start), instance(last.end)),
            restriction=TimeRestriction(
                instance(restriction.earliest), instance(restriction.latest), restriction.catchup
            ),
        )
        return found and (found.logical_date, found.run_after)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Theirs:
    return Theirs(monkeypatch)


def cases(schedule: RecordedSchedule) -> list[tuple[Restriction, Interval | None, datetime]]:
    """Restrictions, last runs and moments: on ticks, between them, and around the changes of clocks."""
    chance = random.Random(str(schedule))
    moments = [NOW, when("2026-10-25T00:30"), when("2026-10-25T01:30"), when("2026-11-01T06:30"), when("2026-11-20")]
    moments += [when("2026-01-01") + timedelta(seconds=chance.randrange(300 * 86400)) for _ in range(10)]
    found: list[tuple[Restriction, Interval | None, datetime]] = []
    for now in moments:
        back = now - timedelta(seconds=chance.randrange(20 * 86400))
        start = previous_tick(schedule, back)
        last = Interval(start=start, end=interval_end(schedule, start))
        if schedule.trigger:
            last = Interval(start=start, end=start)
        for catchup in (True, False):
            for earliest in (None, now - timedelta(days=40, seconds=7), now + timedelta(days=1)):
                for latest in (None, now - timedelta(days=2)):
                    restriction = Restriction(catchup=catchup, earliest=earliest, latest=latest)
                    found += [(restriction, last, now), (restriction, None, now)]
    return found


@pytest.mark.parametrize("trigger", [False, True], ids=["interval", "trigger"])
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", CRONS)
def test_a_crons_next_run_is_the_one_that_airflow_gives(cron: str, zone: str, trigger: bool, theirs: Theirs) -> None:
    from airflow._shared.timezones.timezone import parse_timezone
    from airflow.timetables.interval import CronDataIntervalTimetable
    from airflow.timetables.trigger import CronTriggerTimetable

    ours = RecordedSchedule(
        kind="cron", cron="0 * * * *" if cron == "@hourly" else cron, timezone=zone, trigger=trigger
    )
    their: Any = CronTriggerTimetable(cron, timezone=parse_timezone(zone)) if trigger else None
    their = their or CronDataIntervalTimetable(cron, parse_timezone(zone))
    for restriction, last, now in cases(ours):
        assert ask(ours, restriction, last, now) == theirs.ask(their, restriction, last, now), (restriction, last, now)


@pytest.mark.parametrize("trigger", [False, True], ids=["interval", "trigger"])
@pytest.mark.parametrize("parts", DELTAS, ids=str)
def test_a_deltas_next_run_is_the_one_that_airflow_gives(
    parts: dict[str, float], trigger: bool, theirs: Theirs
) -> None:
    from airflow.timetables.interval import DeltaDataIntervalTimetable
    from airflow.timetables.trigger import DeltaTriggerTimetable
    from dateutil.relativedelta import relativedelta  # type: ignore[import-untyped,unused-ignore]

    delta: Any = relativedelta(months=1) if "months" in parts else timedelta(**parts)
    ours = RecordedSchedule(kind="delta", delta=tuple(parts.items()), timezone="UTC", trigger=trigger)
    their: Any = DeltaTriggerTimetable(delta) if trigger else DeltaDataIntervalTimetable(delta)
    for restriction, last, now in cases(ours):
        assert ask(ours, restriction, last, now) == theirs.ask(their, restriction, last, now), (restriction, last, now)


def test_what_catches_up_is_counted() -> None:
    last = Interval(start=when("2026-11-17"), end=when("2026-11-18"))
    outlook = look_ahead(daily(), Restriction(catchup=True), last, NOW)
    assert outlook.first == Interval(start=when("2026-11-18"), end=when("2026-11-19"))
    assert (outlook.due, outlook.last_due) == (4, Interval(start=when("2026-11-21"), end=when("2026-11-22")))


def test_what_does_not_catch_up_runs_once() -> None:
    last = Interval(start=when("2026-11-17"), end=when("2026-11-18"))
    outlook = look_ahead(daily(), Restriction(catchup=False), last, NOW)
    assert outlook.first == outlook.last_due == Interval(start=when("2026-11-21"), end=when("2026-11-22"))
    assert outlook.due == 1


def test_nothing_is_due_right_after_the_last_interval() -> None:
    last = Interval(start=when("2026-11-21"), end=when("2026-11-22"))
    for catchup in (True, False):
        outlook = look_ahead(daily(), Restriction(catchup=catchup), last, NOW)
        assert (outlook.first, outlook.due) == (Interval(start=when("2026-11-22"), end=when("2026-11-23")), 0)


def test_a_trigger_timetable_fires_no_tick_at_which_the_source_ran() -> None:
    """The source ran at midnight of the 22nd, for the 21st."""
    last = Interval(start=when("2026-11-21"), end=when("2026-11-22"))
    for catchup in (True, False):
        outlook = look_ahead(daily(trigger=True), Restriction(catchup=catchup), last, NOW)
        assert (outlook.first, outlook.due) == (Interval(start=when("2026-11-23"), end=when("2026-11-23")), 0)


def test_counting_ends() -> None:
    every_minute = RecordedSchedule(kind="cron", cron="* * * * *", timezone="UTC")
    last = Interval(start=when("2020-01-01"), end=when("2020-01-01T00:01"))
    assert look_ahead(every_minute, Restriction(catchup=True), last, NOW).due == LIMIT
    assert count_between(every_minute, last.end, NOW) == LIMIT
    assert count_between(daily(), when("2026-11-18"), when("2026-11-21")) == 3


@pytest.mark.parametrize(("once", "last", "due"), [(True, None, 1), (False, None, 0), (True, "yes", 0)])
def test_once_runs_once_and_none_never(once: bool, last: str | None, due: int) -> None:
    before = Interval(start=when("2026-11-01"), end=when("2026-11-01")) if last else None
    restriction = Restriction(catchup=False, earliest=when("2026-11-01"))
    assert look_ahead(RecordedSchedule(kind="exact", once=once), restriction, before, NOW).due == due


def test_what_is_unknown_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(ScheduleError):
        look_ahead(RecordedSchedule(kind="unknown", reason="why"), Restriction(catchup=True), None, NOW)
