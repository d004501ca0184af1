"""Say which run of a DAG a scheduler creates next, and how many it would create at once.

The rules are Airflow's own: `_DataIntervalTimetable.next_dagrun_info` of airflow/timetables/interval.py and
`_TriggerTimetable.next_dagrun_info` of airflow/timetables/trigger.py, 3.3.2. Those of 2.x are the same, and
1.10 (`create_dag_run` of jobs/scheduler_job.py) comes to the same runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dateutil.relativedelta import relativedelta  # type: ignore[import-untyped,unused-ignore]

from airflow_migration.metadata.timetables import (
    EPOCH,
    RecordedSchedule,
    ScheduleError,
    interval_end,
    previous_tick,
)

LIMIT = 1000
"""Runs of one DAG that are counted at most."""

_SHORTEST_GRACE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What a run covers; its logical date is the start, and it may be created from the end on."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """:param earliest: first start date of the DAG and its tasks
    :param latest: last moment at which an interval may start
    """

    catchup: bool
    earliest: datetime | None = None
    latest: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """:param first: the next run; None when there will be none
    :param due: runs that may be created at once, at most `LIMIT`
    :param last_due: the last of them
    """

    first: Interval | None
    due: int
    last_due: Interval | None


def look_ahead(
    schedule: RecordedSchedule,
    restriction: Restriction,
    last: Interval | None,
    now: datetime,
    first: Interval | None = None,
) -> Outlook:
    """The runs that follow the `last` scheduled or backfilled one, up to the first that is not yet due.

    :param first: the run to begin with, where it is known
    :raises ScheduleError: the schedule is unknown or has no tick where one is needed
    """
    first = run = first or next_run(schedule, restriction, last, now)
    due, last_due = 0, None
    while run is not None and run.end <= now and due < LIMIT:
        due, last_due = due + 1, run
        run = next_run(schedule, restriction, run, now)
    return Outlook(first=first, due=due, last_due=last_due)


def count_between(schedule: RecordedSchedule, start: datetime, end: datetime) -> int:
    """How many ticks lie from `start` on and before `end`, at most `LIMIT`.

    :raises ScheduleError: the schedule is unknown or has no tick where one is needed
    """
    count = 0
    while start < end and count < LIMIT:
        start, count = interval_end(schedule, start), count + 1
    return count


def next_run(
    schedule: RecordedSchedule, restriction: Restriction, last: Interval | None, now: datetime
) -> Interval | None:
    """The run that follows the `last` scheduled or backfilled one.

    :raises ScheduleError: the schedule is unknown or has no tick where one is needed
    """
    if schedule.kind == "unknown":
        raise ScheduleError(schedule.reason)
    if schedule.kind == "exact":
        return _next_of_once(restriction, last, now) if schedule.once else None
    following = _next_moment if schedule.trigger else _next_interval
    return following(schedule, restriction, last, now)


def _next_of_once(restriction: Restriction, last: Interval | None, now: datetime) -> Interval | None:
    """`OnceTimetable`: at the start date, if it never ran."""
    moment = restriction.earliest or now
    if last is not None or (restriction.latest is not None and moment > restriction.latest):
        return None
    return Interval(start=moment, end=moment)


def _next_interval(
    schedule: RecordedSchedule, restriction: Restriction, last: Interval | None, now: datetime
) -> Interval | None:
    earliest = restriction.earliest
    if not restriction.catchup:
        earliest = _skip_to_latest(schedule, earliest, now)
    elif earliest is not None:
        earliest = _tick_from(schedule, earliest)
    if last is not None:
        after = _tick_until(schedule, last.end)
        start = after if earliest is None else max(after, earliest)
        # Since 3.3; without it a schedule that was made coarser would come upon the run that exists.
        if start <= last.start:
            start = interval_end(schedule, start)
    elif earliest is not None:
        start = earliest
    else:
        return None
    if restriction.latest is not None and start > restriction.latest:
        return None
    return Interval(start=start, end=interval_end(schedule, start))


def _skip_to_latest(schedule: RecordedSchedule, earliest: datetime | None, now: datetime) -> datetime:
    """The last interval that has ended, but none before the start date."""
    if schedule.kind == "delta":
        start = previous_tick(schedule, _round(schedule, now, earliest or now))
        return start if earliest is None else max(start, earliest)
    before = previous_tick(schedule, now)
    start = before if interval_end(schedule, before) == now else previous_tick(schedule, before)
    return start if earliest is None else max(start, _tick_from(schedule, earliest))


def _round(schedule: RecordedSchedule, moment: datetime, anchor: datetime) -> datetime:
    """`DeltaDataIntervalTimetable._round`: steps since 1970, with months and years since the start date."""
    parts = dict(schedule.delta)
    if parts.get("months") or parts.get("years"):
        boundary = anchor
        while (following := interval_end(schedule, boundary)) <= moment:
            boundary = following
        return boundary
    size = relativedelta(**parts).normalized()
    step = timedelta(days=size.days, hours=size.hours, minutes=size.minutes, seconds=size.seconds)
    step += timedelta(microseconds=size.microseconds)
    return moment - (moment - EPOCH) % step


def _next_moment(
    schedule: RecordedSchedule, restriction: Restriction, last: Interval | None, now: datetime
) -> Interval | None:
    """A run at every tick, named for the tick."""
    earliest = None if restriction.earliest is None else _tick_from(schedule, restriction.earliest)
    if last is not None:
        moment = interval_end(schedule, last.end)
    elif earliest is not None:
        moment = earliest
    else:
        moment = _first_moment(schedule, now)
    if not restriction.catchup:
        moment = max(each for each in (moment, earliest, _tick_until(schedule, now)) if each is not None)
    if restriction.latest is not None and restriction.latest < moment:
        return None
    return Interval(start=moment, end=moment)


def _first_moment(schedule: RecordedSchedule, now: datetime) -> datetime:
    """`CronTriggerTimetable._calc_first_run`: a tick of just before counts."""
    before = _tick_until(schedule, now)
    if schedule.kind == "delta":
        return before
    after = _tick_from(schedule, now)
    return before if now - before <= max((after - before) / 10, _SHORTEST_GRACE) else after


def _tick_from(schedule: RecordedSchedule, moment: datetime) -> datetime:
    """`_align_to_next`: the moment itself where it is a tick; a timedelta ticks at any moment."""
    if schedule.kind == "delta":
        return moment
    following = interval_end(schedule, moment)
    return moment if previous_tick(schedule, following) == moment else following


def _tick_until(schedule: RecordedSchedule, moment: datetime) -> datetime:
    """`_align_to_prev`."""
    if schedule.kind == "delta":
        return moment
    before = previous_tick(schedule, moment)
    return moment if interval_end(schedule, before) == moment else before
