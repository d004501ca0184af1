"""What is written for an XCom is what the target's own Airflow gives back to a task."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from airflow_migration.metadata import airflow_json
from airflow_migration.metadata.airflow_json import conf_value, xcom_text
from airflow_migration.metadata.pickled_objects import UndecodableError
from airflow_migration.metadata.pickled_times import PendulumDateTime
from airflow_migration.postgres.address import DatabaseAddress

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

BERLIN = ZoneInfo("Europe/Berlin")
UTC = timezone.utc

EXACT: list[Any] = [
    None, True, 0, -5, 2**70, 1.5, 1e16, -3e300, 1e-300, 5e-324, 0.1 + 0.2, "", "Größe 😀", "\\u0000 in words", "12",
    [], {}, (), set(), [1, [2, (3, (4,))]], {"a": {"b": [None, {"c": (1, {"d"})}]}}, {1, 2, 3}, frozenset({"x"}),
    {("a", 1), ("b", 2)}, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC),
    datetime(2026, 7, 2, 3, tzinfo=BERLIN), datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
    datetime(2026, 7, 2, 3, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    PendulumDateTime(2026, 7, 2, 3, 4, 5, 6, tzinfo=UTC), PendulumDateTime(2026, 7, 2, tzinfo=BERLIN),
    date(2026, 7, 2), date(1, 1, 1), timedelta(-1, 2, 3), timedelta(365 * 200, 5, 999999), timedelta(seconds=60),
    Decimal("1.10"), Decimal("99999999999999999999.000001"), Decimal("1E+400"), Decimal(7),
    {"when": datetime(2026, 1, 1, tzinfo=UTC), "who": {"a", "b"}, "how much": [Decimal("0.1")]},
    {"__classname__": "alone"}, {"__type": "alone"}, {"__data__": 1, "__version__": 2},
]  # fmt: skip
ID = UUID(int=7)
CHANGED: list[tuple[Any, Any, set[str]]] = [
    ({"a": math.nan, "b": [math.inf]}, {"a": None, "b": [None]}, {airflow_json.NO_NUMBER}),
    ("a\0b", "ab", {airflow_json.NUL}),
    ("half \ud800", "half \ufffd", {airflow_json.SURROGATE}),
    ("\ud83d\ude00", "😀", set()),
    ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "(1, 2)": "c"}, {airflow_json.KEYS}),
    (datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, 3, 4, 5, 6), {airflow_json.NAIVE}),
]
REFUSED: list[Any] = [
    b"bytes", {"a": b""}, time(1), [time(1, 2)], {1: "a", "1": "b"}, datetime(9999, 12, 31, 23, 59, 59, 999999),
    {"__classname__": "os.system", "__version__": 1, "__data__": "x"}, {"__type": "set", "__var": [1]},
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), timedelta.max,
]  # fmt: skip

# Runs in the target's own environment: prints, for each value of the column, what a task would get.
LAZY = "from __future__ import annotations\n"
READ = """
import json, sys
from collections import namedtuple
from airflow.sdk.bases.xcom import BaseXCom
Row = namedtuple("Row", "value")

for line in sys.stdin:
    print(json.dumps(show(BaseXCom.deserialize_value(Row(json.loads(line))))))
