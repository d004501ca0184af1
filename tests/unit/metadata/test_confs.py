"""A conf that is written anew passes Airflow's own conversion, which then meets nothing but plain values."""

from __future__ import annotations

import json
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_migration.metadata.repairs.confs import EMPTY, carry


class Unknown:
    """Of a class that no one knows."""


KEPT: list[object] = [
    {}, {"a": 1, "b": [1, 2.5, None, True], "c": {"d": "ü" * 300}}, [], "text", None, 0, {"n": 10**30}, {1: "one"},
    {"t": (1, 2)}, {"long": "x" * 70_000}, {"never": "\\ud800 in words"}, {None: 1, 2.5: 2, False: 3},
]  # fmt: skip
CARRIED: list[object] = [OrderedDict(a=1), {"o": OrderedDict(b=[1])}]
CHANGED: list[object] = [
    {"a": {1}}, {"a": frozenset("ab")}, {"when": datetime(2026, 1, 1)}, {"d": Decimal(1)}, {"a": math.nan},
    {"a": [-math.inf]}, {"a": "b\0"}, {"\0": 1}, {"a": "\ud800"}, {(1, 2): 3},
]  # fmt: skip
LOST: list[object] = [{"a": b"x"}, {"a": bytearray(b"x")}, {"c": 1j}, Unknown(), {"a": Unknown()}, {1: 1, "1": 2}]
ALL = [(value, outcome) for outcome, values in
       (("kept", KEPT), ("carried", CARRIED), ("changed", CHANGED), ("lost", LOST)) for value in values]  # fmt: skip


def airflow_converts(data: bytes) -> str:
    """What `_json_safe` and `json.dumps` of e39a26ac59f6 (3.3.2) make of a pickle that is trusted."""
    return json.dumps(json_safe(pickle.loads(data)), allow_nan=False)


def json_safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {json_safe(key): json_safe(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [json_safe(each) for each in value]
    return value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("value", "outcome"), ALL)
def test_outcome_is_one_that_airflow_s_conversion_takes(value: Any, outcome: str, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    found = carry(data)
    assert found.outcome == outcome
    assert bool(found.reasons) == (outcome in ("changed", "lost"))
    if found.conf is None:
        assert outcome == "lost"
        return
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(found.conf)}
    assert not opcodes & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
    text = airflow_converts(found.conf)
    assert "\\u0000" not in text
    assert "\\ud800" not in text.replace("\\\\", "")
    if outcome == "kept":
        assert (found.conf, text) == (data, airflow_converts(data))


def test_an_empty_conf_is_written_as_airflow_s_conversion_knows_it() -> None:
    assert carry(pickle.dumps(OrderedDict())).conf == EMPTY[0] == bytes.fromhex("80057D942E")
    assert {pickle.dumps({}, protocol) for protocol in range(2, 6)} <= set(EMPTY)


@pytest.mark.parametrize("data", [b"", b"\x80\x05", b'{"a": 1}', pickle.dumps({"a": 1})[:-3], b"\x80\x03Pid\n."])
def test_what_is_no_pickle_is_lost(data: bytes) -> None:
    assert carry(data).outcome == "lost"
