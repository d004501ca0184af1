"""Pickles become the values that they were, whoever wrote them, and nothing that they name is ever run."""

from __future__ import annotations

import collections
import datetime
import decimal
import gzip
import math
import pickle
import pickletools
import random
import sys
import time
import uuid
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_migration.metadata.pickled_classes import PLAIN_NUMBER
from airflow_migration.metadata.pickled_objects import UndecodableError
from airflow_migration.metadata.pickled_times import SHIFTED, PendulumDateTime
from airflow_migration.metadata.pickles import _STEPS, MAX_BYTES, decode

PICKLERS: list[Any] = [pickle.dumps, vars(pickle)["_dumps"]]
UTC = datetime.timezone.utc
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Values:
    """Random values of every type that is decoded, some of them used twice."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.used: list[Any] = []

    def scalar(self) -> Any:
        draw = self.random
        makers: list[Any] = [
            lambda: None,
            lambda: draw.random() < 0.5,
            lambda: draw.randint(-(2 ** draw.choice([3, 8, 16, 31, 40])), 2 ** draw.choice([3, 8, 16, 31, 40])),
            lambda: draw.choice([0.0, -1.5, 1e300, math.inf, draw.random()]),
            lambda: "".join(draw.choices("aß€😀\0\n'\\", k=draw.choice([0, 1, 5, 300]))),
            lambda: draw.randbytes(draw.choice([0, 1, 300])),
            lambda: datetime.datetime(draw.randint(1, 9999), 1, 2, 3, 4, 5, draw.randint(0, 999999)),
            lambda: datetime.datetime(2026, draw.randint(1, 12), 2, tzinfo=draw.choice([UTC, BERLIN])),
            lambda: datetime.date(draw.randint(1, 9999), 12, 31),
            lambda: datetime.time(draw.randint(0, 23), 1, 2, draw.randint(0, 999999)),
            lambda: datetime.timedelta(draw.randint(-99, 99), 1, draw.randint(0, 999999)),
            lambda: decimal.Decimal(draw.choice(["1.10", "-0", "NaN", "1E+9"])),
            lambda: uuid.UUID(int=draw.getrandbits(128)),
        ]
        return draw.choice(makers)()

    def value(self, depth: int = 4) -> Any:
        draw = self.random
        if self.used and draw.random() < 0.1:
            return draw.choice(self.used)
        if depth == 0 or draw.random() < 0.4:
            return self.scalar()
        few = range(draw.choice([0, 1, 2, 3, 4, 12]))
        makers: list[Any] = [
            lambda: [self.value(depth - 1) for _ in few],
            lambda: tuple(self.value(depth - 1) for _ in few),
            lambda: {self.scalar(): self.value(depth - 1) for _ in few},
            lambda: {(self.scalar(), self.scalar()) for _ in few},
            lambda: frozenset(self.scalar() for _ in few),
            lambda: collections.OrderedDict((self.scalar(), self.value(depth - 1)) for _ in few),
            lambda: collections.defaultdict(list, {self.scalar(): [1] for _ in few}),
        ]
        made = draw.choice(makers)()
        self.used.append(made)
        return made


def as_text(value: Any) -> str:
    """For a comparison that knows NaN, types and the order of keys, but not that of sets."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_text(key)}: {as_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(map(as_text, value))})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(as_text, value))})"
    return repr(value)


@pytest.fixture
def plain_picklers() -> Iterator[None]:
    """Airflow imports dill, which adds to what the pickler of Python itself knows."""
    dill = sys.modules.get("dill")
    if dill:
        dill.extend(use_dill=False)
    yield
    if dill:
        dill.extend(use_dill=True)


@pytest.mark.usefixtures("plain_picklers")
@pytest.mark.parametrize("protocol", range(6))
def test_random_values_come_back_as_they_were(protocol: int) -> None:
    for seed in range(300):
        value = Values(seed).value()
        for dumps in PICKLERS:
            found = decode(dumps(value, protocol))
            assert as_text(found.value) == as_text(value), (seed, dumps)
            assert not found.notes


def test_pickles_of_every_release_come_back_as_they_were() -> None:
    """Written by make_pickles.py with Python 2.7 to 3.12, pendulum 1 to 3, pytz, dateutil and numpy."""
    lines = gzip.decompress((Path(__file__).parent / "pickles.tsv.gz").read_bytes()).decode().splitlines()
    assert len(lines) > 900
    for line in lines:
        environment, expression, protocol, _, data = line.split("\t")
        if environment == "python 2.7" and expression == "b'\\x00\\xff'":
            with pytest.raises(UndecodableError):
                decode(bytes.fromhex(data))
            continue
        found = decode(bytes.fromhex(data))
        expected = in_standard_library(expression)
        if environment == "python 2.7" and expected == b"":
            expected = ""
        fold_is_lost = "fold=1" in expression and int(protocol) < 4
        if isinstance(expected, datetime.datetime) and expected.tzinfo and not fold_is_lost:
            assert isinstance(found.value, datetime.datetime)
            assert found.value.timestamp() == expected.timestamp(), line[:200]
        else:
            assert fold_is_lost or found.value == expected, line[:200]
        assert isinstance(found.value, datetime.datetime) or type(found.value) is type(expected)
        pendulums = ("pendulum.create", "pendulum.instance", "pendulum.datetime")
        assert isinstance(found.value, PendulumDateTime) is expression.startswith(pendulums)


