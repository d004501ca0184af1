"""Read a pickle without executing anything that it names: plain values, and the few classes known by name."""

from __future__ import annotations

import codecs
import io
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal

from airflow_migration.metadata.pickled_classes import PickledUUID, call, check_hashable, set_state
from airflow_migration.metadata.pickled_objects import Name, Opaque, Raw, UndecodableError

MAX_BYTES = 16 << 20
"""Longest pickle that is read."""
MAX_PARTS = 1_000_000
"""Most values in a decoded one, those that it refers to twice counted twice."""
MAX_CHARS = 64 << 20
"""Most characters and bytes of all texts of a decoded one, counted the same way."""
MAX_STEPS = 2_000_000
"""Most opcodes, each of which may make an object."""
MAX_DEPTH = 150
"""Deepest nesting; Airflow's reader stops at about twice that."""
_TOO_DEEP = "a value that is nested very deep, or in itself"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A value of None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, date, datetime, time,
    timedelta, Decimal and UUID.

    :param foreign: whether the pickle names a class or a function, which unpickling would call
    :param notes: what is not quite as it was
    """

    value: object
    foreign: bool
    notes: frozenset[str]


def decode(data: bytes) -> Decoded:
    """Decode a pickle of protocol 0 to 5, of Python 2 too, whose text is taken for UTF-8.

    Nothing is imported or called by a name in the data.

    :raises UndecodableError: it is no pickle, holds what is not known, refers to itself, or is larger than the bounds
    """
    if len(data) > MAX_BYTES:
        raise UndecodableError(f"a pickle of more than {MAX_BYTES >> 20} MB")
    machine = _Machine()
    try:
        value = _Finish().plain(machine.run(data), 0)
    except UndecodableError:
        raise
    except (ValueError, IndexError, KeyError, OverflowError, TypeError, RecursionError):
        raise UndecodableError("no readable pickle") from None
    return Decoded(value, machine.foreign, frozenset(machine.notes))


class _Machine:
    """The stack machine of a pickle."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.outer: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.notes: set[str] = set()
        self.foreign = False

    def run(self, data: bytes) -> object:
        """What STOP finds on the stack."""
        stream = io.BytesIO(data)
        for _ in range(MAX_STEPS):
            code = stream.read(1)
            if code == b"S":  # pickletools reads ASCII only
                self.stack.append(_old_text(_quoted(stream.readline())))
                continue
            opcode = _OPCODES[code]
            argument = opcode.arg.reader(stream) if opcode.arg else None
            if opcode.name == "STOP":
                return self.stack.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise UndecodableError("a bytearray" if "ARRAY" in opcode.name else "a reference to something outside")
            step(self, argument)
        raise UndecodableError("a pickle of very many parts")

    def pop_mark(self) -> list[object]:
        """The values since the last MARK."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def call(self, what: object, arguments: object) -> None:
        """Push what a class or function gives."""
        self.foreign = True
        if not isinstance(arguments, tuple):
            raise UndecodableError("no readable pickle")
        if isinstance(what, Name):
            self.stack.append(call(self.notes, what, arguments))
        else:
            self.stack.append(what if isinstance(what, Opaque) else Opaque("an object of an unknown class"))

    def name(self, module: object, name: object) -> None:
        """Push a class or function."""
        self.foreign = True
        self.stack.append(Name(str(module), str(name)))

    def append(self, items: list[object]) -> None:
        """Add to the list on the stack."""
        target = self.stack[-1]
        if isinstance(target, list):
            target += items
        elif not isinstance(target, Opaque):
            raise UndecodableError("no readable pickle")

    def add(self, items: list[object]) -> None:
        """Add to the set on the stack."""
        target = self.stack[-1]
        if isinstance(target, set):
            target |= _hashable(items)
        elif not isinstance(target, Opaque):
            raise UndecodableError("no readable pickle")

    def set_items(self, items: list[object]) -> None:
        """Add keys and values to the dict on the stack."""
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                if type(key) is not str:
                    check_hashable(key)
                target[key] = value
        elif not isinstance(target, Opaque):
            raise UndecodableError("no readable pickle")

    def build(self) -> None:
        """Give the object on the stack its state."""
        state = self.stack.pop()
        set_state(self.stack[-1], state)

    def gather(self, count: int) -> None:
        """Make the last values a tuple."""
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise UndecodableError("no readable pickle")
        self.stack[-count:] = [items]

    def instance(self, argument: object) -> None:
        """INST: module and name in the opcode, arguments since MARK."""
        module, _, name = str(argument).partition(" ")
        self.call(Name(module, name), tuple(self.pop_mark()))

    def open(self) -> None:
        """MARK."""
        if len(self.outer) > 10 * MAX_DEPTH:
            raise UndecodableError(_TOO_DEEP)
        self.outer.append(self.stack)
        self.stack = []


def _hashable(items: list[object]) -> set[object]:
    for each in items:
        check_hashable(each)
    return set(items)


def _quoted(line: bytes) -> bytes:
    text = line.rstrip(b"\r\n")
    if not line.endswith(b"\n") or len(text) < 2 or text[:1] not in (b"'", b'"') or text[:1] != text[-1:]:
        raise UndecodableError("no readable pickle")
    if b"\\" not in text:
        return text[1:-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of an escape that means itself
        return codecs.escape_decode(text[1:-1])[0]


def _old_text(data: bytes) -> str | Raw:
    """Text of Python 2, which may as well be bytes."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return Raw(data)


