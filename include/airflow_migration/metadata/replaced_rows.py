"""Take the rows of some tables out of a fresh target, keep them there, and put them back when a migration is undone.

They are kept in schema ``airflow_migration`` of the target itself, in the same transaction in which they leave, and a
table of that schema says which tables are to be filled and which are: after a kill nothing has to be guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.exceptions import OwnershipError
from airflow_migration.metadata import hand_over
from airflow_migration.metadata.fresh import read_occupancy
from airflow_migration.metadata.repairs.ledger import SCHEMA
from airflow_migration.metadata.repairs.sequences import fix_sequences
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.columns import WRITABLE
from airflow_migration.postgres.databases import derived_name
from airflow_migration.postgres.references import parents_first, read_foreign_keys

RUN_TABLES = ("dag_run", "task_instance")
_TABLE = """
CREATE TABLE IF NOT EXISTS airflow_migration.replaced (
    migration_id text NOT NULL REFERENCES airflow_migration.migration ON DELETE CASCADE,
    origin text NOT NULL, position int NOT NULL, kept_in text NOT NULL, own_rows bigint NOT NULL, loaded_rows bigint,
    PRIMARY KEY (migration_id, origin));
"""
# Tables that are none of those given and point at one of them: by name, and which rows do, if we may look.
_POINTING = """
SELECT f.conrelid::regclass::text, p.relname::text,
       has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
       (SELECT array_agg(a.attname::text) FROM pg_attribute a
         WHERE a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey))
  FROM pg_constraint f
  JOIN pg_class c ON c.oid = f.conrelid
  JOIN pg_class p ON p.oid = f.confrelid
 WHERE f.contype = 'f' AND pg_table_is_visible(p.oid) AND p.relname = ANY (%s) AND NOT c.relispartition
   AND NOT (pg_table_is_visible(c.oid) AND c.relname = ANY (%s))
 ORDER BY 1, 2
