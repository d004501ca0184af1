"""Pickled XComs and confs arrive at 3.x as the values that they were, and nothing in them is run on the way."""

from __future__ import annotations

import inspect
import json
import math
import pickle
import subprocess
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from airflow_migration.exceptions import MigrationError
from airflow_migration.metadata.checks import find_problems
from airflow_migration.metadata.checks.pickled_xcoms import say_pickles, survey_pickles
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import read_head, release
from airflow_migration.metadata.repairs import RepairResult, repair, xcoms
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.ledger import changed_rows, prepare
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.command import airflow_environment
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret

Corpus = Callable[[str], DatabaseAddress]
UTC = timezone.utc

# Value, protocol; 2.7 writes protocol 0.
XCOMS: dict[str, tuple[Any, int]] = {
    "number": (5, 3), "text": ("Größe", 0), "nothing": (None, 4), "dict": ({"a": [1, {"b": None}]}, 1),
    "tuple": ((1, (2, "x")), 4), "set": ({"north", "south"}, 3), "frozen": (frozenset({1, 2}), 4),
    "moment": (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), 3), "day": (date(2026, 1, 2), 0),
    "price": (Decimal("99.10"), 3), "id": (UUID(int=7), 4), "large": ({"x": ["y" * 100] * 2000}, 3),
    "ordered": (OrderedDict(z=1, a=2), 4), "long number": (1e300, 3), "deep": ([[[[[[{"a": ({1},)}]]]]]], 5),
}  # fmt: skip
NAN = {"a": math.nan, "b": "x\0y"}
BYTES = {"a": b"\x00\xff"}
OBJECT = b"\x80\x03cshop.models\nOrder\nq\x00)\x81q\x01}q\x02X\x01\x00\x00\x00aq\x03K\x01sb."
CONFS: dict[str, tuple[Any, Any]] = {
    "plain": ({"a": [1, None, "ü"]}, {"a": [1, None, "ü"]}),
    "empty": ({}, {}),
    "dates": ({"d": date(2026, 1, 2), "m": datetime(2026, 1, 2, 3, tzinfo=UTC)},
              {"d": "2026-01-02", "m": "2026-01-02T03:00:00+00:00"}),
    "sets": ({"s": {"b", "a"}}, {"s": ["a", "b"]}),
    "nan": ({"n": [math.nan, 1.5]}, {"n": [None, 1.5]}),
    "nul": ({"n": "a\0b"}, {"n": "ab"}),
    "half": ({"h": "a\ud800"}, {"h": "a\ufffd"}),
    "ordered": (OrderedDict(z=1), {"z": 1}),
    "decimal": ({"p": Decimal("1.5")}, {"p": 1.5}),
    "bytes": (BYTES, None),
}  # fmt: skip

LAZY = "from __future__ import annotations\n"
READ = """
import json, sys
from sqlalchemy import select
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.sdk.bases.xcom import BaseXCom
from airflow.utils.session import create_session
with create_session() as session:
    xcoms = session.scalars(XComModel.get_many(
        run_id="the run", dag_ids="etl_daily", task_ids="push"))
    values = {each.key: repr(sort(BaseXCom.deserialize_value(each))) for each in xcoms}
    confs = dict(session.execute(select(DagRun.run_id, DagRun.conf).where(DagRun.run_id.like("conf %"))).all())
print("FOUND" + json.dumps([values, confs]))
"""


def sort(value: Any) -> Any:
    """The value with its types, comparable as text."""
    if isinstance(value, (set, frozenset)):
        return (type(value).__name__, sorted(map(sort, value), key=repr))
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [sort(each) for each in value])
    if isinstance(value, dict):
        return sorted((key, sort(each)) for key, each in value.items())
    return (type(value).__name__, value.isoformat()) if hasattr(value, "isoformat") else value


def read_as_airflow_does(
    runtimes: VenvRuntime, version: str, address: DatabaseAddress, keys: Secret
) -> tuple[dict[str, str], dict[str, Any]]:
    """XComs of the run by key, as a task gets them, and confs by run, as the release's own models give them."""
    python = runtimes.prepare(version, lambda _: None) / "bin" / "python"
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [python, "-c", LAZY + inspect.getsource(sort) + READ],
            env=airflow_environment(release(version), Path(home), address, keys, {}) | {"PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
            text=True,
        )
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("FOUND")]
    values, confs = json.loads(line.removeprefix("FOUND"))
    return values, confs


