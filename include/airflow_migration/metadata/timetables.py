"""Say when the interval of a run ends, from what a source wrote down of its DAGs' schedules.

The rules are those with which Airflow bridges runs made before 2.2, which have no data interval:
`DAG.infer_automated_data_interval` of airflow/models/dag.py and `CronMixin._get_next` of
airflow/timetables/_cron.py, the same in 2.11.2 and 3.3.2. A run of a DAG without a schedule, of
``@once`` and of a dataset covers a moment; any other lasts from its logical date to the next tick,
manual ones included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterError
from dateutil.relativedelta import relativedelta  # type: ignore[import-untyped,unused-ignore]

Kind = Literal["cron", "delta", "exact", "unknown"]

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
"""`cron_presets` of airflow/utils/dates.py; croniter knows the others (``@midnight``, ``@annually``)."""

_EXACT = frozenset({"None", "@once", "Dataset", "Asset"})
"""Summaries of the timetables whose runs cover a moment; from 3.0 a summary is plain text, not JSON."""

_EXACT_TIMETABLES = ("NullTimetable", "OnceTimetable", "DatasetTriggeredTimetable", "AssetTriggeredTimetable")
_INTERVAL_TIMETABLES = ("CronDataIntervalTimetable", "DeltaDataIntervalTimetable")
_TRIGGER_TIMETABLES = ("CronTriggerTimetable", "DeltaTriggerTimetable")
ONCE = "@once"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)(?::(\d\d))?")
_LONGEST_REASON = 60


class ScheduleError(ValueError):
    """The schedule cannot be read, or has no next tick; the text says why and names no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSchedule:
    """What a database says of one DAG's schedule.

    :param kind: ``cron``, ``delta``, ``exact`` (a run covers a moment) or ``unknown``
    :param cron: cron expression, presets resolved
    :param delta: the parts of a timedelta or relativedelta, as its constructor wants them
    :param timezone: name or offset (``+05:30``); None when it was not recorded
    :param reason: why it is ``unknown``
    :param trigger: a run is named for the moment at which it starts, as by 3.x's CronTriggerTimetable, and not
        for the start of the interval that it covers
    :param once: ``@once``
    """

    kind: Kind
    cron: str = ""
    delta: tuple[tuple[str, float], ...] = ()
    timezone: str | None = None
    reason: str = ""
    trigger: bool = False
    once: bool = False

    @property
    def needs_timezone(self) -> bool:
        """Whether its ticks depend on a timezone that nobody wrote down."""
        return self.kind == "cron" and self.timezone is None

    @property
    def ticks(self) -> bool:
        """Whether it starts runs again and again."""
        return self.kind in ("cron", "delta")

    def __str__(self) -> str:
        if self.kind == "delta":
            return "every " + ", ".join(f"{size:g} {unit}" for unit, size in self.delta)
        if self.kind == "exact":
            return ONCE if self.once else "none"
        return self.cron or self.reason


def read_schedule(column: str | None, serialized: object, zone: object) -> RecordedSchedule:
    """Read one DAG's schedule as releases from 1.10 to 3.x write it.

    :param column: ``dag.schedule_interval`` (JSON text) or, from 3.0, ``dag.timetable_summary``
    :param serialized: ``timetable`` or ``schedule_interval`` of the serialized DAG, decoded
    :param zone: ``timezone`` of the serialized DAG, decoded
    """
    try:
        name = _zone_name(zone)
        if _is_timetable(serialized):
            return _read_value(serialized, name)
        try:
            return _read_value(_decode(column), name)
        except ScheduleError:
            # A summary such as "1 day, 0:00:00" says less than the serialized DAG.
            if serialized is None:
                raise
            return _read_value(serialized, name)
    except ScheduleError as err:
        return RecordedSchedule(kind="unknown", reason=str(err))


def interval_end(schedule: RecordedSchedule, start: datetime) -> datetime:
    """The end of the interval that starts at an aware `start`; in UTC where no timezone was recorded.

    :raises ScheduleError: the schedule is unknown or never ticks again
    """
    try:
        if schedule.kind == "exact":
            return start
        if schedule.kind == "cron":
            return _next_tick(schedule.cron, schedule.timezone or "UTC", start)
        if schedule.kind == "delta":
            return _add(start, schedule.delta)
    except (CroniterError, OverflowError, ValueError) as err:
        raise ScheduleError("its schedule has no next tick") from err
    raise ScheduleError(schedule.reason)


def previous_tick(schedule: RecordedSchedule, moment: datetime) -> datetime:
    """The last tick before an aware `moment`; in UTC where no timezone was recorded.

    :raises ScheduleError: the schedule is unknown or never ticked before
    """
    try:
        if schedule.kind == "cron":
            return _tick_before(schedule.cron, schedule.timezone or "UTC", moment)
        if schedule.kind == "delta":
            return _add(moment, schedule.delta, times=-1)
    except (CroniterError, OverflowError, ValueError) as err:
        raise ScheduleError("its schedule has no tick before") from err
    raise ScheduleError(schedule.reason or "it has no ticks")


def is_tick(schedule: RecordedSchedule, moment: datetime) -> bool:
    """Whether a cron schedule ticks at exactly this moment; any other schedule ticks at all of them."""
    return schedule.kind != "cron" or interval_end(schedule, moment - timedelta(seconds=1)) == moment


def _is_timetable(serialized: object) -> bool:
    """A timetable, from 2.2 on, knows its own timezone, and what a run is named for: its summary does not."""
    return isinstance(serialized, Mapping) and isinstance(serialized.get("__var"), Mapping)


