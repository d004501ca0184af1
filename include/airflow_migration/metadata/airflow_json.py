"""Write decoded values as Airflow 3 reads them: a conf is plain JSON, an XCom names the classes that JSON lacks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from airflow_migration.metadata.pickled_objects import UndecodableError
from airflow_migration.metadata.pickled_times import PendulumDateTime

NO_NUMBER = "NaN and Infinity become null"
NUL = "NUL characters go"
SURROGATE = "half a surrogate pair becomes U+FFFD"
KEYS = "keys that are no text become text"
NAIVE = "a time without a zone is taken for UTC"
AS_TEXT = "dates, times and UUIDs become text"
AS_LIST = "sets become lists"
AS_NUMBER = "decimals and durations become numbers"

CLASS = "__classname__"
_VERSION = "__version__"
_DATA = "__data__"
_OLD = ("__type", "__var")
_DATE_VERSION = 2

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def conf_value(value: object) -> tuple[Json, frozenset[str]]:
    """The value with what JSON lacks replaced, as `json.dumps` and `WebEncoder` of 2.11 (utils/json.py) have it.

    A conf is plain JSON in 3.x: what REST and the UI take, and what a task gets, undecoded. Unlike WebEncoder, a set
    becomes a sorted list, a timedelta its seconds and a UUID its text, where that writes a description of the class.

    :returns: it, and what was changed beyond what JSON does to every tuple and every number as key
    :raises UndecodableError: it holds bytes, or keys that become the same text
    """
    writer = _Conf()
    with _bounded():
        return writer.write(value), frozenset(writer.changes)


def xcom_text(value: object, *, uuids: bool) -> tuple[str, frozenset[str]]:
    """The value as JSON text from which `airflow.sdk.serde.deserialize` (3.3.2) gives it back.

    :param uuids: whether the release reads UUIDs; 3.0 does not
    :returns: the text, in ASCII, and what was changed
    :raises UndecodableError: it holds what that has no form for, or would be taken for something else
    """
    writer = _XCom(uuids=uuids)
    with _bounded():
        plain = writer.write(value)
        text = "".join(_emit(plain)) if writer.large else json.dumps(plain, allow_nan=False)
        return text, frozenset(writer.changes)


@contextmanager
def _bounded() -> Iterator[None]:
    """Dates at the ends of time have no timestamp, or none in another zone."""
    try:
        yield
    except UndecodableError:
        raise
    except (OverflowError, OSError, ValueError):
        raise UndecodableError("a datetime that a number cannot hold") from None


@dataclass(slots=True)
class _Writer:
    """What both have in common."""

    uuids: bool = True
    large: bool = False
    changes: set[str] = field(default_factory=set)

    def write(self, value: object) -> Json:
        """The value in JSON's own types."""
        match value:
            case None | bool() | int():
                return value
            case str():
                return self.text(value)
            case float():
                return self.number(value)
            case list():
                return [self.write(each) for each in value]
            case dict():
                return self.mapping(value)
            case _:
                return self.other(value)

    def text(self, value: str) -> str:
        """Text that jsonb takes."""
        if value.isascii() and "\0" not in value:
            return value
        if "\0" in value:
            self.changes.add(NUL)
            value = value.replace("\0", "")
        try:
            value.encode()
        except UnicodeEncodeError:
            paired = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            if paired.count("\ufffd") > value.count("\ufffd"):
                self.changes.add(SURROGATE)
            return paired
        return value

    def number(self, value: float) -> float | None:
        """A number that JSON has."""
        if not math.isfinite(value):
            self.changes.add(NO_NUMBER)
            return None
        self.large = self.large or abs(value) >= 1e16
        return value

    def mapping(self, value: dict[object, object]) -> dict[str, Json]:
        """A dict with texts as keys."""
        found = {self.text(self.key(key)): self.write(each) for key, each in value.items()}
        if len(found) != len(value):
            raise UndecodableError("keys that become the same text")
        return found

    def key(self, key: object) -> str:
        """What a key becomes."""
        raise NotImplementedError

    def other(self, value: object) -> Json:
        """What JSON has no type for."""
        raise NotImplementedError