def mend(address: DatabaseAddress, target: str) -> RepairResult:
    with address.connect(read_only=False) as session:
        head = read_head(session)
        return repair(
            session, head=head, target_head=release(target).head, migration_id="m", listener=lambda message: None
        )


def look(address: DatabaseAddress, target: str) -> dict[str, Finding]:
    with address.connect() as session:
        found = find_problems(session, head=read_head(session), target_head=release(target).head)
    return {finding.check: finding for finding in found}


def ask(address: DatabaseAddress, query: str) -> list[Any]:
    with address.connect() as session:
        return session.execute(sql.SQL(query)).fetchall()


def write(address: DatabaseAddress, harm: Path) -> None:
    """Gives one run of a database of 1.10.15 these XComs, and makes a run for each conf.

    :param harm: a file that comes to be when somebody unpickles one of them
    """
    command = f"touch {harm}"
    evil = b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."
    values = {key: pickle.dumps(value, protocol) for key, (value, protocol) in XCOMS.items()}
    values |= {"changed": pickle.dumps(NAN, 3), "bytes": pickle.dumps(BYTES, 3), "object": OBJECT}
    values |= {"evil": b"\x80\x03" + evil, "old evil": evil, "json": b'{"a": [1.5, "NaN"]}'}
    confs = {name: pickle.dumps(before, 3) for name, (before, _) in CONFS.items()} | {"evil": evil, "object": OBJECT}
    with address.connect(read_only=False) as session:
        session.execute("UPDATE dag_run SET run_id = 'the run' WHERE dag_id = 'etl_daily' AND execution_date ="
                        " (SELECT execution_date FROM xcom WHERE dag_id = 'etl_daily' LIMIT 1)")  # fmt: skip
        for key, value in values.items():
            session.execute(
                "INSERT INTO xcom (key, value, timestamp, execution_date, task_id, dag_id)"
                " SELECT %s, %s, now(), execution_date, 'push', dag_id FROM dag_run WHERE run_id = 'the run'",
                (key, value),
            )
        for number, (name, conf) in enumerate(confs.items()):
            session.execute(
                "INSERT INTO dag_run (dag_id, execution_date, run_id, state, conf)"
                " SELECT 'asleep', '2019-01-01'::timestamptz + n * interval '1 h', 'conf ' || %s || n, 'success', %s"
                " FROM generate_series(%s::int, %s::int) n",
                (f"{name} ", conf, number * 2, number * 2 + 1),
            )
        session.commit()


@dataclass(frozen=True, kw_only=True)
class Sides:
    """One database of 1.10.15 that went to 3.3.2, and the same without the repairs of its values."""

    before: DatabaseAddress
    found: dict[str, Finding]
    result: RepairResult
    again: RepairResult
    mended: DatabaseAddress
    unmended: DatabaseAddress
    harm_to_mended: Path
    harm_to_unmended: Path


@pytest.fixture(scope="module")
def sides(
    corpus: Corpus,
    new_database: Callable[..., DatabaseAddress],
    runtimes: VenvRuntime,
    fernet_key: Secret,
    tmp_path_factory: pytest.TempPathFactory,
) -> Sides:
    folder = tmp_path_factory.mktemp("harm")
    harm = folder / "done"
    address = corpus("1.10.15")
    write(address, harm)
    found = look(address, "3.3.2")
    mend(address, "2.11.2")
    runtimes.upgrade("2.11.2", address, fernet_key, lambda _: None)
    before, unmended = new_database(template=address.database), new_database(template=address.database)
    result, again = mend(address, "3.3.2"), mend(address, "3.3.2")
    runtimes.upgrade("3.3.2", address, fernet_key, lambda _: None)
    harm_to_mended = harm.rename(folder / "mended") if harm.exists() else folder / "mended"
    with unmended.connect(read_only=False) as session:
        # The upgrade stops at these, and at half a surrogate pair.
        session.execute("DELETE FROM xcom WHERE get_byte(value, 0) <> 128 AND key <> 'json'")
        session.execute("DELETE FROM dag_run WHERE run_id LIKE 'conf half%'")
        session.commit()
    runtimes.upgrade("3.3.2", unmended, fernet_key, lambda _: None)
    return Sides(
        before=before, found=found, result=result, again=again, mended=address, unmended=unmended,
        harm_to_mended=harm_to_mended, harm_to_unmended=harm,
    )  # fmt: skip


