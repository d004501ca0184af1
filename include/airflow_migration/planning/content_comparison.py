"""Compare what the rows of each table say before and after an upgrade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from airflow_migration.metadata.counts import Counts, SideTable
from airflow_migration.metadata.encrypted_columns import present_columns
from airflow_migration.metadata.fingerprints import Dialect, agree, read_xcoms_leniently
from airflow_migration.metadata.kept_meanings import Meaning, meaning_of
from airflow_migration.metadata.releases import applied_revisions
from airflow_migration.metadata.repairs.catalog import Column, Tables, read_tables
from airflow_migration.metadata.repairs.ledger import SCHEMA, changed_rows
from airflow_migration.metadata.shapes import Relation, Shape, Shaped, shape_of
from airflow_migration.metadata.staying import NOTHING, Staying
from airflow_migration.metadata.tables import DEFAULT_POOL, Removal, growth_of, removal_of
from airflow_migration.planning.conf_comparison import Confs, compare_confs
from airflow_migration.planning.repaired_comparison import differences_from_repairs
from airflow_migration.planning.row_comparison import RowComparison, RowDifference, RowDifferences, Side
from airflow_migration.planning.row_matching import EXAMPLES
from airflow_migration.postgres.address import Session

MENDED = "mended_task_instance"
_PRIMARY_KEYS = """
SELECT c.relname::text, array_agg(a.attname::text ORDER BY k.place)
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY k (number, place)
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
 WHERE i.indisprimary AND n.nspname = ANY (current_schemas(false)) AND pg_table_is_visible(c.oid)
 GROUP BY c.oid, c.relname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentComparison:
    """One table's rows before and after, wherever they are now.

    :param table: its name on the source
    :param key: what tells its rows apart; empty where whole rows are compared
    :param compared: columns that were compared
    :param not_compared: other columns of the source's table
    :param rows: of the source's table that were to travel
    :param missing: rows that are nowhere
    :param added: rows that are there now and were not before
    :param changed: rows of which a column says something else, and no ledger says why
    :param filled: values that were NULL and were filled in
    :param nulled: confs that JSON cannot hold, and that are NULL now
    :param unread: confs of which it was only compared that they are there
    :param first: the first twenty of the rows that differ
    :param cause: why rows may differ as they like; empty where they may not
    :param growth: why rows may be added; empty where they may not
    """

    table: str
    key: tuple[str, ...]
    compared: tuple[str, ...]
    not_compared: tuple[str, ...]
    rows: int
    missing: int
    added: int
    changed: int
    filled: int
    first: tuple[RowDifference, ...]
    cause: str
    growth: str
    nulled: int = 0
    unread: int = 0

    @property
    def different(self) -> int:
        """Rows that differ and must not."""
        if self.cause:
            return 0
        return self.missing + self.changed + (0 if self.growth else self.added)

    @property
    def problem(self) -> str | None:
        if not self.different:
            return None
        named = [str(each) for each in self.first if not (each.what == "added" and self.growth)]
        more = ", …" if self.different > len(named) else ""
        return f"{self.table}: {self.different} row(s) differ: {'; '.join(named)}{more}"


