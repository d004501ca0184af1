"""What Airflow's own conversion of a conf would do is foreseen without unpickling it."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_migration.metadata.conf_scan import EMPTY, Outcome, judge


class Touched:
    """Building one of these must never happen."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("it was unpickled",))


KEPT: list[object] = [
    {}, {"a": 1, "b": [1, 2.5, None, True], "c": {"d": "ü" * 300}}, [], "text", None, 0, {"n": 10**30}, {1: "one"},
    {"t": (1, 2)}, {"long": "x" * 70_000}, {"never": "\\ud800 in words"},
]  # fmt: skip
LOST: list[object] = [
    {"a": {1}}, {"a": frozenset()}, {"a": b"x"}, {"a": bytearray(b"x")}, {"when": datetime(2026, 1, 1)},
    {"d": Decimal(1)}, {"c": 1j}, Touched(), {"a": Touched()},
]  # fmt: skip
REWRITTEN: list[object] = [{"a": math.nan}, {"a": [math.inf]}, {"a": "b\0"}, {"\0": 1}]


def outcomes(values: list[object], outcome: Outcome) -> list[Any]:
    return [
        pytest.param(pickle.dumps(value, protocol), outcome, id=f"{number}-{protocol}")
        for number, value in enumerate(values)
        for protocol in range(2, 6)
    ]


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        *outcomes(KEPT, "kept"),
        *outcomes(LOST, "lost"),
        *outcomes(REWRITTEN, "rewritten"),
        *outcomes([{"a": "\ud800"}], "stops"),
        pytest.param(b"", "lost", id="nothing"),
        pytest.param(b"\x80\x05", "lost", id="cut off"),
        pytest.param(b'{"a": 1}', "lost", id="json"),
        pytest.param(pickle.dumps({"a": 1})[:-3], "lost", id="without an end"),
        pytest.param(b"\x80\x03Pid\n.", "lost", id="persistent id"),
    ],
)
def test_outcome(data: bytes, outcome: Outcome) -> None:
    assert judge(data)[0] == outcome


@pytest.mark.parametrize("value", [*KEPT, *LOST[:7]], ids=str)
def test_it_agrees_with_the_conversion_of_3_0(value: object) -> None:
    """`_json_safe` and `json.dumps`, as e39a26ac59f6 has them; the values are ours."""
    outcome, _ = judge(pickle.dumps(value))
    try:
        json.dumps(json_safe(value))
    except TypeError:
        assert outcome == "lost"
    else:
        assert outcome == "kept"


def json_safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {json_safe(key): json_safe(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [json_safe(each) for each in value]
    return value


def test_the_empty_dict_is_recognised_in_every_protocol() -> None:
    assert {pickle.dumps({}, protocol) for protocol in range(2, 6)} <= set(EMPTY)