def test_every_xcom_is_read_by_the_target_as_the_value_that_it_was(
    sides: Sides, runtimes: VenvRuntime, fernet_key: Secret
) -> None:
    values, confs = read_as_airflow_does(runtimes, "3.3.2", sides.mended, fernet_key)
    expected = {key: repr(sort(value)) for key, (value, _) in XCOMS.items()}
    expected |= {"changed": repr(sort({"a": None, "b": "xy"})), "json": repr(sort({"a": [1.5, "NaN"]}))}
    expected |= {"rows": repr(sort({"a": 1, "b": [1, 2]})), "return_value": repr("done")}
    assert values == expected
    wanted = {name: after for name, (_, after) in CONFS.items()} | {"evil": None, "object": None}
    assert {name.split()[1]: conf for name, conf in confs.items()} == wanted


def test_without_the_repairs_pickles_are_archived_confs_lost_and_their_code_is_run(
    sides: Sides, runtimes: VenvRuntime, fernet_key: Secret
) -> None:
    values, confs = read_as_airflow_does(runtimes, "3.3.2", sides.unmended, fernet_key)
    assert set(values) == {"json"}
    lost = {name.split()[1] for name, conf in confs.items() if conf is None}
    assert lost == {"dates", "sets", "decimal", "bytes", "object"}
    assert {name: conf for name, conf in confs.items() if "nan" in name}.popitem()[1] == {"n": ["NaN", 1.5]}
    assert sides.harm_to_unmended.exists()


def test_nothing_in_the_data_is_run(sides: Sides) -> None:
    assert not sides.harm_to_mended.exists()
    confs = ask(sides.before, "SELECT run_id FROM dag_run WHERE run_id LIKE 'conf evil%'")
    assert len(confs) == 2


def test_what_was_found_is_what_was_done(sides: Sides) -> None:
    found, done = sides.found, {each.id: each for each in sides.result.repairs}
    # Twelve are the database's own; two of these belong to no run, and were moved before the first hop.
    carried = len(XCOMS) + 1 + 12
    assert (found["xcom_pickled"].count, done["xcom_pickled"].count) == (carried, carried - 2)
    assert found["xcom_changed"].count == 1
    assert found["xcom_lost"].count == 3, "bytes, an object, and the one that does harm"
    assert (found["xcom_not_json"].count, done["xcom_not_json"].count) == (1, 1)
    confs = 2 * (len(CONFS) - 3)  # plain and empty stay, bytes are lost
    assert (found["conf_not_json"].count, found["conf_lost"].count) == (confs, 6)
    assert done["conf_not_json"].count == confs + 6
    assert not [each for each in found.values() if each.severity == "blocker"]
    assert sides.again == sides.result


def test_originals_are_kept_with_their_reasons(sides: Sides) -> None:
    with sides.mended.connect() as session:
        changed = [each for each in changed_rows(session, "m") if each.origin != "connection"]
    counts = {(each.repair, each.origin, each.columns): 0 for each in changed}
    for each in changed:
        counts[each.repair, each.origin, each.columns] += each.count
        assert each.reason
    done = {each.id: each.count for each in sides.result.repairs}
    assert counts == {
        ("conf_not_json", "dag_run", ("conf",)): done["conf_not_json"],
        ("xcom_pickled", "xcom", ("value",)): done["xcom_pickled"],
    }
    for table, columns in (("dag_run", "run_id, conf"), ("xcom", "key, run_id, value")):
        kept = set(ask(sides.mended, f"SELECT {columns} FROM airflow_migration.changed_{table}"))
        assert kept
        assert kept <= set(ask(sides.before, f"SELECT {columns} FROM {table}"))
    reasons = ask(sides.mended, "SELECT DISTINCT reason FROM airflow_migration.changed_dag_run WHERE run_id ~ 'object'")
    assert reasons == [("conf becomes NULL: an object of shop.models.Order",)]


