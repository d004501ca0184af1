"""What a pickled conf is worth as JSON, as far as it can be known without unpickling."""

from __future__ import annotations

import math
import pickle
from datetime import date

import pytest

from airflow_migration.planning.conf_comparison import read_pickle


class Unknown:
    """Nobody knows what unpickling this would do."""


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("conf", "value"),
    [
        ({}, None),
        (None, None),
        ({"a": (1, 2.5, None, True)}, {"a": [1, 2.5, None, True]}),
        ({1: "ö", "nul": "a\0b"}, {"1": "ö", "nul": "ab"}),
        ([math.nan, math.inf, -math.inf], ["NaN", "Infinity", "-Infinity"]),
    ],
)
def test_plain_values_become_json(protocol: int, conf: object, value: object) -> None:
    read = read_pickle(pickle.dumps(conf, protocol=protocol))
    assert (read.value, read.lost, read.unread) == (value, False, False)


@pytest.mark.parametrize("conf", [{"a": {1, 2}}, {"a": date(2026, 1, 1)}, {"a": b"bytes"}])
def test_what_json_cannot_hold_is_lost(conf: object) -> None:
    assert read_pickle(pickle.dumps(conf)).lost


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(Unknown())])
def test_what_only_unpickling_would_tell_is_unread(data: bytes) -> None:
    assert read_pickle(data).unread