@dataclass(slots=True)
class _Conf(_Writer):
    def key(self, key: object) -> str:
        if isinstance(key, str):
            return key
        if key is None or isinstance(key, bool | int | float):
            return json.dumps(key)  # as it does with a key, NaN too
        self.changes.add(KEYS)
        return _as_text(key)

    def other(self, value: object) -> Json:
        match value:
            case tuple():
                return [self.write(each) for each in value]
            case set() | frozenset():
                self.changes.add(AS_LIST)
                return _sorted(map(self.write, value))
            case datetime():
                if value.tzinfo is None:
                    self.changes.add(NAIVE)
                    value = value.replace(tzinfo=timezone.utc)
                self.changes.add(AS_TEXT)
                return value.isoformat()
            case date() | time() | UUID():
                self.changes.add(AS_TEXT)
                return _as_text(value)
            case timedelta():
                self.changes.add(AS_NUMBER)
                return value.total_seconds()
            case Decimal():
                self.changes.add(AS_NUMBER)
                return self.decimal(value)
            case _:
                raise UndecodableError(f"{type(value).__name__}, for which JSON has no form")

    def decimal(self, value: Decimal) -> Json:
        """As WebEncoder: without digits after the point an int."""
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int) and exponent >= 0 and value.adjusted() < 1000:
            return int(value)
        return self.number(math.nan if value.is_nan() else float(value))


@dataclass(slots=True)
class _XCom(_Writer):
    def mapping(self, value: dict[object, object]) -> dict[str, Json]:
        if (CLASS in value and _VERSION in value) or all(name in value for name in _OLD):
            raise UndecodableError("a dict that Airflow would take for a description of an object")
        return _Writer.mapping(self, value)

    def key(self, key: object) -> str:
        """As serde has it."""
        if isinstance(key, str):
            return key
        self.changes.add(KEYS)
        return _as_text(key)

    def other(self, value: object) -> Json:
        match value:
            case tuple():
                return _described("builtins.tuple", [self.write(each) for each in value])
            case set() | frozenset():
                return _described(f"builtins.{type(value).__name__}", _sorted(map(self.write, value)))
            case datetime():
                return self.moment(value)
            case date():
                return _described("datetime.date", value.isoformat(), _DATE_VERSION)
            case timedelta():
                if timedelta(seconds=value.total_seconds()) != value:
                    raise UndecodableError("a timedelta that a number cannot hold")
                return _described("datetime.timedelta", value.total_seconds(), _DATE_VERSION)
            case Decimal():
                return _described("decimal.Decimal", str(value))
            case UUID() if self.uuids:
                return _described("uuid.UUID", str(value))
            case _:
                raise UndecodableError(f"{type(value).__name__}, for which Airflow has no form")

    def moment(self, value: datetime) -> Json:
        """Seconds since 1970, and the zone as pendulum has it."""
        name = "pendulum.datetime.DateTime" if isinstance(value, PendulumDateTime) else "datetime.datetime"
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        seconds = aware.timestamp()
        if datetime.fromtimestamp(seconds, tz=aware.tzinfo) != aware:
            raise UndecodableError("a datetime that a number cannot hold")
        zone: Json = None
        if value.tzinfo is None:
            self.changes.add(NAIVE)
        else:
            zone = _described("builtins.tuple", _zone(value))
        return _described(name, {"timestamp": seconds, "tz": zone}, _DATE_VERSION)


def _described(name: str, data: Json, version: int = 1) -> dict[str, Json]:
    return {CLASS: name, _VERSION: version, _DATA: data}


def _zone(value: datetime) -> list[Json]:
    """What `airflow.sdk.serde.serializers.timezone` writes; seconds for a zone that has no name."""
    if isinstance(value.tzinfo, ZoneInfo):
        return [value.tzinfo.key, "pendulum.tz.timezone.Timezone", 1, True]
    offset = value.utcoffset()
    assert offset is not None
    return ["UTC" if not offset else int(offset.total_seconds()), "pendulum.tz.timezone.FixedTimezone", 1, True]


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        raise UndecodableError("bytes as a key")
    if isinstance(value, date | time) and not isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _sorted(items: Iterable[Json]) -> list[Json]:
    found = list(items)
    if all(isinstance(each, str) for each in found) or all(isinstance(each, int | float) for each in found):
        return sorted(found)  # type: ignore[type-var]
    return sorted(found, key=lambda each: json.dumps(each, sort_keys=True))


def _emit(value: Json) -> Iterable[str]:
    """JSON text in which every float has a decimal point: jsonb drops exponents, and would give an int back."""
    if isinstance(value, float):
        yield f"{value:.1f}" if abs(value) >= 1e16 else json.dumps(value)
    elif isinstance(value, list):
        yield "["
        for number, each in enumerate(value):
            yield ", " if number else ""
            yield from _emit(each)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for number, (key, each) in enumerate(value.items()):
            yield f"{', ' if number else ''}{json.dumps(key)}: "
            yield from _emit(each)
        yield "}"
    else:
        yield json.dumps(value)
