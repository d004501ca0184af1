"""The classes that a pickle may name, each known by its name alone and built by our own code."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

PLAIN_NUMBER = "a number of numpy becomes a plain one"
SHIFTED = "a time zone becomes its offset"


class UndecodableError(ValueError):
    """A pickle that is not decoded; the reason names no value."""


class PendulumDateTime(datetime):
    """What pendulum writes; Airflow tells it from a datetime of the standard library."""


@dataclass(frozen=True, slots=True)
class Name:
    """What GLOBAL names: a class or a function; nothing is imported."""

    module: str
    name: str

    def __str__(self) -> str:
        dotted = f"{self.module}.{self.name}"
        return dotted if re.fullmatch(r"[A-Za-z_][\w.]{0,99}", dotted) else "an unusual name"


@dataclass(eq=False, slots=True)
class Opaque:
    """An object that is not known; harmless as long as the value does not hold it."""

    reason: str


@dataclass(eq=False, slots=True)
class Zone:
    """A time zone by its name, or by its seconds east of UTC; both where a class names one of a zone's offsets."""

    name: str | None = None
    offset: int | None = None


@dataclass(eq=False, slots=True)
class Dtype:
    """A type of numpy: kind and bytes, as ``i8``, and the order of the bytes."""

    code: str
    order: str = "<"


@dataclass(eq=False, slots=True)
class PickledUUID:
    """A UUID whose number comes after it."""

    number: int | None = None

    def value(self) -> UUID:
        """The UUID."""
        if self.number is None or not 0 <= self.number < 1 << 128:
            raise UndecodableError("a UUID without its number")
        return UUID(int=self.number)


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that Python 2 wrote as text, and that are no UTF-8."""

    data: bytes


@dataclass(slots=True)
class Builder:
    """Builds what a pickle describes; notes what is not quite as it was."""

    notes: set[str] = field(default_factory=set)

    def call(self, what: Name, arguments: tuple[object, ...]) -> object:
        """The object that the class or function gives for these arguments; opaque when it is not known."""
        build = _KNOWN.get((what.module, what.name))
        if build is None:
            return Opaque(f"an object of {what}")
        return build(self, arguments)


def set_state(target: object, state: object) -> None:
    """What BUILD does to an object of ours; a time zone's state says no more than its name."""
    if isinstance(target, Opaque) or (isinstance(target, Zone) and target.name is not None):
        return
    values = state if isinstance(state, dict) else {}
    match target:
        case Zone() if isinstance(values.get("_offset"), timedelta):
            target.offset = _seconds(values["_offset"])
        case Zone() if target.offset is not None:
            pass
        case PickledUUID() if isinstance(values.get("int"), int):
            target.number = values["int"]
        case Dtype() if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            target.order = str(state[1])
        case dict() if not state:
            pass
        case _:
            raise UndecodableError("an object with attributes of its own")


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise UndecodableError(f"{what} that is not as expected")


def _bytes(value: object) -> bytes:
    """The state of a date or a number; Python 2 writes it as text."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, Raw):
        return value.data
    _expect(isinstance(value, bytes), "bytes")
    assert isinstance(value, bytes)
    return value


def _seconds(offset: timedelta) -> int:
    _expect(offset.microseconds == 0 and abs(offset) < timedelta(days=1), "a time zone")
    return offset.days * 86400 + offset.seconds


def _zone_info(name: str) -> ZoneInfo:
    _expect(re.fullmatch(r"[A-Za-z0-9_+\-/]{1,64}", name) is not None, "a time zone")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UndecodableError("a time zone that is not known here") from None


def _moment(builder: Builder, moment: datetime, zone: object) -> datetime:
    """The moment in its time zone; pytz and pendulum 1 say which of the zone's offsets is meant."""
    if zone is None:
        return moment
    if isinstance(zone, Opaque):
        raise UndecodableError(f"a time zone that is {zone.reason}")
    _expect(isinstance(zone, Zone), "a time zone")
    assert isinstance(zone, Zone)
    fixed = None if zone.offset is None else timezone(timedelta(seconds=zone.offset))
    if zone.name in ("UTC", "Etc/UTC") or (zone.name is None and zone.offset == 0):
        return moment.replace(tzinfo=timezone.utc)
    if zone.name is None:
        _expect(fixed is not None, "a time zone")
        return moment.replace(tzinfo=fixed)
    named: tzinfo = _zone_info(zone.name)
    if fixed is None:
        return moment.replace(tzinfo=named)
    for fold in (moment.fold, 1 - moment.fold):
        candidate = moment.replace(tzinfo=named, fold=fold)
        if candidate.utcoffset() == fixed.utcoffset(None):
            return candidate
    builder.notes.add(SHIFTED)
    return moment.replace(tzinfo=fixed)


