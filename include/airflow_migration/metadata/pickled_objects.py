"""What the parts of a pickle are before they are values, and what refuses it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Build: TypeAlias = Callable[[set[str], tuple[object, ...]], object]
"""Makes an object of its arguments; what is not quite as it was is added to the set."""


class UndecodableError(ValueError):
    """A pickle that is not decoded; the reason names no value."""


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


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that Python 2 wrote as text, and that are no UTF-8."""

    data: bytes


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise UndecodableError(f"{what} that is not as expected")


def state_bytes(value: object) -> bytes:
    """The state of a date or a number; Python 2 writes it as text."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, Raw):
        return value.data
    expect(isinstance(value, bytes), "bytes")
    assert isinstance(value, bytes)
    return value


def integer(value: object) -> int:
    expect(isinstance(value, int), "a number")
    assert isinstance(value, int)
    return value