class Contents:
    """Both databases and what is known of them.

    :ivar dialect: how both are hashed
    """

    def __init__(
        self,
        clone: Session,
        working: Session,
        counts: Counts,
        migration_id: str,
        kept: Mapping[str, sql.Composable],
        staying: Staying = NOTHING,
    ) -> None:
        """:param kept: table → which of the clone's rows travel, as SQL over `t`; all of those it does not name"""
        self.clone, self.working, self.counts, self.migration_id = clone, working, counts, migration_id
        self.kept = kept
        self.dialect = agree(clone, working)
        self.before, self.after = (_without(read_tables(conn), staying.columns) for conn in (clone, working))
        self.aside = read_tables(working, SCHEMA)
        self.keys = _primary_keys(clone)
        self.crossed = applied_revisions(counts.to_head) - applied_revisions(counts.from_head)
        self.changed = [each for each in changed_rows(working, migration_id) if each.count]

    def compare(self, table: str) -> ContentComparison | None:
        """One table of the source; None where an upgrade leaves nothing of it to be compared."""
        after = self.counts.name_after(table)
        removal = removal_of(table, self.counts.from_head, self.counts.to_head)
        emptied = removal is not None and removal.whole and after is not None
        # Rows that come to an archive are compared with the others of the table that they are from.
        if table.startswith("alembic_version") or emptied or self.counts.archived_in(table):
            return None
        before_relations, after_relations = self._relations(table, after)
        if not after_relations:
            return None
        meaning = meaning_of(table, self.keys.get(table, ()))
        originals = tuple(self._originals(table, after))
        by_column: dict[str, tuple[Relation, ...]] = {}
        for relation, columns in originals:
            for column in columns:
                by_column[column] = (*by_column.get(column, ()), relation)
        shape = shape_of(table, meaning, (*before_relations, *after_relations), self.crossed, by_column)
        rows = self.counts.before[table] - self.counts.stayed.get(table, 0)
        found = self._differences(
            shape, before_relations, after_relations, tuple(relation for relation, _ in originals), rows
        )
        result = self._result(table, after, shape, meaning, rows, found, removal)
        if originals and after is not None:
            result = self._with_repaired(result, table, after)
        if table == "dag_run" and after is not None:
            kept = tuple(relation for relation, columns in originals if "conf" in columns)
            return self._with_confs(result, before_relations, after_relations, kept)
        return result

    def _with_repaired(self, result: ContentComparison, table: str, after: str) -> ContentComparison:
        """What a repair gave a row is not what the row had, and must be there still."""
        changed = [each for each in self.changed if each.origin in {table, after}]
        found = differences_from_repairs(self.working, after, self.after[after], changed, self.migration_id)
        return replace(result, changed=result.changed + len(found), first=(*result.first, *found)[:EXAMPLES])

    def _with_confs(
        self,
        result: ContentComparison,
        before: tuple[Relation, ...],
        after: tuple[Relation, ...],
        originals: tuple[Relation, ...],
    ) -> ContentComparison:
        """Confs are read here where they were pickles and are JSON now; hashes tell of all others."""
        if any("conf" not in relation.columns for relation in (*before, *after)) or "conf" in result.compared:
            return result
        found = compare_confs(
            Confs(conn=self.clone, relations=before),
            Confs(conn=self.working, relations=after, repaired=originals),
        )
        named = [RowDifference(key=key, what="changed", columns=("conf",)) for key in self._runs(found.changed)]
        return replace(
            result,
            compared=(*result.compared, "conf"),
            not_compared=tuple(column for column in result.not_compared if column != "conf"),
            changed=result.changed + len(found.changed),
            first=(*result.first, *named)[:EXAMPLES],
            nulled=found.nulled,
            unread=found.unread,
        )

    def _runs(self, ids: tuple[int, ...]) -> list[str]:
        """What some runs are called."""
        rows = self.clone.execute(
            "SELECT format('id=%%s, dag_id=%%s, run_id=%%s', id, dag_id, run_id) FROM dag_run WHERE id = ANY (%s)"
            " ORDER BY id",
            (list(ids[:EXAMPLES]),),
        ).fetchall()
        return [str(row[0]) for row in rows]

    def _differences(
        self,
        shape: Shape,
        before: tuple[Relation, ...],
        after: tuple[Relation, ...],
        originals: tuple[Relation, ...],
        rows: int,
    ) -> RowDifferences:
        def compare() -> RowDifferences:
            here, there = self.before.get("dag_run", {}), self.after.get("dag_run", {})
            return RowComparison(
                Side(conn=self.clone, relations=_shaped(before, shape, self.dialect, here)),
                Side(
                    conn=self.working,
                    relations=_shaped(after, shape, self.dialect, there),
                    originals=_shaped(originals, shape, self.dialect, there),
                ),
                shape,
                self.dialect,
            ).differences(rows, grows=bool(self._growth(shape.table)))

        try:
            return compare()
        except psycopg.DataError:
            if self.dialect.lenient or not any("bytea" in each.types and len(each.types) > 1 for each in shape.fields):
                raise
        self.dialect = read_xcoms_leniently(self.dialect, self.clone, self.working)
        return compare()

    def _relations(self, table: str, after: str | None) -> tuple[tuple[Relation, ...], tuple[Relation, ...]]:
        """Where the rows of a table were, and where they went during this upgrade."""
        before = [Relation.table(table, self.before[table], self.counts.travels(table, self.kept.get(table)))]
        there = []
        origins = {table, after} - {None}
        if after is not None:
            there.append(Relation.table(after, self.after[after], self._grown_by_itself(table)))
        for name in [archive.name for origin in tuple(origins) for archive in self.counts.archived(str(origin))]:
            origins.add(name)
            if name in self.after:
                there.append(Relation.table(name, self.after[name]))
            if name in self.before:
                before.append(Relation.table(name, self.before[name]))
        there += [self._aside(side) for side in self.counts.moved if side.origin in origins and side.rows]
        return tuple(before), tuple(there)

    def _growth(self, table: str) -> str:
        return growth_of(table, self.counts.from_head, self.counts.to_head)

    def _grown_by_itself(self, table: str) -> sql.Composable | None:
        if table == "slot_pool" and self.counts.pool_added:
            return sql.SQL("t.pool IS DISTINCT FROM {}").format(DEFAULT_POOL)
        return None

    def _aside(self, side: SideTable) -> Relation:
        condition: sql.Composable = sql.SQL("true")
        if not side.whole:
            condition = sql.SQL("t.migration_id = {}").format(self.migration_id)
        return Relation(
            source=sql.Identifier(SCHEMA, side.name) if side.schema else sql.Identifier(side.name),
            columns=self.aside[side.name] if side.schema else self.after[side.name],
            condition=condition,
        )

    def _originals(self, table: str, after: str | None) -> Iterator[tuple[Relation, tuple[str, ...]]]:
        """Relations of rows as they were before this migration changed them, and the columns that it changed."""
        columns: dict[str, set[str]] = {}
        for each in self.changed:
            if each.origin in {table, after}:
                columns.setdefault(each.kept_in.removeprefix(f"{SCHEMA}."), set()).update(each.columns)
        for name in sorted(columns):
            of_this = sql.SQL("t.migration_id = {}").format(self.migration_id)
            relation = Relation(source=sql.Identifier(SCHEMA, name), columns=self.aside[name], condition=of_this)
            yield relation, tuple(sorted(columns[name]))
        if table == "task_instance" and MENDED in self.aside:
            yield self._mended(), ("state",)

    def _mended(self) -> Relation:
        """Task instances whose state the mending has cleared, and that have none still, with the state they had."""
        columns = self.after["task_instance"]
        same = [
            sql.SQL("now.{} = m.{}").format(sql.Identifier(name), sql.Identifier(name))
            for name in ("dag_id", "task_id", "run_id", "map_index")
            if name in columns
        ]
        cleared = sql.SQL(" AND EXISTS (SELECT FROM task_instance now WHERE now.state IS NULL AND {})").format(
            sql.SQL(" AND ").join(same)
        )
        source = sql.SQL(
            "(SELECT m.*, m.old_state AS state, ARRAY['state'] AS changed_columns, m.at AS moved_at FROM {} m"
            " WHERE m.cleared AND m.migration_id = {}{})"
        ).format(sql.Identifier(SCHEMA, MENDED), self.migration_id, cleared if "run_id" in columns else sql.SQL(""))
        return Relation(source=source, columns={**self.aside[MENDED], "state": self.aside[MENDED]["old_state"]})

    def _result(
        self,
        table: str,
        after: str | None,
        shape: Shape,
        meaning: Meaning,
        rows: int,
        found: RowDifferences,
        removal: Removal | None,
    ) -> ContentComparison:
        decrypted = {each.column for each in present_columns(self.clone) if each.table == table}
        parts = {name for names in (*shape.key, *shape.facts) for name in names}
        compared = tuple(each.name for each in shape.fields)
        return ContentComparison(
            table=table,
            key=tuple(names[0] for names in shape.key),
            compared=(*(names[0] for names in shape.facts), *compared),
            not_compared=tuple(
                sorted(self.before[table].keys() - set(compared) - parts - decrypted - {"run_id", "execution_date"})
            ),
            rows=rows,
            missing=found.missing,
            added=found.added,
            changed=found.changed,
            filled=found.filled,
            first=found.first,
            cause=removal.cause if removal is not None and after is not None else "",
            growth=self._growth(after or table),
        )


def _without(tables: Tables, columns: Mapping[str, tuple[str, ...]]) -> Tables:
    return {
        table: {name: column for name, column in has.items() if name not in columns.get(table, ())}
        for table, has in tables.items()
    }


def _shaped(
    relations: tuple[Relation, ...], shape: Shape, dialect: Dialect, runs: Mapping[str, Column]
) -> tuple[Shaped, ...]:
    return tuple(Shaped(relation, shape, dialect, runs) for relation in relations)


def _primary_keys(conn: Session) -> dict[str, tuple[str, ...]]:
    keys = {}
    for table, columns in conn.execute(_PRIMARY_KEYS).fetchall():
        assert isinstance(columns, list)
        keys[str(table)] = tuple(str(column) for column in columns)
    return keys