def _datetime(builder: Builder, arguments: tuple[object, ...]) -> datetime:
    _expect(len(arguments) in (1, 2), "a datetime")
    state = _bytes(arguments[0])
    _expect(len(state) == 10, "a datetime")
    year, month, day, hour, minute, second, high, middle, low = struct.unpack(">H8B", state)
    moment = datetime(year, month & 127, day, hour, minute, second, (high << 16) + (middle << 8) + low, fold=month >> 7)
    return _moment(builder, moment, arguments[1] if len(arguments) == 2 else None)


def _pendulum(builder: Builder, arguments: tuple[object, ...]) -> datetime:
    """pendulum.datetime.DateTime (2, 3) and pendulum.pendulum.Pendulum (1): seven numbers, zone, fold."""
    _expect(7 <= len(arguments) <= 9, "a DateTime")
    numbers = [_integer(each) for each in arguments[:7]]
    fold = _integer(arguments[8]) if len(arguments) == 9 else 0
    moment = PendulumDateTime(*numbers[:7], fold=fold)  # type: ignore[arg-type]
    return _moment(builder, moment, arguments[7] if len(arguments) > 7 else None)


def _integer(value: object) -> int:
    _expect(isinstance(value, int), "a number")
    assert isinstance(value, int)
    return value


def _date(_: Builder, arguments: tuple[object, ...]) -> date:
    _expect(len(arguments) == 1, "a date")
    state = _bytes(arguments[0])
    _expect(len(state) == 4, "a date")
    return date(*struct.unpack(">HBB", state))


def _time(builder: Builder, arguments: tuple[object, ...]) -> time:
    _expect(len(arguments) in (1, 2), "a time")
    state = _bytes(arguments[0])
    _expect(len(state) == 6 and (len(arguments) == 1 or arguments[1] is None), "a time")
    hour, minute, second, high, middle, low = state
    return time(hour & 127, minute, second, (high << 16) + (middle << 8) + low, fold=hour >> 7)


def _timedelta(_: Builder, arguments: tuple[object, ...]) -> timedelta:
    _expect(len(arguments) <= 3, "a timedelta")
    return timedelta(*map(_integer, arguments))


def _decimal(_: Builder, arguments: tuple[object, ...]) -> Decimal:
    _expect(len(arguments) == 1 and isinstance(arguments[0], str), "a Decimal")
    try:
        return Decimal(str(arguments[0]))
    except InvalidOperation:
        raise UndecodableError("a Decimal that is not as expected") from None


def _mapping(_: Builder, arguments: tuple[object, ...]) -> dict[object, object]:
    """OrderedDict: nothing, or pairs from Python 2."""
    _expect(len(arguments) <= 1, "an OrderedDict")
    found: dict[object, object] = {}
    for pair in _items(arguments):
        _expect(isinstance(pair, list | tuple) and len(pair) == 2, "an OrderedDict")
        assert isinstance(pair, list | tuple)
        check_hashable(pair[0])
        found[pair[0]] = pair[1]
    return found


def _defaultdict(_: Builder, arguments: tuple[object, ...]) -> dict[object, object]:
    _expect(len(arguments) <= 1, "a defaultdict")
    return {}


def _items(arguments: tuple[object, ...]) -> list[object]:
    if not arguments:
        return []
    _expect(len(arguments) == 1 and isinstance(arguments[0], list | tuple), "items")
    assert isinstance(arguments[0], list | tuple)
    return list(arguments[0])


def _set(_: Builder, arguments: tuple[object, ...]) -> set[object]:
    items = _items(arguments)
    for each in items:
        check_hashable(each)
    return set(items)


def _frozenset(builder: Builder, arguments: tuple[object, ...]) -> frozenset[object]:
    return frozenset(_set(builder, arguments))


