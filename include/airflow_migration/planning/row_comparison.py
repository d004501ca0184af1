"""Find the rows in which two databases differ, and the columns, by sums of hashes of ever fewer rows.

First one pass over each side, both at the same time, gives a count and a sum. Where these differ, rows fall into
buckets by the hash of their key, and each bucket gives a count and a sum. What stands in buckets that differ is read
again, as hashes in the order of their keys; the first rows that differ are read once more, a hash for each column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from psycopg import sql

from airflow_migration.metadata.fingerprints import Dialect, Part, hash_of, row_text
from airflow_migration.metadata.shapes import Shape, Shaped
from airflow_migration.planning.row_matching import Found, What, groups, match, side_by_side
from airflow_migration.postgres.address import Session

ROWS_IN_BUCKET = 128
MOST_BUCKETS = 1 << 16
BATCH = 20_000
NAMELESS = "a row without a key"

Answer = TypeVar("Answer")
Details = dict[int, list[tuple[list[str], list[int | None]]]]
"""Hash of a key → of each row: what it is called, and a hash of each column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifference:
    """One row that differs.

    :param key: by which it is known, as ``name=value``
    :param what: ``missing`` after the upgrade, ``added`` by nobody knows what, or ``changed``
    :param columns: those of a changed row that say something else than before
    """

    key: str
    what: What
    columns: tuple[str, ...]

    def __str__(self) -> str:
        if self.what == "changed":
            return f"{self.key} was changed ({', '.join(self.columns)})"
        return f"{self.key} is missing" if self.what == "missing" else f"{self.key} was added"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifferences:
    """What came of one table.

    :param filled: values that were NULL and that a migration or the mending has filled in
    :param first: the first twenty rows that are missing, changed or added
    """

    missing: int = 0
    added: int = 0
    changed: int = 0
    filled: int = 0
    first: tuple[RowDifference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Everything that holds rows of a table in one database.

    :param relations: their rows are taken together
    :param originals: relations of rows as they were before a repair changed them, each with `changed_columns` and
        `moved_at`; the columns that it changed are taken from there
    """

    conn: Session
    relations: tuple[Shaped, ...]
    originals: tuple[Shaped, ...] = ()


class RowComparison:
    """The comparison of one table."""

    def __init__(self, before: Side, after: Side, shape: Shape, dialect: Dialect) -> None:
        self.before, self.after, self.shape, self.dialect = before, after, shape, dialect
        strict = [(i, each) for i, each in enumerate(shape.fields) if not each.filled]
        first = len(shape.facts)
        self.facts = [_column("f", i) for i in range(first)]
        self.strict = [*self.facts, *(_column("f", first + i) for i, _ in strict)]
        self.filled = [_column("f", first + i) for i, each in enumerate(shape.fields) if each.filled]
        self.values = [_column("f", i) for i in range(first + len(shape.fields))]
        self.key = [_column("k", i) for i in range(len(shape.key))] or self.values

    def differences(self, rows: int, *, grows: bool = False) -> RowDifferences:
        """Narrow down to rows.

        :param rows: about how many there are, to choose the number of buckets
        :param grows: rows may be added; they are counted, but not named
        """
        # Where rows were added the sum of all is another, and need not be asked for.
        if not grows and not self._differing_buckets(1):
            return RowDifferences()
        buckets = _buckets_for(rows)
        differ = self._differing_buckets(buckets)
        if not differ:
            return RowDifferences()
        found = self._walk(buckets, differ, grows)
        return RowDifferences(
            missing=found.missing,
            added=found.added,
            changed=found.changed,
            filled=found.filled,
            first=self._name(found.first),
        )

    def _differing_buckets(self, buckets: int) -> list[int]:
        before, after = self._both(lambda side: _read_buckets(side.conn, self._sums(side, buckets)))
        return sorted(bucket for bucket in before.keys() | after.keys() if before.get(bucket) != after.get(bucket))

    def _both(self, read: Callable[[Side], Answer]) -> tuple[Answer, Answer]:
        """Ask both servers at the same time."""
        with ThreadPoolExecutor(2) as pool:
            before, after = pool.map(read, (self.before, self.after))
        return before, after

    def _rows(self, side: Side, *, labelled: bool = False) -> Part:
        """All rows of a side: columns k…, f… and perhaps l."""
        union = sql.SQL(" UNION ALL ").join(each.select(labelled=labelled) for each in side.relations)
        if not side.originals or not self.shape.key:
            return union
        return _with_originals(union, side.originals, self.shape, labelled=labelled)

    def _hash(self, parts: list[Part]) -> Part:
        return hash_of(row_text(parts, self.dialect), self.dialect)

    def _bucket(self, buckets: int) -> Part:
        if buckets == 1:
            return sql.SQL("0")
        return sql.SQL("{} & {}").format(self._hash(self.key), sql.Literal(buckets - 1))

    def _sums(self, side: Side, buckets: int) -> sql.Composed:
        """A count and a sum of hashes for each bucket."""
        key = self.key if self.shape.key else []
        return sql.SQL("SELECT {bucket}, count(*), sum({row}) FROM ({rows}) rows GROUP BY 1").format(
            bucket=self._bucket(buckets),
            row=self._hash([*key, *self.values]),
            rows=self._rows(side),
        )

    def _hashes(self, side: Side, buckets: int, differ: list[int]) -> sql.Composed:
        single = [
            sql.SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(part, self._hash([part])) for part in self.filled
        ]
        chosen: Part = sql.SQL("true")
        if len(differ) < buckets:
            chosen = sql.SQL("{} = ANY ({})").format(self._bucket(buckets), sql.Literal(differ))
        return sql.SQL("SELECT {} FROM ({}) rows WHERE {} ORDER BY 1").format(
            sql.SQL(", ").join([self._hash(self.key), self._hash(self.strict), *single]), self._rows(side), chosen
        )

    def _walk(self, buckets: int, differ: list[int], grows: bool) -> Found:
        """Both sides in the order of their keys' hashes, side by side."""
        found = Found(grows=grows)
        with ExitStack() as stack:
            streams = [
                groups(stack.enter_context(_streamed(side.conn, self._hashes(side, buckets, differ))))
                for side in (self.before, self.after)
            ]
            for key, before, after in side_by_side(*streams):
                match(found, key, before, after)
        return found

    def _name(self, first: list[tuple[int, What]]) -> tuple[RowDifference, ...]:
        if not first:
            return ()
        keys = sorted({key for key, _ in first})
        before, after = self._both(lambda side: self._details(side, keys))
        differences = []
        for key, what in first:
            label = (before.get(key) or after.get(key) or [([], [])])[0][0]
            columns = self._differing(before.get(key, []), after.get(key, [])) if what == "changed" else ()
            differences.append(RowDifference(key=", ".join(label) or NAMELESS, what=what, columns=columns))
        return tuple(differences)

    def _details(self, side: Side, keys: list[int]) -> Details:
        """The rows of these keys: what they are called, and a hash of each of their columns."""
        single = [
            sql.SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(part, self._hash([part])) for part in self.values
        ]
        query = sql.SQL("SELECT {hash}, l, ARRAY[{single}]::bigint[] FROM ({rows}) rows WHERE {hash} = ANY ({keys})")
        rows = side.conn.execute(
            query.format(
                hash=self._hash(self.key),
                single=sql.SQL(", ").join(single),
                rows=self._rows(side, labelled=True),
                keys=sql.Literal(keys),
            )
        ).fetchall()
        details: Details = {}
        for key, label, hashes in rows:
            assert isinstance(label, list)
            assert isinstance(hashes, list)
            details.setdefault(int(str(key)), []).append((label, hashes))
        return details

    def _differing(
        self, before: list[tuple[list[str], list[int | None]]], after: list[tuple[list[str], list[int | None]]]
    ) -> tuple[str, ...]:
        names = [*(names[0] for names in self.shape.facts), *(each.name for each in self.shape.fields)]
        may_be_filled = [*(False for _ in self.shape.facts), *(each.filled for each in self.shape.fields)]
        found: dict[str, None] = {}
        left, right = [row for _, row in before], [row for _, row in after]
        for row in [row for row in left if row in right]:
            left.remove(row)
            right.remove(row)
        for old, new in zip(left, right, strict=False):
            for name, fills, one, other in zip(names, may_be_filled, old, new, strict=True):
                if one != other and not (fills and one is None):
                    found[name] = None
        return tuple(found)


def _column(prefix: str, number: int) -> Part:
    return sql.Identifier(f"{prefix}{number}")


def _buckets_for(rows: int) -> int:
    return min(MOST_BUCKETS, 1 << (max(rows, 1) // ROWS_IN_BUCKET).bit_length())


def _read_buckets(conn: Session, query: sql.Composed) -> dict[int, tuple[int, int]]:
    rows = conn.execute(query).fetchall()
    return {int(str(bucket)): (int(str(count)), int(str(total))) for bucket, count, total in rows}


def _with_originals(union: Part, originals: tuple[Shaped, ...], shape: Shape, *, labelled: bool) -> Part:
    """Rows in which the columns that a repair has changed say what they said before."""
    first = len(shape.facts)
    key = row_of("a", len(shape.key))
    columns: list[Part] = [sql.Identifier("a", f"k{i}") for i in range(len(shape.key))]
    columns += [sql.Identifier("a", f"f{i}") for i in range(first)]
    for i, each in enumerate(shape.fields):
        columns.append(_original(f"f{first + i}", len(originals) if each.text else 0))
    if labelled:
        columns.append(sql.Identifier("a", "l"))
    joins = [
        sql.SQL(" LEFT JOIN ({}) {} ON {}.key = {}").format(
            _kept(each, shape), sql.Identifier(f"o{n}"), sql.Identifier(f"o{n}"), key
        )
        for n, each in enumerate(originals)
    ]
    return sql.SQL("SELECT {} FROM ({}) a{}").format(sql.SQL(", ").join(columns), union, sql.SQL("").join(joins))


def row_of(alias: str, number: int) -> Part:
    """The key of a row as text, to be joined by."""
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(sql.Identifier(alias, f"k{i}") for i in range(number)))


def _original(name: str, originals: int) -> Part:
    value: Part = sql.Identifier("a", name)
    cases = [
        sql.SQL("WHEN {} THEN {}").format(sql.Identifier(f"o{n}", f"h{name}"), sql.Identifier(f"o{n}", name))
        for n in range(originals)
    ]
    if cases:
        value = sql.SQL("CASE {} ELSE {} END").format(sql.SQL(" ").join(cases), value)
    return sql.SQL("{} AS {}").format(value, sql.Identifier(name))


def _kept(original: Shaped, shape: Shape) -> Part:
    """By key, the columns that were changed as they were at first."""
    first = len(shape.facts)
    parts: list[Part] = [sql.SQL("{} AS key").format(row_of("c", len(shape.key)))]
    for i, each in enumerate(shape.fields):
        if each.text:
            name = f"f{first + i}"
            changed = sql.SQL("changed_columns && {}").format(sql.Literal(list(each.names)))
            parts += [
                sql.SQL("bool_or({}) AS {}").format(changed, sql.Identifier(f"h{name}")),
                sql.SQL("(array_agg({} ORDER BY moved_at) FILTER (WHERE {}))[1] AS {}").format(
                    sql.Identifier("c", name), changed, sql.Identifier(name)
                ),
            ]
    return sql.SQL("SELECT {} FROM ({}) c GROUP BY 1").format(
        sql.SQL(", ").join(parts), original.select(further=("changed_columns", "moved_at"))
    )


@contextmanager
def _streamed(conn: Session, query: sql.Composed) -> Iterator[Iterator[tuple[object, ...]]]:
    """A server-side cursor over the rows, in a transaction, where it lives."""
    scope: AbstractContextManager[object] = conn.transaction() if conn.autocommit else nullcontext()
    with scope, conn.cursor(name="airflow_migration_rows") as cursor:
        cursor.itersize = BATCH
        yield iter(cursor.execute(query))