BERLIN_SUMMER = datetime.datetime(2026, 7, 2, 3, tzinfo=BERLIN)


def in_standard_library(expression: str) -> Any:
    """The value that the expression has, without other libraries."""
    if "Berlin" in expression:
        return BERLIN_SUMMER if "10, 25" not in expression else datetime.datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    if "pendulum.timezone(3600)" in expression:
        return datetime.datetime(2026, 7, 2, 2, tzinfo=UTC)
    if "90)" in expression or "5400" in expression:
        return datetime.datetime(2026, 7, 2, 1, 30, tzinfo=UTC)
    if "pendulum.date(" in expression:
        return datetime.date(2026, 7, 2)
    if "4, 5, 6" in expression and "pendulum" in expression:
        return datetime.datetime(2026, 7, 2, 3, 4, 5, 6, tzinfo=UTC)
    if any(name in expression for name in ("pytz", "dateutil", "pendulum")):
        return datetime.datetime(2026, 7, 2, 3, tzinfo=UTC)
    if "numpy" in expression:
        plain = {"int64": int, "uint8": int, "int32": int, "float64": float, "float32": float, "bool_": bool}
        return eval(expression.replace("numpy.", ""), plain)
    found = eval(expression)
    return dict(found) if isinstance(found, dict) else found


def long_memo() -> bytes:
    """A list of ten lists of ten lists …: 10^40 values in a few hundred bytes."""
    value: list[Any] = []
    for _ in range(40):
        value = [value] * 10
    return pickle.dumps(value)


def long_keys() -> bytes:
    """A tuple whose hash is that of 2^60 parts."""
    value: Any = 1
    for _ in range(60):
        value = (value, value)
    return pickle.dumps([value])[:-2] + b"}\x94h\x00K\x01s."


def itself() -> bytes:
    value: list[Any] = []
    value.append(value)
    return pickle.dumps(value)


