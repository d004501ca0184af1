"""Reduce a table to sums of hashes that do not depend on order, release, server version or time zone.

Sums add up: what a table held before an upgrade is what it holds now plus what was moved out of it, so the
rows themselves never have to be matched.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Column, read_tables
from airflow_migration.postgres.address import Session

FINISHED_RUN = ("success", "failed")
FINISHED_TASK = ("success", "failed", "skipped", "upstream_failed", "removed")
"""Only of finished work are state and times compared: what was under way is reset so that it runs again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table that holds rows of `dag_run` or `task_instance`, or held them.

    :param schema: empty for the metadata schema
    :param migration_id: only rows with this in their column of that name
    :param condition: only rows that meet it; SQL over `t`
    """

    name: str
    schema: str = ""
    migration_id: str | None = None
    condition: sql.Composable | None = None

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name) if self.schema else sql.Identifier(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Rows of one DAG: how many, and sums of 64-bit hashes.

    :param keys: over what identifies the rows
    :param run_ids: over identity and run_id, 0 for task instances; no meaning where a run_id was NULL
    :param details: over identity, state, times and tries
    """

    rows: int = 0
    keys: int = 0
    run_ids: int = 0
    details: int = 0

    def plus(self, other: Fingerprint, sign: int = 1) -> Fingerprint:
        return Fingerprint(
            rows=self.rows + sign * other.rows,
            keys=self.keys + sign * other.keys,
            run_ids=self.run_ids + sign * other.run_ids,
            details=self.details + sign * other.details,
        )