def _encode(_: Builder, arguments: tuple[object, ...]) -> bytes:
    """Bytes, as the protocols up to 2 write them."""
    _expect(len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1"), "bytes")
    return str(arguments[0]).encode("latin-1")


def _no_bytes(_: Builder, arguments: tuple[object, ...]) -> bytes:
    _expect(not arguments, "bytes")
    return b""


def _attribute(_: Builder, arguments: tuple[object, ...]) -> object:
    """``getattr(ZoneInfo, '_unpickle')`` and no other, as the protocols up to 3 write it."""
    match arguments:
        case (
            Name(module=("zoneinfo" | "backports.zoneinfo" | "pendulum.tz.timezone") as module, name=name),
            str(what),
        ):
            return Name(module, f"{name}.{what}")
        case _:
            return Opaque("an attribute of something")


def _zone(_: Builder, arguments: tuple[object, ...]) -> Zone:
    """A zone by its name; what follows it are its transitions, or where it was taken from."""
    _expect(bool(arguments) and isinstance(arguments[0], str), "a time zone")
    return Zone(name=str(arguments[0]))


def _pytz(_: Builder, arguments: tuple[object, ...]) -> Zone:
    _expect(len(arguments) in (1, 4) and isinstance(arguments[0], str), "a time zone")
    return Zone(name=str(arguments[0]), offset=_integer(arguments[1]) if len(arguments) == 4 else None)


def _zone_at(_: Builder, arguments: tuple[object, ...]) -> Zone:
    """TimezoneInfo of pendulum 1: a zone and one of its offsets."""
    _expect(len(arguments) > 1 and isinstance(arguments[0], Zone), "a time zone")
    assert isinstance(arguments[0], Zone)
    return Zone(name=arguments[0].name, offset=_integer(arguments[1]))


def _utc(_: Builder, arguments: tuple[object, ...]) -> Zone:
    _expect(not arguments, "UTC")
    return Zone(name="UTC")


def _offset(unit: int) -> Callable[[Builder, tuple[object, ...]], Zone]:
    def build(_: Builder, arguments: tuple[object, ...]) -> Zone:
        _expect(bool(arguments), "a time zone")
        return Zone(offset=_integer(arguments[0]) * unit)

    return build


def _timezone(_: Builder, arguments: tuple[object, ...]) -> Zone:
    _expect(bool(arguments) and isinstance(arguments[0], timedelta), "a time zone")
    assert isinstance(arguments[0], timedelta)
    return Zone(offset=_seconds(arguments[0]))


def _tzoffset(_: Builder, arguments: tuple[object, ...]) -> Zone:
    """dateutil: name and timedelta, in older releases afterwards, as its state."""
    if not arguments:
        return Zone()
    _expect(len(arguments) == 2 and isinstance(arguments[1], timedelta), "a time zone")
    assert isinstance(arguments[1], timedelta)
    return Zone(offset=_seconds(arguments[1]))


def _uuid(_: Builder, arguments: tuple[object, ...]) -> PickledUUID:
    _expect(not arguments, "a UUID")
    return PickledUUID()


def _reconstruct(builder: Builder, arguments: tuple[object, ...]) -> object:
    """``copyreg._reconstructor(cls, base, state of the base)``, as the protocols 0 and 1 write an object."""
    match arguments:
        case (Name() as what, Name(name="object" | "tzinfo"), _):
            return builder.call(what, ())
        case (Name() as what, *_):
            return Opaque(f"an object of {what}")
        case _:
            return Opaque("an object")


def _dtype(_: Builder, arguments: tuple[object, ...]) -> object:
    _expect(bool(arguments) and isinstance(arguments[0], str), "a type of numpy")
    code = str(arguments[0])
    return Dtype(code) if code in _NUMPY else Opaque("an object of numpy.dtype")


def _scalar(builder: Builder, arguments: tuple[object, ...]) -> object:
    _expect(len(arguments) == 2, "a number of numpy")
    if not isinstance(arguments[0], Dtype):
        return Opaque("an object of numpy")
    code, data = arguments[0].code, _bytes(arguments[1])
    _expect(len(data) == int(code[1:]), "a number of numpy")
    builder.notes.add(PLAIN_NUMBER)
    order = ">" if arguments[0].order == ">" else "<"
    return struct.unpack(order + _NUMPY[code], data)[0]


_NUMPY = {
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
}  # fmt: skip
_KEY_LIMIT = 1 << 63
_KEY_PARTS = 100


def check_hashable(key: object) -> None:
    """Refuse keys whose hash would cost without bound, or that have none.

    :raises UndecodableError: a key that is no plain value, or too large
    """
    waiting = [key]
    for _ in range(_KEY_PARTS):
        part = waiting.pop()
        if isinstance(part, tuple):
            waiting += part
        elif isinstance(part, int):
            _expect(-_KEY_LIMIT <= part < _KEY_LIMIT, "a key")
        elif part is not None and not isinstance(
            part, str | float | bytes | date | time | timedelta | Decimal | frozenset | PickledUUID | Opaque | Raw
        ):
            raise UndecodableError("a key that is not as expected")
        if not waiting:
            return
    raise UndecodableError("a key of very many parts")


_Build = Callable[[Builder, tuple[object, ...]], object]
_IN_BUILTINS: dict[str, _Build] = {
    "set": _set,
    "frozenset": _frozenset,
    "bytes": _no_bytes,
    "getattr": _attribute,
}
_KNOWN: dict[tuple[str, str], _Build] = {
    **{(module, name): build for module in ("builtins", "__builtin__") for name, build in _IN_BUILTINS.items()},
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("copy_reg", "_reconstructor"): _reconstruct,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _defaultdict,
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): _date,
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("decimal", "Decimal"): _decimal,
    ("uuid", "UUID"): _uuid,
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
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}