HOSTILE = {
    "os.system": b"cos\nsystem\n(S'touch FILE'\ntR.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\ntouch FILE\x85R.",
    "inst": b"(S'touch FILE'\nios\nsystem\n.",
    "obj": b"\x80\x02(cos\nsystem\nU\ntouch FILEo.",
    "newobj": b"\x80\x02csubprocess\nPopen\nU\ntouch FILE\x85\x81.",
    "newobj_ex": b"\x80\x04\x8c\nsubprocess\x8c\x05Popen\x93\x8c\ntouch FILE\x85}\x92.",
    "eval": b'c__builtin__\neval\n(S\'open("FILE", "w")\'\ntR.',
    "getattr": b"c__builtin__\ngetattr\n(c__builtin__\nobject\nS'__subclasses__'\ntR(tR.",
    "getattr of a zone": b"c__builtin__\ngetattr\n(czoneinfo\nZoneInfo\nS'__init__'\ntR(tR.",
    "build": b"ccollections\nOrderedDict\n(tR}S'__class__'\nI1\nsb.",
    "reconstructor": b"ccopy_reg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
    "default factory": b"ccollections\ndefaultdict\n(cos\nsystem\ntRS'a'\ncos\nsystem\ns.",
    "encode": b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent id": b"Pid\n.",
    "binary persistent id": b"\x80\x02K\x01Q.",
    "buffer": b"\x80\x05\x97.",
    "zone of another file": pickle.dumps(BERLIN_SUMMER).replace(b"\x0dEurope/Berlin", b"\x0d../../../etc/p"[:14]),
    "a class itself": pickle.dumps(datetime.datetime),
    "a zone itself": pickle.dumps(UTC),
    "a date of month 13": pickle.dumps(datetime.date(2026, 12, 1)).replace(b"\x0c\x01", b"\x0d\x01"),
    "memo bomb": long_memo(),
    "a key without end": long_keys(),
    "itself": itself(),
    "nested": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "nested marks": b"\x80\x04" + b"(" * 3_000_000 + b".",
    "nested tuples as a key": b"\x80\x04}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
    "colliding keys": pickle.dumps({n * (2**61 - 1): 1 for n in range(9)}),
    "many lists": b"\x80\x04(" + b"]" * 2_100_000 + b"l.",
    "long text, often": pickle.dumps(["x" * 1_000_000] * 1000),
    "a number of a million digits": pickle.dumps(1 << 3_000_000),
    "decimals of a million digits": b"I" + b"1" * 1_000_000 + b"\n.",
    "too long": b"\x80\x04X" + MAX_BYTES.to_bytes(4, "little") + b"x" * MAX_BYTES + b".",
    "cut off": pickle.dumps({"a": [1, 2, 3]})[:-3],
    "length beyond the end": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
    "nothing on the stack": b"\x80\x04.",
    "no mark": b"\x80\x04t.",
    "no memo": b"\x80\x04h\x05.",
    "odd items": b"\x80\x04}(K\x01u.",
    "a list as a key": b"\x80\x04}]K\x01s.",
    "items of a number": b"\x80\x04K\x01K\x02a.",
    "no quotes": b"Stext\n.",
    "newer protocol": b"\x80\x06N.",
    "bytearray": pickle.dumps(bytearray(b"x"), 5),
    "complex": pickle.dumps(1j),
    "json": b'{"a": 1}',
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickle_is_refused_soon_and_runs_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    started = time.process_time()
    with pytest.raises(UndecodableError) as caught:
        decode(HOSTILE[name])
    assert time.process_time() - started < 20
    assert not list(tmp_path.iterdir())
    assert set(sys.modules) == modules
    assert "FILE" not in str(caught.value)


def test_what_would_run_does_run_when_it_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above means something."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "stack global", "inst", "obj", "eval"):
        pickle.loads(HOSTILE[name])
        assert (tmp_path / "FILE").exists(), name
        (tmp_path / "FILE").unlink()


@pytest.mark.filterwarnings("ignore:invalid escape")
def test_every_byte_may_be_damaged() -> None:
    """Whatever is changed, the answer is a value or that one error."""
    draw = random.Random(1)
    for seed in range(150):
        data = bytearray(pickle.dumps(Values(seed).value(), draw.randint(0, 5)))
        for _ in range(20):
            damaged = bytearray(data)
            for _ in range(draw.randint(1, 3)):
                damaged[draw.randrange(len(damaged))] = draw.choice(
                    [draw.randrange(256), ord(draw.choice("(tRcob}]h."))]
                )
            try:
                decode(bytes(damaged))
            except UndecodableError:
                continue


def test_every_opcode_is_either_known_or_refused() -> None:
    """A later protocol's opcodes are refused."""
    refused = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8"}
    apart = {"STRING", "STOP"}
    assert {each.name for each in pickletools.opcodes} == set(_STEPS) | refused | apart


def test_object_that_the_value_does_not_hold_does_no_harm() -> None:
    """As pendulum 1 pickles a time zone with all its transitions."""
    data = b"\x80\x04cwho\nknows\n)R0K\x01."
    found = decode(data)
    assert (found.value, found.foreign) == (1, True)


def test_class_is_named_in_the_reason_and_nothing_else() -> None:
    with pytest.raises(UndecodableError, match=r"^an object of pandas\.core\.frame\.DataFrame$"):
        decode(b"\x80\x04cpandas.core.frame\nDataFrame\n)R.")
    with pytest.raises(UndecodableError, match=r"^an object of an unusual name$"):
        decode(b"\x80\x04\x8c\x08p4ssw'rd\x8c\x01x\x93)R.")


def test_offset_that_the_zone_does_not_have_keeps_the_moment() -> None:
    """``datetime(2026, 7, 2, 3, tzinfo=pytz.timezone("Europe/Berlin"))``: the zone's local mean time of 1892."""
    zone = b"cpytz\n_p\n(X\x0d\x00\x00\x00Europe/BerlinM\x6c\x0cK\x00X\x03\x00\x00\x00LMTtR"
    found = decode(b"\x80\x03cdatetime\ndatetime\nC\x0a\x07\xea\x07\x02\x03\x00\x00\x00\x00\x00" + zone + b"\x86R.")
    assert isinstance(found.value, datetime.datetime)
    assert found.value.astimezone(UTC) == datetime.datetime(2026, 7, 2, 2, 7, tzinfo=UTC)
    assert found.notes == {SHIFTED}


def test_numbers_of_numpy_are_said_to_become_plain() -> None:
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00i2\x89\x88\x87R(K\x03X\x01\x00\x00\x00>NNNK\x00K\x00K\x00tb"
    found = decode(b"\x80\x03cnumpy.core.multiarray\nscalar\n" + dtype + b"C\x02\x01\x02\x86R.")
    assert (found.value, set(found.notes)) == (258, {PLAIN_NUMBER})