Fingerprints = dict[str, Fingerprint]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How to hash, so that two servers come to the same sums.

    :param digest: function that both have: sha256 from PostgreSQL 11 on, md5 before
    :param encoding: hash the bytes in this encoding
    :param by_date: task instances are told apart by date, since one of the two has no run_id for them
    """

    digest: str
    encoding: str
    by_date: bool


def agree(one: Session, other: Session) -> Dialect:
    """The dialect in which both databases can be hashed."""
    encodings = {session.info.parameter_status("server_encoding") for session in (one, other)}
    sides = [read_tables(session).get("task_instance", {}) for session in (one, other)]
    return Dialect(
        digest="sha256" if min(s.info.server_version for s in (one, other)) >= 110000 else "md5",
        encoding=str(encodings.pop()) if len(encodings) == 1 else "UTF8",
        by_date=not all("run_id" in columns for columns in sides),
    )


def dag_runs(conn: Session, relation: Relation, dialect: Dialect) -> Fingerprints:
    """Fingerprints of runs by DAG."""
    has = _columns(conn, relation)
    keys = [
        _text("t", "dag_id"),
        _moment(has, "t", "logical_date" if "logical_date" in has else "execution_date"),
    ]
    state = [_text("t", "state"), _moment(has, "t", "start_date"), _moment(has, "t", "end_date")]
    hashed = _Hashed(
        keys=_hash(dialect, keys),
        run_ids=_hash(dialect, [*keys, _text("t", "run_id")]),
        details=_hash(dialect, [*keys, _finished(FINISHED_RUN, state)]),
    )
    return _sum(conn, relation, hashed)


def task_instances(conn: Session, relation: Relation, dialect: Dialect) -> Fingerprints:
    """Fingerprints of task instances by DAG."""
    has = _columns(conn, relation)
    join: Part = sql.SQL("")
    if not dialect.by_date:
        run = _text("t", "run_id")
    elif "execution_date" in has:
        run = _moment(has, "t", "execution_date")
    else:
        runs = read_tables(conn)["dag_run"]
        run = _moment(runs, "r", "logical_date" if "logical_date" in runs else "execution_date")
        join = sql.SQL(" LEFT JOIN dag_run r ON r.dag_id = t.dag_id AND r.run_id = t.run_id")
    index: Part = _text("t", "map_index") if "map_index" in has else sql.SQL("'-1'")
    keys = [_text("t", "dag_id"), _text("t", "task_id"), run, index]
    state = [_text("t", "state"), _moment(has, "t", "start_date"), _moment(has, "t", "end_date")]
    details = [*keys, _finished(FINISHED_TASK, [*state, _text("t", "try_number")])]
    hashed = _Hashed(keys=_hash(dialect, keys), run_ids=sql.SQL("0"), details=_hash(dialect, details), join=join)
    return _sum(conn, relation, hashed)


def rows_of(conn: Session, table: str, key: str, columns: tuple[str, ...], dialect: Dialect) -> dict[str, str]:
    """A digest of each row of a small table by its key.

    :param key: column that identifies the row
    :param columns: what is digested; those that the table has not count as NULL
    """
    has = read_tables(conn).get(table, {})
    parts = [_text("t", name) if name in has else sql.SQL("NULL") for name in columns]
    query = sql.SQL("SELECT t.{}::text, encode({}, 'hex') FROM {} t").format(
        sql.Identifier(key), _digest(dialect, parts), sql.Identifier(table)
    )
    return {str(row): str(digest) for row, digest in conn.execute(query).fetchall()}


Part = sql.Composable


def _columns(conn: Session, relation: Relation) -> dict[str, Column]:
    return read_tables(conn, relation.schema or None)[relation.name]


def _text(alias: str, column: str) -> Part:
    return sql.SQL("{}::text").format(sql.Identifier(alias, column))


def _moment(has: dict[str, Column], alias: str, column: str) -> Part:
    """A time as text that is the same in every session: `::text` of a timestamptz follows its TimeZone."""
    zone = sql.SQL(" AT TIME ZONE 'UTC'" if "with time zone" in has[column].type else "")
    return sql.SQL("to_char({}{}, 'YYYY-MM-DD HH24:MI:SS.US')").format(sql.Identifier(alias, column), zone)


def _finished(states: tuple[str, ...], parts: list[Part]) -> Part:
    return sql.SQL("CASE WHEN t.state IN ({}) THEN {} END").format(
        sql.SQL(", ").join(map(sql.Literal, states)), _join(parts)
    )


def _join(parts: list[Part]) -> Part:
    """One text of all parts in which NULL is no empty string."""
    joined = sql.SQL(", ").join(sql.SQL("coalesce({}, chr(30))").format(part) for part in parts)
    return sql.SQL("concat_ws(chr(31), {})").format(joined)


def _digest(dialect: Dialect, parts: list[Part]) -> Part:
    data = sql.SQL("convert_to({}, {})").format(_join(parts), sql.Literal(dialect.encoding))
    if dialect.digest == "md5":
        return sql.SQL("decode(md5({}), 'hex')").format(data)
    return sql.SQL("sha256({})").format(data)


def _hash(dialect: Dialect, parts: list[Part]) -> Part:
    first = sql.SQL("encode(substr({}, 1, 8), 'hex')").format(_digest(dialect, parts))
    return sql.SQL("('x' || {})::bit(64)::bigint").format(first)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hashed:
    """What is summed, over rows `t` and what is joined to them."""

    keys: Part
    run_ids: Part
    details: Part
    join: Part = field(default_factory=lambda: sql.SQL(""))


def _sum(conn: Session, relation: Relation, hashed: _Hashed) -> Fingerprints:
    """One pass over the table, as many rows back as it has DAGs."""
    only: Part = sql.SQL(" WHERE {}").format(relation.condition or sql.SQL("true"))
    if relation.migration_id is not None:
        only += sql.SQL(" AND t.migration_id = {}").format(sql.Literal(relation.migration_id))
    query = sql.SQL(
        "SELECT coalesce(t.dag_id, ''), count(*), sum({}), sum({}), sum({}) FROM {} t{}{} GROUP BY 1"
    ).format(hashed.keys, hashed.run_ids, hashed.details, relation.identifier, hashed.join, only)
    return {
        str(dag): Fingerprint(rows=int(str(rows)), keys=int(str(a)), run_ids=int(str(b)), details=int(str(c)))
        for dag, rows, a, b, c in conn.execute(query).fetchall()
    }