def _pairs_of(items: list[object]) -> dict[object, object]:
    for key in items[::2]:
        check_hashable(key)
    return dict(zip(items[::2], items[1::2], strict=True))


Step = Callable[[_Machine, object], None]


def _proto(_: _Machine, argument: object) -> None:
    if not isinstance(argument, int) or argument > 5:
        raise UndecodableError("a pickle of a newer protocol")


def _constant(value: object) -> Step:
    return lambda machine, _: machine.stack.append(value)


def _push(machine: _Machine, argument: object) -> None:
    machine.stack.append(argument)


def _push_old(machine: _Machine, argument: object) -> None:
    machine.stack.append(_old_text(str(argument).encode("latin-1")))


def _put(machine: _Machine, argument: object) -> None:
    assert isinstance(argument, int)
    machine.memo[argument] = machine.stack[-1]


def _get(machine: _Machine, argument: object) -> None:
    assert isinstance(argument, int)
    machine.stack.append(machine.memo[argument])


def _from_mark(make: Callable[[list[object]], object]) -> Step:
    def step(machine: _Machine, _: object) -> None:
        items = machine.pop_mark()
        machine.stack.append(make(items))

    return step


def _global(machine: _Machine, argument: object) -> None:
    machine.name(*str(argument).split(" ", 1))


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.name(module, name)


def _reduce(machine: _Machine, _: object) -> None:
    arguments, what = machine.stack.pop(), machine.stack.pop()
    machine.call(what, arguments)


def _new_with_names(machine: _Machine, _: object) -> None:
    names, arguments, what = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.call(what if not names else Opaque("an object of an unknown class"), arguments)


def _obj(machine: _Machine, _: object) -> None:
    what, *arguments = machine.pop_mark()
    machine.call(what, tuple(arguments))


def _set_item(machine: _Machine, _: object) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _pop(machine: _Machine, _: object) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


_OPCODES = {each.code.encode("latin-1"): each for each in pickletools.opcodes}
_PUSHED = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8"
    " BINBYTES SHORT_BINBYTES BINBYTES8"
)
_STEPS: dict[str, Step] = {
    "PROTO": _proto,
    "FRAME": lambda *_: None,
    **dict.fromkeys(_PUSHED.split(), _push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _push_old),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "EMPTY_TUPLE": _constant(()),
    "MARK": lambda machine, _: machine.open(),
    "LIST": _from_mark(list),
    "TUPLE": _from_mark(tuple),
    "DICT": _from_mark(_pairs_of),
    "FROZENSET": _from_mark(lambda items: frozenset(_hashable(items))),
    "TUPLE1": lambda machine, _: machine.gather(1),
    "TUPLE2": lambda machine, _: machine.gather(2),
    "TUPLE3": lambda machine, _: machine.gather(3),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.pop_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    "POP": _pop,
    "POP_MARK": lambda machine, _: machine.stack.extend(machine.pop_mark()[:0]),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_names,
    "INST": lambda machine, argument: machine.instance(argument),
    "OBJ": _obj,
    "BUILD": lambda machine, _: machine.build(),
}
"""What is missing (EXT…, PERSID, BINPERSID, NEXT_BUFFER, READONLY_BUFFER, BYTEARRAY8) is refused."""


class _Finish:
    """Copies a value, bounded, with what came after an object put in its place."""

    def __init__(self) -> None:
        self.parts = MAX_PARTS
        self.chars = MAX_CHARS

    def plain(self, value: object, depth: int) -> object:
        """The value, or UndecodableError where something is not plain."""
        self.parts -= 1
        if self.parts < 0:
            raise UndecodableError("a value of very many parts")
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, str | bytes):
            self.chars -= len(value)
            if self.chars < 0:
                raise UndecodableError("a value of very long texts")
            return value
        if isinstance(value, list | tuple | dict | set | frozenset):
            return self._collection(value, depth + 1)
        match value:
            case int():
                if value.bit_length() > 10_000:
                    raise UndecodableError("a number of thousands of digits")
                return value
            case date() | time() | timedelta() | Decimal():
                return value
            case PickledUUID():
                return value.value()
            case Opaque():
                raise UndecodableError(value.reason)
            case Raw():
                raise UndecodableError("bytes or text of Python 2 that is no UTF-8")
            case _:
                raise UndecodableError("a class or a time zone by itself")

    def _collection(
        self,
        value: list[object] | tuple[object, ...] | dict[object, object] | set[object] | frozenset[object],
        depth: int,
    ) -> object:
        if depth > MAX_DEPTH:
            raise UndecodableError(_TOO_DEEP)
        if isinstance(value, dict):
            return {self.plain(key, depth): self.plain(each, depth) for key, each in value.items()}
        items = [self.plain(each, depth) for each in value]
        return items if isinstance(value, list) else type(value)(items)