def _decode(column: str | None) -> object:
    if column is None:
        raise ScheduleError("no schedule is recorded for it")
    try:
        return json.loads(column)
    except ValueError:
        return column


def _read_value(value: object, zone: str | None) -> RecordedSchedule:
    if value is None or (isinstance(value, str) and value in _EXACT):
        return RecordedSchedule(kind="exact", timezone=zone, once=value == ONCE)
    if isinstance(value, str):
        return _read_cron(value, zone)
    if isinstance(value, Mapping):
        return _read_object(value, zone)
    raise ScheduleError("its schedule is in no form that Airflow writes")


def _read_cron(expression: str, zone: str | None) -> RecordedSchedule:
    cron = PRESETS.get(expression, expression)
    try:
        croniter(cron)
    except CroniterError as err:
        shown = expression[:_LONGEST_REASON]
        raise ScheduleError(f'"{shown}" is no cron expression, so a timetable of its own') from err
    return RecordedSchedule(kind="cron", cron=cron, timezone=zone)


def _read_object(value: Mapping[str, object], zone: str | None) -> RecordedSchedule:
    """`Interval` of airflow/utils/sqlalchemy.py, or a value or timetable of a serialized DAG."""
    if "attrs" in value:
        return _read_delta(value["attrs"], zone)
    name, content = str(value.get("__type")).rpartition(".")[2], value.get("__var")
    if name == "timedelta":
        return _read_delta({"seconds": content}, zone)
    if name == "relativedelta":
        return _read_delta(content, zone)
    if name in _EXACT_TIMETABLES:
        return RecordedSchedule(kind="exact", timezone=zone, once=name == "OnceTimetable")
    if not isinstance(content, Mapping) or name not in (*_INTERVAL_TIMETABLES, *_TRIGGER_TIMETABLES):
        raise ScheduleError(f"{name[:_LONGEST_REASON]} is a timetable of its own")
    if name.startswith("Cron"):
        schedule = _read_cron(str(content.get("expression")), _zone_name(content.get("timezone")) or zone)
    else:
        delta = content.get("delta")
        schedule = _read_delta(delta if isinstance(delta, Mapping) else {"seconds": delta}, zone)
    if content.get("interval"):
        raise ScheduleError(f"{name} covers an interval of its own")
    return replace(schedule, trigger=name in _TRIGGER_TIMETABLES)


def _read_delta(parts: object, zone: str | None) -> RecordedSchedule:
    if not isinstance(parts, Mapping) or not all(isinstance(part, int | float) for part in parts.values() if part):
        raise ScheduleError("its interval is in no form that Airflow writes")
    delta = tuple((str(name), part) for name, part in parts.items() if part)
    start = datetime(2001, 1, 1, tzinfo=timezone.utc)
    try:
        ends = _add(start, delta)
    except (TypeError, ValueError, OverflowError) as err:
        raise ScheduleError("its interval is in no form that Airflow writes") from err
    if ends <= start:
        raise ScheduleError("its interval is not positive")
    return RecordedSchedule(kind="delta", delta=delta, timezone=zone)


def _add(start: datetime, delta: tuple[tuple[str, float], ...], times: int = 1) -> datetime:
    parts = dict(delta)
    if parts.keys() <= {"days", "seconds", "microseconds"}:
        return start + times * timedelta(**parts)
    # Airflow adds months and years to the date in UTC (DeltaMixin of airflow/timetables/_delta.py).
    moved: datetime = start.astimezone(timezone.utc) + times * relativedelta(**parts)
    return moved


def _zone_name(value: object) -> str | None:
    """`encode_timezone` of airflow/serialization writes a name, or the seconds of a fixed offset."""
    if isinstance(value, Mapping):
        value = value.get("__var")
    if value is None:
        return None
    if isinstance(value, int):
        minutes, seconds = divmod(abs(value), 60)
        tail = f":{seconds:02}" if seconds else ""
        value = f"{'-' if value < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}{tail}"
    try:
        _zone(str(value))
    except (ValueError, KeyError, OSError) as err:
        raise ScheduleError(f'its timezone "{str(value)[:_LONGEST_REASON]}" is not known here') from err
    return str(value)


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo:
    if (offset := _OFFSET.fullmatch(name)) is None:
        return ZoneInfo(name)
    hours, minutes, seconds = (int(part or 0) for part in offset.groups()[1:])
    size = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-size if offset[1] == "-" else size)


@lru_cache(maxsize=65536)
def _next_tick(expression: str, zone_name: str, moment: datetime) -> datetime:
    """`CronMixin._get_next`: by the wall clock, or by elapsed time where the cron ticks every hour."""
    zone = _zone(zone_name)
    wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
    cron = croniter(expression, start_time=wall)
    tick: datetime = cron.get_next(datetime)
    return moment + (tick - wall) if _ticks_every_hour(cron) else _as_moment(tick, zone)


@lru_cache(maxsize=65536)
def _tick_before(expression: str, zone_name: str, moment: datetime) -> datetime:
    """`CronMixin._get_prev`."""
    zone = _zone(zone_name)
    wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
    cron = croniter(expression, start_time=wall)
    tick: datetime = cron.get_prev(datetime)
    return moment - (wall - tick) if _ticks_every_hour(cron) else _as_moment(tick, zone)


def _ticks_every_hour(cron: croniter) -> bool:
    return cron.expanded[1] == ["*"]


def _as_moment(tick: datetime, zone: tzinfo) -> datetime:
    # An hour that comes twice means its second time, one that is left out is moved on by the gap:
    # `make_aware` of airflow/utils/timezone.py over pendulum. Both are the smaller of the offsets.
    offsets = [tick.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
    return (tick - min(offsets)).replace(tzinfo=timezone.utc)
