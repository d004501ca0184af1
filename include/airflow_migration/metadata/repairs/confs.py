"""Confs of dag runs that e39a26ac59f6 (3.0.0) would stop at, lose, change, or run code of.

That migration calls `pickle.loads` and `json.dumps` on every conf, in its own process. Measured, value by value: a
date, a set, bytes or an object become NULL; NaN and the NUL character stop 3.0 and 3.1, 3.3 makes texts of the former
and drops the latter; half a surrogate pair stops all.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from airflow_migration.metadata.airflow_json import conf_value
from airflow_migration.metadata.pickled_objects import UndecodableError
from airflow_migration.metadata.pickles import decode
from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.changing import keep_originals
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.ledger import Entry
from airflow_migration.postgres.address import Session

REPAIR = "conf_not_json"
JSON_CONF = "e39a26ac59f6"
PROTOCOL = 5
"""What Airflow itself writes from 2.0 on, and how that migration knows an empty conf."""
BATCH = 200
EMPTY = (b"\x80\x05}\x94.", b"\x80\x04}\x94.", b"\x80\x03}q\x00.", b"\x80\x02}q\x00.")
"""The empty dict, as the protocols write it."""

_EMPTY = ", ".join(f"'\\x{data.hex()}'::bytea" for data in EMPTY)
# The same conf is often that of thousands of runs.
CONFS = (
    "SELECT conf, count(*), min(id) FROM dag_run"  # noqa: S608
    f" WHERE conf IS NOT NULL AND conf NOT IN ({_EMPTY}) GROUP BY conf"
)
_NEW = "airflow_migration_confs"

Outcome = Literal["kept", "carried", "changed", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriage:
    """What becomes of one conf.

    :param outcome: ``kept``: Airflow's migration carries it as it is; ``carried``: written anew, the same value;
        ``changed``: written anew, with what JSON lacks replaced; ``lost``: NULL
    :param conf: the pickle for Airflow's migration, of nothing but plain values
    :param reasons: what changes, or why it is lost
    """

    outcome: Outcome
    conf: bytes | None
    reasons: tuple[str, ...] = ()


def carry(conf: bytes) -> Carriage:
    """What becomes of a conf; nothing that it names is run."""
    try:
        decoded = decode(conf)
        value, changes = conf_value(decoded.value)
    except UndecodableError as err:
        return Carriage(outcome="lost", conf=None, reasons=(str(err),))
    changes |= decoded.notes
    if not decoded.foreign and not changes:
        return Carriage(outcome="kept", conf=conf)
    anew = pickle.dumps(value, PROTOCOL)
    return Carriage(outcome="changed" if changes else "carried", conf=anew, reasons=tuple(sorted(changes)))


def applies(tables: Tables, crossing: Crossing) -> bool:
    """Whether this hop unpickles the column, and there is something to unpickle."""
    column = tables.get("dag_run", {}).get("conf")
    return crossing.crosses(JSON_CONF) and column is not None and column.type == "bytea"


def read_confs(conn: Session) -> Iterator[tuple[bytes, int, int]]:
    """Every different conf but the empty ones, with the number of its runs and the first one's id."""
    with conn.cursor(name="airflow_migration_confs") as cursor:
        cursor.itersize = BATCH
        for conf, count, first in cursor.execute(CONFS):
            assert isinstance(conf, bytes)
            yield conf, int(str(count)), int(str(first))


def carry_confs(conn: Session, entry: Entry) -> tuple[int, tuple[str, ...]]:
    """Write anew what would not pass, keep the originals, and make NULL what has no form; the caller commits.

    Afterwards no conf is left that names a class: Airflow's migration unpickles plain values only.

    :returns: runs whose conf is another now, and a sentence for each outcome
    """
    conn.execute(
        sql.SQL("CREATE TEMP TABLE {} (conf bytea, anew bytea, reason text) ON COMMIT DROP").format(
            sql.Identifier(_NEW)
        )
    )
    _write_new(conn)
    conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(_NEW)))
    counts: Counter[str] = Counter()
    for (reason,) in conn.execute(
        sql.SQL("SELECT DISTINCT reason FROM {} ORDER BY 1").format(sql.Identifier(_NEW))
    ).fetchall():
        same = sql.SQL("t.conf IN (SELECT c.conf FROM {} c WHERE c.reason = {})").format(
            sql.Identifier(_NEW), sql.Literal(str(reason))
        )
        counts[str(reason)] = keep_originals(
            conn, entry, table="dag_run", columns=("conf",), condition=same, reason=str(reason)
        )
    changed = conn.execute(
        sql.SQL("UPDATE dag_run t SET conf = c.anew FROM {} c WHERE t.conf = c.conf").format(sql.Identifier(_NEW))
    ).rowcount
    conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(_NEW)))
    return changed, tuple(f"{count} dag run(s), originals kept: {reason}" for reason, count in counts.items())


def _write_new(conn: Session) -> None:
    batch: list[tuple[bytes, bytes | None, str]] = []
    for conf, _, _ in read_confs(conn):
        found = carry(conf)
        if found.outcome != "kept":
            batch.append((conf, found.conf, _reason(found)))
        if len(batch) == BATCH:
            _copy(conn, batch)
            batch.clear()
    _copy(conn, batch)


def _copy(conn: Session, rows: list[tuple[bytes, bytes | None, str]]) -> None:
    into = sql.SQL("COPY {} (conf, anew, reason) FROM STDIN").format(sql.Identifier(_NEW))
    with conn.cursor() as cursor, cursor.copy(into) as copy:
        for row in rows:
            copy.write_row(row)


def _reason(found: Carriage) -> str:
    why = "; ".join(found.reasons)
    match found.outcome:
        case "lost":
            return f"conf becomes NULL: {why}"
        case "changed":
            return f"conf becomes plain JSON: {why}"
        case _:
            return "conf becomes plain JSON, the same value"