def test_what_cannot_be_carried_is_where_airflow_archives_it_and_is_told(sides: Sides) -> None:
    assert ask(sides.mended, "SELECT key FROM _xcom_archive ORDER BY 1") == [("bytes",), ("evil",), ("object",)]
    moved = "SELECT key, reason FROM airflow_migration.moved_xcom__5f2621c13b39"
    assert ask(sides.mended, moved) == [("old evil", xcoms.OLD_PICKLE)]
    details = "\n".join(next(each for each in sides.result.repairs if each.id == "xcom_pickled").details)
    for reason in ("an object of shop.models.Order", "an object of os.system", "bytes"):
        assert reason in details
    assert "touch" not in details


def test_3_0_takes_what_it_would_stop_at(
    corpus: Corpus, new_database: Callable[..., DatabaseAddress], runtimes: VenvRuntime, fernet_key: Secret
) -> None:
    """NaN and the NUL character in confs and in XComs, as text and pickled; a UUID has no form there."""
    address = corpus("2.10.5")
    written = {
        "nan": b'{"a": [NaN, -Infinity, 1]}', "nul": b'"a\\u0000b"', "both": b'["\\u0000", NaN]', "bad": b"words",
        "pickle": pickle.dumps([math.nan, "\0", {1}], 4), "id": pickle.dumps(UUID(int=1)), "old": b"(lp0\nI1\naI2\na.",
    }  # fmt: skip
    with address.connect(read_only=False) as session:
        session.execute(
            "DELETE FROM xcom WHERE (task_id, run_id, key) NOT IN (SELECT task_id, run_id, key FROM xcom LIMIT 1)"
        )
        for key, value in written.items():
            session.execute(
                "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp)"
                " SELECT dag_run_id, task_id, map_index, %s, dag_id, run_id, %s, timestamp FROM xcom LIMIT 1",
                (key, value),
            )
        session.execute("UPDATE dag_run SET conf = %s", (pickle.dumps({"a": math.nan, "b": "\0"}),))
        session.commit()
    unmended = new_database(template=address.database)
    found = look(address, "3.0.6")
    assert (found["conf_not_json"].count, found["conf_changed"].count) == (3, 3)
    assert (found["xcom_not_json"].count, found["xcom_pickled"].count, found["xcom_lost"].count) == (4, 2, 1)

    mend(address, "3.0.6")
    runtimes.upgrade("3.0.6", address, fernet_key, lambda _: None)
    values: dict[object, object] = dict(ask(address, "SELECT key, value FROM xcom"))
    assert {key: values.get(key) for key in written} == {
        "nan": {"a": [None, None, 1]}, "nul": "ab", "both": ["", None], "bad": None, "id": None, "old": [1, 2],
        "pickle": [None, "", {"__classname__": "builtins.set", "__version__": 1, "__data__": [1]}],
    }  # fmt: skip
    assert ask(address, "SELECT DISTINCT conf FROM dag_run") == [({"a": None, "b": ""},)]
    kept: dict[object, object] = dict(ask(address, "SELECT key, value FROM airflow_migration.changed_xcom"))
    assert kept == {key: value for key, value in written.items() if key not in ("bad", "id")}

    with pytest.raises(MigrationError):
        runtimes.upgrade("3.0.6", unmended, fernet_key, lambda _: None)


def test_a_survey_that_runs_out_of_time_says_so(corpus: Corpus) -> None:
    with corpus("1.10.15").connect() as session:
        crossing = Crossing.between(read_head(session), release("3.3.2").head)
        survey = survey_pickles(session, crossing, key="t.key", seconds=0)
        assert session.execute("SELECT 1").fetchone() == (1,), "the transaction goes on"
    assert (survey.carried.count, survey.seen) == (1, " among the first 1 looked at; there may be more")
    (finding,) = say_pickles(survey, "t.key")
    assert survey.seen in finding.summary


