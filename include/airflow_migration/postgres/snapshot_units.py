"""Cut the tables of a database into pieces that are copied in a moment each."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from airflow_migration.postgres.address import Session
from airflow_migration.postgres.columns import WRITABLE

UNIT_BYTES = 8_000_000
"""Of one piece, with what is out of line: for as long as it is read, ALTER TABLE waits."""
RANGES_SINCE = 140000
"""From PostgreSQL 14 on a condition on ctid reads just these blocks (release notes of 14, "TID Range Scans")."""

# An extension's own tables are made by it; of the parts of a partitioned table each is one.
_TABLES = sql.SQL(r"""
SELECT n.nspname::text, c.relname::text, {writable},
       pg_table_size(c.oid), pg_relation_size(c.oid) / current_setting('block_size')::int,
       pg_relation_filenode(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY pg_table_size(c.oid) DESC, 2, 3
""").format(writable=WRITABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Rows of one table: all, or those in some of its blocks.

    :param filenode: of the table when it was looked at; another one means that it was written anew, so that its
        blocks hold other rows
    :param first: block; None for all of the table
    :param end: block after the last; None for the end of the table
    :param bytes: about
    """

    schema: str
    table: str
    columns: tuple[str, ...]
    filenode: int
    first: int | None
    end: int | None
    bytes: int

    @property
    def name(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.table)

    @property
    def _names(self) -> sql.Composable:
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))

    @property
    def copy_out(self) -> sql.Composed:
        """The statement that reads the rows."""
        where: list[sql.Composable] = []
        if self.first is not None:
            where.append(sql.SQL("ctid >= {}::tid").format(f"({self.first},0)"))
        if self.end is not None:
            where.append(sql.SQL("ctid < {}::tid").format(f"({self.end},0)"))
        query = sql.SQL("SELECT {} FROM ONLY {}").format(self._names, self.name)
        if where:
            query += sql.SQL(" WHERE ") + sql.SQL(" AND ").join(where)
        return sql.SQL("COPY ({}) TO STDOUT").format(query)

    @property
    def copy_in(self) -> sql.Composed:
        """The statement that adds them."""
        return sql.SQL("COPY {} ({}) FROM STDIN").format(self.name, self._names)


def read_units(session: Session, unit_bytes: int = UNIT_BYTES) -> tuple[Unit, ...]:
    """All rows of the database, the largest table first.

    :param session: whose snapshot is as old as the one that is copied, or older: later blocks hold nothing that
        this snapshot shows
    """
    units: list[Unit] = []
    ranges = session.info.server_version >= RANGES_SINCE
    for schema, table, columns, table_bytes, table_blocks, filenode in session.execute(_TABLES).fetchall():
        assert isinstance(columns, list | None)
        if not columns:
            continue  # PostgreSQL allows a table without columns
        size, blocks = int(str(table_bytes)), int(str(table_blocks))
        step = max(1, unit_bytes * blocks // size) if ranges and size > unit_bytes and blocks else None
        starts = [None] if step is None else list(range(0, blocks, step))
        units.extend(
            Unit(
                schema=str(schema),
                table=str(table),
                columns=tuple(columns),
                filenode=int(str(filenode)),
                first=start,
                end=None if start is None or step is None or start + step >= blocks else start + step,
                bytes=size // len(starts),
            )
            for start in starts
        )
    return tuple(units)
