"""See in a pickle whether it can become JSON, without building any of the objects that it describes."""

from __future__ import annotations

import math
import pickletools
from collections.abc import Iterator
from typing import Literal

Outcome = Literal["kept", "rewritten", "stops", "lost"]

EMPTY = (b"\x80\x05}\x94.", b"\x80\x04}\x94.", b"\x80\x03}q\x00.", b"\x80\x02}q\x00.")
"""The empty dict, as the protocols write it."""

_CLASSES = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "BUILD"})
_EXTENSIONS = frozenset({"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"})
_SETS = frozenset({"EMPTY_SET", "FROZENSET", "ADDITEMS"})
_BYTES = frozenset({"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_FLOATS = frozenset({"FLOAT", "BINFLOAT"})


def judge(data: bytes) -> tuple[Outcome, str]:
    """What e39a26ac59f6 (3.0.0) makes of ``dag_run.conf``: `pickle.loads`, then `json.dumps`.

    Measured: a conf with a datetime, a set or an object becomes NULL; NaN stops 3.0 and 3.1, and becomes text in 3.3.

    :returns: ``kept``; ``rewritten`` by 3.3 and a stop before; ``stops`` every release; ``lost``: becomes NULL. And
        what it holds that makes it so
    """
    rewritten = ""
    try:
        for name, argument in _operations(data):
            if name in _CLASSES:
                return "lost", "an object of a class"
            if name in _EXTENSIONS:
                return "lost", "a reference to something outside"
            if name in _SETS:
                return "lost", "a set"
            if name in _BYTES:
                return "lost", "bytes"
            if name in _FLOATS and not math.isfinite(float(str(argument))):
                rewritten = "NaN or Infinity"
            if isinstance(argument, str) and "UNICODE" in name:
                if any("\ud800" <= char <= "\udfff" for char in argument):
                    return "stops", "half a surrogate pair"
                if "\0" in argument:
                    rewritten = rewritten or "the NUL character"
    except ValueError:  # not a pickle, or cut off
        return "lost", "no readable pickle"
    return ("rewritten", rewritten) if rewritten else ("kept", "")


def _operations(data: bytes) -> Iterator[tuple[str, object]]:
    for opcode, argument, _ in pickletools.genops(data):
        yield opcode.name, argument