def test_values_of_every_size_are_carried_and_the_largest_are_left(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=False) as session:
        session.execute("DELETE FROM xcom WHERE ctid <> (SELECT min(ctid) FROM xcom)")
        for size in (100, 100_000, 2 << 20, 17 << 20):
            session.execute(
                "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp)"
                " SELECT dag_run_id, task_id, map_index, %s::text, dag_id, run_id, %s, timestamp FROM xcom LIMIT 1",
                (size, pickle.dumps("x" * size)),
            )
        session.commit()
    found = look(address, "3.3.2")["xcom_pickled"]
    assert (found.count, "2 larger than 1 MB" in found.summary) == (2, True)
    (pickled,) = [each for each in mend(address, "3.3.2").repairs if each.id == "xcom_pickled"]
    assert pickled.count == 3
    assert "more than 16 MB" in pickled.details[-1]
    sizes = "SELECT octet_length(value) FROM xcom WHERE key ~ '^[0-9]' ORDER BY key::int"
    assert [size for (size,) in ask(address, sizes)][:3] == [102, 100_002, (2 << 20) + 2]


def test_a_conf_that_many_runs_have_is_judged_once_and_changed_in_each(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=False) as session:
        session.execute(
            "INSERT INTO dag_run (dag_id, run_id, execution_date, run_type, conf)"
            " SELECT 'asleep', 'r ' || n, '2019-01-01'::timestamptz + n * interval '1 h', 'manual', %s"
            " FROM generate_series(1, 3000) n",
            (pickle.dumps({"s": {1}}),),
        )
        session.commit()
    assert look(address, "3.3.2")["conf_not_json"].count == 3000
    (done,) = [each for each in mend(address, "3.3.2").repairs if each.id == "conf_not_json"]
    assert (done.count, len(done.details)) == (3000, 1)
    assert look(address, "3.3.2")["conf_not_json"].severity == "ok"
    confs = ask(address, "SELECT DISTINCT conf FROM dag_run WHERE run_id LIKE 'r %'")
    assert confs == [(pickle.dumps({"s": [1]}, 5),)]


def test_a_repair_that_ends_half_way_has_changed_nothing_and_is_done_by_the_next(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=False) as session:
        session.execute("UPDATE xcom SET value = %s", (pickle.dumps({1, 2}),))
        session.execute("UPDATE dag_run SET conf = %s", (pickle.dumps({"s": {1}}),))
        prepare(session)
        session.execute(
            "CREATE FUNCTION airflow_migration.refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'killed'; END$$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON airflow_migration.repair FOR EACH ROW"
            " WHEN (new.repair_id IN ('conf_not_json', 'xcom_pickled')) EXECUTE FUNCTION airflow_migration.refuse()"
        )
        session.commit()
    everything = "SELECT (SELECT array_agg(value) FROM xcom), (SELECT array_agg(conf) FROM dag_run)"
    before = ask(address, everything)
    for repair_id in ("conf_not_json", "xcom_pickled"):
        with pytest.raises(psycopg.errors.RaiseException, match="killed"):
            mend(address, "3.3.2")
        kept = ask(address, "SELECT tablename FROM pg_tables WHERE tablename IN ('changed_dag_run', 'changed_xcom')")
        assert len(kept) == (repair_id == "xcom_pickled"), "what was kept went with what failed"
        with address.connect(read_only=False) as session:
            session.execute("DROP TRIGGER refuse ON airflow_migration.repair")
            session.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON airflow_migration.repair FOR EACH ROW"
                " WHEN (new.repair_id = 'xcom_pickled') EXECUTE FUNCTION airflow_migration.refuse()"
            )
            session.commit()
        if repair_id == "conf_not_json":
            assert ask(address, everything) == before
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute("DROP TRIGGER refuse ON airflow_migration.repair")
    result = mend(address, "3.3.2")
    assert {each.id for each in result.repairs} >= {"conf_not_json", "xcom_pickled"}
    assert result == mend(address, "3.3.2")
    assert ask(address, "SELECT DISTINCT convert_from(value, 'UTF8')::jsonb -> '__data__' FROM xcom") == [([1, 2],)]
