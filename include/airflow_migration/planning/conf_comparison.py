"""Compare the conf of dag runs, a pickle before 3.0 and JSON since, without unpickling."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

from psycopg import sql

from airflow_migration.metadata.fingerprints import Part
from airflow_migration.metadata.pickled_objects import UndecodableError
from airflow_migration.metadata.pickles import decode
from airflow_migration.metadata.repairs.confs import EMPTY, carry
from airflow_migration.metadata.shapes import Relation
from airflow_migration.postgres.address import Session

BATCH = 500
SAME_CONFS = 4096
"""How many different confs are remembered: the same one is often that of thousands of runs."""
_EMPTY_JSON = ("{}", "null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confs:
    """The confs of one database.

    :param relations: where runs are; their conf is JSON, or a pickle
    :param repaired: the runs to which a repair gave another conf
    """

    conn: Session
    relations: tuple[Relation, ...]
    repaired: tuple[Relation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfDifferences:
    """What came of them.

    :param changed: runs whose conf says something else, with their ids
    :param nulled: runs whose conf became NULL, as JSON cannot hold it
    :param unread: confs that only unpickling would read; that they are there is all that was compared
    """

    changed: tuple[int, ...] = ()
    nulled: int = 0
    unread: int = 0


@dataclass(frozen=True, slots=True)
class _Conf:
    """What a conf is worth.

    :param value: as JSON has it; None for an empty one
    :param lost: JSON cannot hold it
    :param unread: it cannot be known
    """

    value: object = None
    lost: bool = False
    unread: bool = False


def compare_confs(before: Confs, after: Confs) -> ConfDifferences:
    """Walk through both sides in the order of the runs' ids.

    :param before: all of them pickles
    """
    changed: list[int] = []
    nulled = unread = 0
    with ExitStack() as stack:
        streams = [stack.enter_context(_runs(side)) for side in (before, after)]
        for run, (old, _), (new, repaired) in _side_by_side(*streams):
            if old == new:
                continue
            was = _read(old, read_repaired if repaired else read_pickle)
            now = _read(new, read_pickle)
            if (was.unread or now.unread) and (old is None) == (new is None):
                unread += 1
            elif (was.lost or was.unread) and now.value is None:
                nulled += 1
            elif not _same(was.value, now.value):
                changed.append(run)
    return ConfDifferences(changed=tuple(changed), nulled=nulled, unread=unread)


def _read(conf: str | bytes | None, read: Callable[[bytes], _Conf]) -> _Conf:
    return read(conf) if isinstance(conf, bytes) else _Conf(value=_read_text(conf))


@lru_cache(SAME_CONFS)
def read_repaired(data: bytes) -> _Conf:
    """What the repair makes of a conf: NULL of what JSON has no form for."""
    carried = carry(data).conf
    return _Conf() if carried is None else read_pickle(carried)


@lru_cache(SAME_CONFS)
def read_pickle(data: bytes) -> _Conf:
    """What e39a26ac59f6 (3.0.0 to 3.3.2) makes JSON of: NaN and Infinity as texts, texts without NUL."""
    try:
        value = json.loads(json.dumps(_json_safe(decode(data).value), allow_nan=False))
    except UndecodableError:
        return _Conf(unread=True)
    except (TypeError, ValueError):
        return _Conf(lost=True)
    return _Conf(value=value or None if isinstance(value, dict) else value)


@lru_cache(SAME_CONFS)
def _read_text(text: str | None) -> object:
    return (json.loads(text) or None) if text not in (None, *_EMPTY_JSON) else None


def _json_safe(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, Mapping):
        return {_json_safe(key): _json_safe(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(each) for each in value]
    return value


def _same(one: object, other: object) -> bool:
    """Equal as JSON: true is not 1, but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


Entry = tuple[str | bytes | None, bool]
"""A conf, and whether a repair gave it to its run."""


@contextmanager
def _runs(side: Confs) -> Iterator[Iterator[tuple[int, Entry]]]:
    """The runs of one side that have a conf or had one before a repair, in the order of their ids."""
    conn = side.conn
    scope: AbstractContextManager[object] = conn.transaction() if conn.autocommit else nullcontext()
    with scope, conn.cursor(name="airflow_migration_confs") as cursor:
        cursor.itersize = BATCH
        yield (_entry(row) for row in cursor.execute(_query(side)))


def _entry(row: tuple[object, ...]) -> tuple[int, Entry]:
    run, words, data, repaired = row
    conf = words if words is not None else data
    assert conf is None or isinstance(conf, str | bytes)
    return int(str(run)), (conf, bool(repaired))


def _query(side: Confs) -> sql.Composed:
    rows = sql.SQL(" UNION ALL ").join(_select(relation, side.repaired) for relation in side.relations)
    return sql.SQL("{} ORDER BY 1").format(rows)


def _select(relation: Relation, repaired: tuple[Relation, ...]) -> Part:
    """Id, conf as JSON, conf as a pickle, whether it was repaired; what is empty and was not is left out."""
    pickled = relation.columns["conf"].type == "bytea"
    empty: tuple[Part, ...] = tuple(map(sql.Literal, EMPTY if pickled else _EMPTY_JSON))
    value = sql.SQL("t.conf" if pickled else "t.conf::text")
    words, data = (sql.SQL("NULL::text"), value) if pickled else (value, sql.SQL("NULL::bytea"))
    by_repair: Part = sql.SQL("false")
    join: Part = sql.SQL("")
    if repaired:
        ids = sql.SQL(" UNION ").join(
            sql.SQL("SELECT t.id FROM {} t WHERE {} AND 'conf' = ANY (t.changed_columns)").format(
                each.source, each.condition
            )
            for each in repaired
        )
        by_repair = sql.SQL("kept.id IS NOT NULL")
        join = sql.SQL(" LEFT JOIN (SELECT DISTINCT id FROM ({}) k) kept ON kept.id = t.id").format(ids)
    return sql.SQL(
        "SELECT t.id, {words} AS words, {data} AS bytes, {by_repair} AS repaired FROM {source} t{join}"
        " WHERE {condition} AND ({value} NOT IN ({empty}) OR {by_repair})"
    ).format(
        words=words,
        data=data,
        by_repair=by_repair,
        source=relation.source,
        join=join,
        condition=relation.condition,
        value=value,
        empty=sql.SQL(", ").join(empty),
    )


def _side_by_side(
    before: Iterator[tuple[int, Entry]], after: Iterator[tuple[int, Entry]]
) -> Iterator[tuple[int, Entry, Entry]]:
    nothing: Entry = (None, False)
    one, other = next(before, None), next(after, None)
    while one is not None or other is not None:
        run = min(each[0] for each in (one, other) if each is not None)
        here = one[1] if one is not None and one[0] == run else nothing
        there = other[1] if other is not None and other[0] == run else nothing
        yield run, here, there
        one = next(before, None) if one is not None and one[0] == run else one
        other = next(after, None) if other is not None and other[0] == run else other
