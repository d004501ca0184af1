"""Dates, times and time zones in pickles, of the standard library, pendulum 1 to 3, pytz and dateutil."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_migration.metadata.pickled_objects import Build, Opaque, UndecodableError, expect, integer, state_bytes

SHIFTED = "a time zone becomes its offset"


class PendulumDateTime(datetime):
    """What pendulum writes; Airflow tells it from a datetime of the standard library."""


@dataclass(eq=False, slots=True)
class Zone:
    """A time zone by its name, or by its seconds east of UTC; both where a class names one of a zone's offsets."""

    name: str | None = None
    offset: int | None = None


def seconds_of(offset: timedelta) -> int:
    expect(offset.microseconds == 0 and abs(offset) < timedelta(days=1), "a time zone")
    return offset.days * 86400 + offset.seconds


def _zone_info(name: str) -> ZoneInfo:
    expect(re.fullmatch(r"[A-Za-z0-9_+\-/]{1,64}", name) is not None, "a time zone")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UndecodableError("a time zone that is not known here") from None


def _moment(notes: set[str], moment: datetime, zone: object) -> datetime:
    """The moment in its time zone; pytz and pendulum 1 say which of the zone's offsets is meant."""
    if zone is None:
        return moment
    if isinstance(zone, Opaque):
        raise UndecodableError(f"a time zone that is {zone.reason}")
    expect(isinstance(zone, Zone), "a time zone")
    assert isinstance(zone, Zone)
    fixed = None if zone.offset is None else timezone(timedelta(seconds=zone.offset))
    if zone.name in ("UTC", "Etc/UTC") or (zone.name is None and zone.offset == 0):
        return moment.replace(tzinfo=timezone.utc)
    if zone.name is None:
        expect(fixed is not None, "a time zone")
        return moment.replace(tzinfo=fixed)
    named: tzinfo = _zone_info(zone.name)
    if fixed is None:
        return moment.replace(tzinfo=named)
    for fold in (moment.fold, 1 - moment.fold):
        candidate = moment.replace(tzinfo=named, fold=fold)
        if candidate.utcoffset() == fixed.utcoffset(None):
            return candidate
    notes.add(SHIFTED)
    return moment.replace(tzinfo=fixed)


def _datetime(notes: set[str], arguments: tuple[object, ...]) -> datetime:
    expect(len(arguments) in (1, 2), "a datetime")
    state = state_bytes(arguments[0])
    expect(len(state) == 10, "a datetime")
    year, month, day, hour, minute, second, high, middle, low = struct.unpack(">H8B", state)
    moment = datetime(year, month & 127, day, hour, minute, second, (high << 16) + (middle << 8) + low, fold=month >> 7)
    return _moment(notes, moment, arguments[1] if len(arguments) == 2 else None)


def _pendulum(notes: set[str], arguments: tuple[object, ...]) -> datetime:
    """pendulum.datetime.DateTime (2, 3) and pendulum.pendulum.Pendulum (1): seven numbers, zone, fold."""
    expect(7 <= len(arguments) <= 9, "a DateTime")
    numbers = [integer(each) for each in arguments[:7]]
    fold = integer(arguments[8]) if len(arguments) == 9 else 0
    moment = PendulumDateTime(*numbers[:7], fold=fold)  # type: ignore[arg-type]
    return _moment(notes, moment, arguments[7] if len(arguments) > 7 else None)


def _date(_: set[str], arguments: tuple[object, ...]) -> date:
    expect(len(arguments) == 1, "a date")
    state = state_bytes(arguments[0])
    expect(len(state) == 4, "a date")
    return date(*struct.unpack(">HBB", state))


def _time(notes: set[str], arguments: tuple[object, ...]) -> time:
    expect(len(arguments) in (1, 2), "a time")
    state = state_bytes(arguments[0])
    expect(len(state) == 6 and (len(arguments) == 1 or arguments[1] is None), "a time")
    hour, minute, second, high, middle, low = state
    return time(hour & 127, minute, second, (high << 16) + (middle << 8) + low, fold=hour >> 7)


def _timedelta(_: set[str], arguments: tuple[object, ...]) -> timedelta:
    expect(len(arguments) <= 3, "a timedelta")
    return timedelta(*map(integer, arguments))


def _zone(_: set[str], arguments: tuple[object, ...]) -> Zone:
    """A zone by its name; what follows it are its transitions, or where it was taken from."""
    expect(bool(arguments) and isinstance(arguments[0], str), "a time zone")
    return Zone(name=str(arguments[0]))


def _pytz(_: set[str], arguments: tuple[object, ...]) -> Zone:
    expect(len(arguments) in (1, 4) and isinstance(arguments[0], str), "a time zone")
    return Zone(name=str(arguments[0]), offset=integer(arguments[1]) if len(arguments) == 4 else None)


def _zone_at(_: set[str], arguments: tuple[object, ...]) -> Zone:
    """TimezoneInfo of pendulum 1: a zone and one of its offsets."""
    expect(len(arguments) > 1 and isinstance(arguments[0], Zone), "a time zone")
    assert isinstance(arguments[0], Zone)
    return Zone(name=arguments[0].name, offset=integer(arguments[1]))


def _utc(_: set[str], arguments: tuple[object, ...]) -> Zone:
    expect(not arguments, "UTC")
    return Zone(name="UTC")


def _offset(unit: int) -> Build:
    def build(_: set[str], arguments: tuple[object, ...]) -> Zone:
        expect(bool(arguments), "a time zone")
        return Zone(offset=integer(arguments[0]) * unit)

    return build


def _timezone(_: set[str], arguments: tuple[object, ...]) -> Zone:
    expect(bool(arguments) and isinstance(arguments[0], timedelta), "a time zone")
    assert isinstance(arguments[0], timedelta)
    return Zone(offset=seconds_of(arguments[0]))


def _tzoffset(_: set[str], arguments: tuple[object, ...]) -> Zone:
    """dateutil: name and timedelta, in older releases afterwards, as its state."""
    if not arguments:
        return Zone()
    expect(len(arguments) == 2 and isinstance(arguments[1], timedelta), "a time zone")
    assert isinstance(arguments[1], timedelta)
    return Zone(offset=seconds_of(arguments[1]))


KNOWN_TIMES: dict[tuple[str, str], Build] = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): _date,
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("zoneinfo", "ZoneInfo._unpickle"): _zone,
    ("backports.zoneinfo", "ZoneInfo._unpickle"): _zone,
    ("pytz", "_UTC"): _utc,
    ("pytz", "_p"): _pytz,
    ("pytz", "FixedOffset"): _offset(60),
    ("dateutil.tz.tz", "tzutc"): _utc,
    ("dateutil.tz.tz", "tzoffset"): _tzoffset,
    ("pendulum.pendulum", "Pendulum"): _pendulum,
    ("pendulum.datetime", "DateTime"): _pendulum,
    ("pendulum.date", "Date"): _date,
    ("pendulum.tz.timezone", "_UTC"): _utc,
    ("pendulum.tz.timezone", "Timezone"): _zone,
    ("pendulum.tz.timezone", "Timezone._unpickle"): _zone,
    ("pendulum.tz.timezone", "FixedTimezone"): _offset(1),
    ("pendulum.tz.timezone_info", "_UTC"): _utc,
    ("pendulum.tz.timezone_info", "TimezoneInfo"): _zone_at,
}
"""By module and name."""
