"""The classes that a pickle may name, each known by its name alone and built by our own code."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal, InvalidOperation
from uuid import UUID

from airflow_migration.metadata.pickled_objects import (
    Build,
    Name,
    Opaque,
    Raw,
    UndecodableError,
    expect,
    state_bytes,
)
from airflow_migration.metadata.pickled_times import KNOWN_TIMES, Zone, seconds_of

PLAIN_NUMBER = "a number of numpy becomes a plain one"


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


def call(notes: set[str], what: Name, arguments: tuple[object, ...]) -> object:
    """The object that the class or function gives for these arguments; opaque when it is not known.

    :param notes: what is not quite as it was is added here
    """
    build = _KNOWN.get((what.module, what.name))
    return build(notes, arguments) if build else Opaque(f"an object of {what}")


def set_state(target: object, state: object) -> None:
    """What BUILD does to an object of ours; a time zone's state says no more than its name."""
    if isinstance(target, Opaque) or (isinstance(target, Zone) and target.name is not None):
        return
    values = state if isinstance(state, dict) else {}
    match target:
        case Zone() if isinstance(values.get("_offset"), timedelta):
            target.offset = seconds_of(values["_offset"])
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


def _decimal(_: set[str], arguments: tuple[object, ...]) -> Decimal:
    expect(len(arguments) == 1 and isinstance(arguments[0], str), "a Decimal")
    try:
        return Decimal(str(arguments[0]))
    except InvalidOperation:
        raise UndecodableError("a Decimal that is not as expected") from None


def _mapping(_: set[str], arguments: tuple[object, ...]) -> dict[object, object]:
    """OrderedDict: nothing, or pairs from Python 2."""
    expect(len(arguments) <= 1, "an OrderedDict")
    found: dict[object, object] = {}
    for pair in _items(arguments):
        expect(isinstance(pair, list | tuple) and len(pair) == 2, "an OrderedDict")
        assert isinstance(pair, list | tuple)
        check_hashable(pair[0])
        found[pair[0]] = pair[1]
    return found


def _defaultdict(_: set[str], arguments: tuple[object, ...]) -> dict[object, object]:
    expect(len(arguments) <= 1, "a defaultdict")
    return {}


def _items(arguments: tuple[object, ...]) -> list[object]:
    if not arguments:
        return []
    expect(len(arguments) == 1 and isinstance(arguments[0], list | tuple), "items")
    assert isinstance(arguments[0], list | tuple)
    return list(arguments[0])


def _set(_: set[str], arguments: tuple[object, ...]) -> set[object]:
    items = _items(arguments)
    for each in items:
        check_hashable(each)
    return set(items)


def _frozenset(notes: set[str], arguments: tuple[object, ...]) -> frozenset[object]:
    return frozenset(_set(notes, arguments))


def _encode(_: set[str], arguments: tuple[object, ...]) -> bytes:
    """Bytes, as the protocols up to 2 write them."""
    expect(len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1"), "bytes")
    return str(arguments[0]).encode("latin-1")


def _no_bytes(_: set[str], arguments: tuple[object, ...]) -> bytes:
    expect(not arguments, "bytes")
    return b""


def _attribute(_: set[str], arguments: tuple[object, ...]) -> object:
    """``getattr(ZoneInfo, '_unpickle')`` and no other, as the protocols up to 3 write it."""
    match arguments:
        case (
            Name(module=("zoneinfo" | "backports.zoneinfo" | "pendulum.tz.timezone") as module, name=name),
            str(what),
        ):
            return Name(module, f"{name}.{what}")
        case _:
            return Opaque("an attribute of something")


def _uuid(_: set[str], arguments: tuple[object, ...]) -> PickledUUID:
    expect(not arguments, "a UUID")
    return PickledUUID()


def _reconstruct(notes: set[str], arguments: tuple[object, ...]) -> object:
    """``copyreg._reconstructor(cls, base, state of the base)``, as the protocols 0 and 1 write an object."""
    match arguments:
        case (Name() as what, Name(name="object" | "tzinfo"), _):
            return call(notes, what, ())
        case (Name() as what, *_):
            return Opaque(f"an object of {what}")
        case _:
            return Opaque("an object")


def _dtype(_: set[str], arguments: tuple[object, ...]) -> object:
    expect(bool(arguments) and isinstance(arguments[0], str), "a type of numpy")
    code = str(arguments[0])
    return Dtype(code) if code in _NUMPY else Opaque("an object of numpy.dtype")


def _scalar(notes: set[str], arguments: tuple[object, ...]) -> object:
    expect(len(arguments) == 2, "a number of numpy")
    if not isinstance(arguments[0], Dtype):
        return Opaque("an object of numpy")
    code, data = arguments[0].code, state_bytes(arguments[1])
    expect(len(data) == int(code[1:]), "a number of numpy")
    notes.add(PLAIN_NUMBER)
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
            expect(-_KEY_LIMIT <= part < _KEY_LIMIT, "a key")
        elif part is not None and not isinstance(
            part, str | float | bytes | date | time | timedelta | Decimal | frozenset | PickledUUID | Opaque | Raw
        ):
            raise UndecodableError("a key that is not as expected")
        if not waiting:
            return
    raise UndecodableError("a key of very many parts")


_IN_BUILTINS: dict[str, Build] = {
    "set": _set,
    "frozenset": _frozenset,
    "bytes": _no_bytes,
    "getattr": _attribute,
}
_KNOWN: dict[tuple[str, str], Build] = {
    **KNOWN_TIMES,
    **{(module, name): build for module in ("builtins", "__builtin__") for name, build in _IN_BUILTINS.items()},
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("copy_reg", "_reconstructor"): _reconstruct,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _defaultdict,
    ("decimal", "Decimal"): _decimal,
    ("uuid", "UUID"): _uuid,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}