"""


def show(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return [type(value).__name__, sorted(map(show, value), key=json.dumps)]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [show(each) for each in value]]
    if isinstance(value, dict):
        return ["dict", sorted([key, show(each)] for key, each in value.items())]
    if hasattr(value, "utcoffset") and hasattr(value, "year"):
        return [type(value).__name__, repr(value.utcoffset()), value.strftime("%Y-%m-%d %H:%M:%S.%f")]
    return [type(value).__name__, repr(value)]


def read_back(python: Path, home: Path, texts: list[str]) -> list[Any]:
    """What the release at `python` makes of what its database column holds."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", LAZY + inspect.getsource(show) + READ],
        input="\n".join(texts),
        env={"AIRFLOW_HOME": str(home), "TZ": "UTC", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("version", ["3.3.2", "3.0.6"])
def test_every_value_comes_back_as_it_was(
    version: str, new_database: Callable[..., DatabaseAddress], runtimes: VenvRuntime, tmp_path: Path
) -> None:
    python = runtimes.prepare(version, lambda _: None) / "bin" / "python"
    uuids = version == "3.3.2"
    values = [*EXACT, *([ID, {"a": [ID]}] if uuids else [])]
    texts = [xcom_text(value, uuids=uuids)[0] for value in [*values, *(before for before, _, _ in CHANGED)]]
    with new_database().connect() as session:
        stored = [str(session.execute("SELECT (%s::jsonb)::text", (text,)).fetchone()[0]) for text in texts]  # type: ignore[index]

    found = read_back(python, tmp_path, stored)
    expected = [*values, *(after for _, after, _ in CHANGED)]
    assert len(found) == len(expected)
    for value, seen in zip(expected, found, strict=True):
        wanted = show(value)
        if isinstance(value, PendulumDateTime):
            wanted[0] = "DateTime"
        assert seen == wanted, value


@pytest.mark.parametrize(("value", "changes"), [(before, changes) for before, _, changes in CHANGED])
def test_what_changes_is_said(value: Any, changes: set[str]) -> None:
    assert xcom_text(value, uuids=True)[1] == changes


@pytest.mark.parametrize("value", EXACT)
def test_what_stays_is_not_said_to_change(value: Any) -> None:
    assert not xcom_text(value, uuids=True)[1]


@pytest.mark.parametrize("value", REFUSED)
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(UndecodableError):
        xcom_text(value, uuids=True)
    with pytest.raises(UndecodableError):
        xcom_text(ID, uuids=False)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": (1, [None, 2.5])}, {"a": [1, [None, 2.5]]}, set()),
        ({1: 1, None: 2, 2.5: 3}, {"1": 1, "null": 2, "2.5": 3}, set()),
        ({"d": datetime(2026, 7, 2, 3, tzinfo=BERLIN)}, {"d": "2026-07-02T03:00:00+02:00"}, {airflow_json.AS_TEXT}),
        ([datetime(2026, 7, 2)], ["2026-07-02T00:00:00+00:00"], {airflow_json.AS_TEXT, airflow_json.NAIVE}),
        ({"d": date(2026, 7, 2), "t": time(1), "u": ID},
         {"d": "2026-07-02", "t": "01:00:00", "u": str(ID)}, {airflow_json.AS_TEXT}),
        ({"s": {"b", "a"}, "f": frozenset({2, 1})}, {"s": ["a", "b"], "f": [1, 2]}, {airflow_json.AS_LIST}),
        ({"s": {1, "a", (2,)}}, {"s": ["a", 1, [2]]}, {airflow_json.AS_LIST}),
        ({"m": Decimal("99.25"), "n": Decimal(5), "t": timedelta(minutes=1)},
         {"m": 99.25, "n": 5, "t": 60.0}, {airflow_json.AS_NUMBER}),
        ({"n": Decimal("NaN"), "i": math.inf}, {"n": None, "i": None},
         {airflow_json.AS_NUMBER, airflow_json.NO_NUMBER}),
        ({"\0": "a\0b"}, {"": "ab"}, {airflow_json.NUL}),
        ({("a", 1): date(2026, 1, 1)}, {"('a', 1)": "2026-01-01"}, {airflow_json.KEYS, airflow_json.AS_TEXT}),
        ({date(2026, 1, 1): 1}, {"2026-01-01": 1}, {airflow_json.KEYS}),
        ({"big": Decimal("1E+99999999")}, {"big": None}, {airflow_json.AS_NUMBER, airflow_json.NO_NUMBER}),
    ],
)  # fmt: skip
def test_a_conf_becomes_plain_json(before: Any, after: Any, changes: set[str]) -> None:
    found, said = conf_value(before)
    assert (json.dumps(found), set(said)) == (json.dumps(after), changes)


@pytest.mark.parametrize("value", [b"x", {"a": [b""]}, {b"k": 1}, {1: "a", "1": "b"}])
def test_a_conf_without_a_form_in_json_is_refused(value: Any) -> None:
    with pytest.raises(UndecodableError):
        conf_value(value)