"""
_COLUMNS = sql.SQL("SELECT unnest({}) FROM pg_class c WHERE c.oid = %s::regclass").format(WRITABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedTable:
    """One table of the target whose rows make room for the source's.

    :param kept_in: table of schema ``airflow_migration`` with the target's own rows
    :param own_rows: how many these are
    :param loaded_rows: how many of the source's have come; None while they have not
    """

    table: str
    kept_in: str
    own_rows: int
    loaded_rows: int | None


def read_replaced(conn: Session, migration_id: str) -> tuple[ReplacedTable, ...]:
    """What a migration has replaced here, in the order in which it is filled; empty where it has not begun."""
    row = conn.execute("SELECT to_regclass('airflow_migration.replaced') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return ()
    rows = conn.execute(
        "SELECT origin, kept_in, own_rows, loaded_rows FROM airflow_migration.replaced WHERE migration_id = %s"
        " ORDER BY position",
        (migration_id,),
    ).fetchall()
    return tuple(
        ReplacedTable(
            table=str(table),
            kept_in=str(kept_in),
            own_rows=int(str(own)),
            loaded_rows=None if loaded is None else int(str(loaded)),
        )
        for table, kept_in, own, loaded in rows
    )


def find_pointing(conn: Session, tables: Collection[str]) -> dict[str, tuple[str, int | None]]:
    """Other tables with rows that point at rows of these, which so cannot go: name → at which table, how many.

    How many is None where this role may not see it.
    """
    found: dict[str, tuple[str, int | None]] = {}
    for child, parent, readable, columns in conn.execute(_POINTING, (list(tables), list(tables))).fetchall():
        assert isinstance(columns, list)
        if not readable:
            found[str(child)] = str(parent), None
            continue
        condition = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(sql.Identifier(name)) for name in columns)
        row = conn.execute(
            sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.SQL(str(child)), condition)  # regclass quotes it
        ).fetchone()
        if row and row[0]:
            found[str(child)] = str(parent), int(str(row[0]))
    return found


def tell_pointing(child: str, parent: str, rows: int | None) -> str:
    """What one of `find_pointing` means, in words."""
    what = f"table {child} of the target point at {parent}, which is to be emptied"
    return f"its login may not see whether rows of {what}" if rows is None else f"{rows} row(s) of {what}"


def take_rows_out(conn: Session, migration_id: str, token: str, tables: Sequence[str]) -> tuple[ReplacedTable, ...]:
    """Keep the target's own rows of these tables aside and empty exactly these; the caller commits.

    The journal of the migration must be here. Nobody else can write the tables until the caller's transaction ends.

    They are emptied and noted in an order in which each comes after those that it points at here: the source may have
    lost foreign keys.

    :raises OwnershipError: the target has got runs of its own, or rows elsewhere point at those that would go
    """
    _lock(conn, tables)
    occupancy = read_occupancy(conn)
    if occupancy is not None:
        raise OwnershipError(
            f"the target is {occupancy} by now",
            where=f'database "{conn.info.dbname}"',
            remedy="Nothing was changed there. Let the platform make a fresh target, whose DAGs stay paused",
        )
    conn.execute(_TABLE)
    tables = parents_first(tables, read_foreign_keys(conn))
    for position, table in enumerate(tables):
        kept_in = derived_name(f"own_{table}", f"_{token}_{position}")
        rows = conn.execute(
            sql.SQL("CREATE TABLE {} AS SELECT * FROM {}").format(
                sql.Identifier(SCHEMA, kept_in), sql.Identifier(table)
            )
        ).rowcount
        conn.execute(
            "INSERT INTO airflow_migration.replaced (migration_id, origin, position, kept_in, own_rows)"
            " VALUES (%s, %s, %s, %s, %s)",
            (migration_id, table, position, kept_in, rows),
        )
    _empty(conn, tables)
    return read_replaced(conn, migration_id)


def take_late_rows(conn: Session, migration_id: str) -> int:
    """Keep what somebody has written since into tables that are emptied and not yet filled, beside the target's own
    rows, and take it out; nobody else can write these tables until the caller's transaction ends.

    :returns: how many rows
    :raises OwnershipError: there are runs among them
    """
    waiting = {each.table: each for each in read_replaced(conn, migration_id) if each.loaded_rows is None}
    _lock(conn, waiting)
    late = [each for each in waiting.values() if _has_rows(conn, each.table)]
    if runs := [each.table for each in late if each.table in RUN_TABLES]:
        raise OwnershipError(
            f"the target goes on while it is filled: it has made rows of {', '.join(runs)}",
            where=f'database "{conn.info.dbname}"',
            remedy="Stop its processes and roll the migration back, after which it has its own rows again",
        )
    taken = 0
    for each in late:
        rows = conn.execute(
            sql.SQL("INSERT INTO {} SELECT * FROM {}").format(
                sql.Identifier(SCHEMA, each.kept_in), sql.Identifier(each.table)
            )
        ).rowcount
        conn.execute(
            "UPDATE airflow_migration.replaced SET own_rows = own_rows + %s WHERE migration_id = %s AND origin = %s",
            (rows, migration_id, each.table),
        )
        taken += rows
    if late:
        _empty(conn, list(waiting))
    return taken


def _has_rows(conn: Session, table: str) -> bool:
    row = conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table))).fetchone()
    return bool(row and row[0])


def record_loaded(conn: Session, migration_id: str, table: str, rows: int) -> None:
    """Write down that a table is filled, in the transaction that fills it."""
    conn.execute(
        "UPDATE airflow_migration.replaced SET loaded_rows = %s WHERE migration_id = %s AND origin = %s",
        (rows, migration_id, table),
    )


def put_rows_back(conn: Session, migration_id: str) -> tuple[ReplacedTable, ...]:
    """Undo of `take_rows_out` and of what was loaded since: the target has its own rows again; the caller commits.

    With them goes the journal of the migration, and with the last one the whole schema ``airflow_migration``: the
    database is no longer one that a migration has handed over.

    :returns: what was put back; empty where nothing was replaced, or where that was done before
    """
    replaced = read_replaced(conn, migration_id)
    if not replaced:
        return ()
    tables = [each.table for each in replaced]
    _lock(conn, tables)
    _empty(conn, tables)
    for each in replaced:
        table, kept = sql.Identifier(each.table), sql.Identifier(SCHEMA, each.kept_in)
        columns = sql.SQL(", ").join(
            sql.Identifier(str(name)) for (name,) in conn.execute(_COLUMNS, (table.as_string(conn),)).fetchall()
        )
        overriding = sql.SQL("OVERRIDING SYSTEM VALUE" if conn.info.server_version >= 100000 else "")
        # What came late stands behind what was there first, and may say the same again: the default pool.
        conn.execute(
            sql.SQL("INSERT INTO {} ({}) {} SELECT {} FROM {} ORDER BY ctid ON CONFLICT DO NOTHING").format(
                table, columns, overriding, columns, kept
            )
        )
        conn.execute(sql.SQL("DROP TABLE {}").format(kept))
    fix_sequences(conn, tables)
    hand_over.forget(conn, migration_id)
    return replaced


def _lock(conn: Session, tables: Iterable[str]) -> None:
    """One statement, so that two can never wait for each other."""
    names = sql.SQL(", ").join(map(sql.Identifier, sorted(tables)))
    conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))


def _empty(conn: Session, tables: Sequence[str]) -> None:
    """TRUNCATE where that can be: Postgres refuses it for a table at which another one can point, even an empty one.

    :raises OwnershipError: rows of other tables point at rows that would go
    """
    if pointing := find_pointing(conn, tables):
        child, (parent, rows) = next(iter(pointing.items()))
        raise OwnershipError(
            tell_pointing(child, parent, rows),
            where=f'database "{conn.info.dbname}"',
            remedy=f"Add {child} to the param tables, or empty it by hand; nothing was changed",
        )
    pairs = {(key.child, key.parent) for key in read_foreign_keys(conn)}
    kept_from = {parent for child, parent in pairs if child not in tables}
    while more := {parent for child, parent in pairs if child in kept_from} - kept_from:
        kept_from |= more
    if truncated := [table for table in tables if table not in kept_from]:
        conn.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, truncated))))
    for table in reversed(tables):
        if table in kept_from:
            conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
