"""Compare the conf of dag runs, a pickle before 3.0 and JSON since, without unpickling."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

from psycopg import sql

from airflow_migration.metadata.conf_scan import EMPTY
from airflow_migration.metadata.fingerprints import Part, Relation
from airflow_migration.metadata.pickled_classes import UndecodableError
from airflow_migration.metadata.pickles import decode
from airflow_migration.postgres.address import Session

BATCH = 500
SAME_CONFS = 4096
"""How many different confs are remembered: the same one is often that of thousands of runs."""
_EMPTY_JSON = ("{}", "null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confs:
    """The confs of one database.

    :param relations: where runs are; their conf is JSON, or a pickle
    :param originals: runs as they were before a repair gave them another conf
    """

    conn: Session
    relations: tuple[Relation, ...]
    originals: tuple[Relation, ...] = ()


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
        for run, old, new in _side_by_side(*streams):
            if old == new:
                continue
            was = read_pickle(old) if isinstance(old, bytes) else _Conf(value=_read_text(old))
            now = read_pickle(new) if isinstance(new, bytes) else _Conf(value=_read_text(new))
            if (was.unread or now.unread) and (old is None) == (new is None):
                unread += 1
            elif (was.lost or was.unread) and now.value is None:
                nulled += 1
            elif not _same(was.value, now.value):
                changed.append(run)
    return ConfDifferences(changed=tuple(changed), nulled=nulled, unread=unread)


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


@contextmanager
def _runs(side: Confs) -> Iterator[Iterator[tuple[int, object]]]:
    """The runs of one side that have a conf, in the order of their ids."""
    conn = side.conn
    scope: AbstractContextManager[object] = conn.transaction() if conn.autocommit else nullcontext()
    with scope, conn.cursor(name="airflow_migration_confs") as cursor:
        cursor.itersize = BATCH
        rows = cursor.execute(_query(side))
        yield ((int(str(run)), words if words is not None else data) for run, words, data in rows)


def _query(side: Confs) -> sql.Composed:
    rows = sql.SQL(" UNION ALL ").join(_select(relation) for relation in side.relations)
    if not side.originals:
        return sql.SQL("{} ORDER BY 1").format(rows)
    kept = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT t.id, t.conf, t.moved_at FROM {} t WHERE {} AND 'conf' = ANY (t.changed_columns)").format(
            relation.source, relation.condition
        )
        for relation in side.originals
    )
    # What a repair has changed counts as what it was at first.
    return sql.SQL(
        "WITH kept AS (SELECT DISTINCT ON (id) id, conf FROM ({kept}) k ORDER BY id, moved_at), rows AS ({rows})"
        " SELECT id, words, bytes FROM rows WHERE NOT EXISTS (SELECT FROM kept WHERE kept.id = rows.id)"
        " UNION ALL SELECT id, NULL, conf FROM kept ORDER BY 1"
    ).format(kept=kept, rows=rows)


def _select(relation: Relation) -> Part:
    """Id, conf as JSON, conf as a pickle; what is empty either way is left out."""
    pickled = relation.columns["conf"].type == "bytea"
    empty: tuple[Part, ...] = tuple(map(sql.Literal, EMPTY if pickled else _EMPTY_JSON))
    value = sql.SQL("t.conf" if pickled else "t.conf::text")
    words, data = (sql.SQL("NULL::text"), value) if pickled else (value, sql.SQL("NULL::bytea"))
    return sql.SQL("SELECT t.id, {} AS words, {} AS bytes FROM {} t WHERE {} AND {} NOT IN ({})").format(
        words, data, relation.source, relation.condition, value, sql.SQL(", ").join(empty)
    )


def _side_by_side(
    before: Iterator[tuple[int, object]], after: Iterator[tuple[int, object]]
) -> Iterator[tuple[int, str | bytes | None, str | bytes | None]]:
    one, other = next(before, None), next(after, None)
    while one is not None or other is not None:
        run = min(each[0] for each in (one, other) if each is not None)
        values: list[str | bytes | None] = []
        for each in (one, other):
            value = each[1] if each is not None and each[0] == run else None
            assert value is None or isinstance(value, str | bytes)
            values.append(value)
        yield run, values[0], values[1]
        one = next(before, None) if one is not None and one[0] == run else one
        other = next(after, None) if other is not None and other[0] == run else other
