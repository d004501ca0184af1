"""Count the rows of every table, and of every table into which rows were moved out of the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import ON_SEARCH_PATH, read_tables
from airflow_migration.metadata.repairs.dropped import REPAIR as DROPPED
from airflow_migration.metadata.repairs.ledger import SCHEMA, changed_rows, moved_rows
from airflow_migration.metadata.staying import NOTHING, Staying
from airflow_migration.metadata.tables import DEFAULT_POOL, RENAMED
from airflow_migration.postgres.address import Session

ARCHIVE_PREFIX = "_airflow_moved__"
"""Where Airflow's upgrades put rows that would break a new constraint: `_airflow_moved__2_2__dangling__xcom`,
`_airflow_moved__2_2__task_instance` in 2.2 (AIRFLOW_MOVED_TABLE_PREFIX, settings.py)."""
XCOM_ARCHIVE = "_xcom_archive"
"""Where Airflow 3.0.0 puts pickled XComs (eed27faa34e3)."""
MOVED_PREFIX = "moved_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideTable:
    """A table that holds rows which another table held before.

    :param schema: empty for the metadata schema
    :param origin: the table that they were in, by its name at that moment
    :param rows: how many; of this migration only, where the table says which
    :param whole: the origin itself was moved here; its rows carry no migration
    :param dropped: of the rows, those that are here because Airflow drops their table
    """

    schema: str
    name: str
    origin: str
    rows: int
    whole: bool = False
    dropped: int = 0

    @property
    def causes(self) -> tuple[tuple[str, int], ...]:
        """What brought the rows here, and how many."""
        if not self.schema:
            return ((f"archived by Airflow in {self.name}", self.rows),)
        where = f"kept in {self.schema}.{self.name}"
        return ((f"repaired, {where}", self.rows - self.dropped), (f"dropped, {where}", self.dropped))


# Up to 2.1 a task_reschedule goes with its task instance, which 2.2 moves when it has no run
# (`check_bad_references`, utils/db.py of 2.11.2, takes task instances first).
_CASCADED = "task_reschedule"
_HAS_RUN = sql.SQL("EXISTS (SELECT FROM dag_run r WHERE r.dag_id = t.dag_id AND r.execution_date = t.execution_date)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted in both databases.

    :param moved: where the repairs put rows
    :param stayed: rows of the clone's tables that history_days left behind
    :param left_out: tables of the clone that stay behind → why
    :param cleared: table → rows of which a column became NULL, as what it names stays behind
    :param cascaded: task reschedules that Airflow deleted with task instances that it moved
    :param pool_added: the default pool is new
    :param from_head: alembic head of the clone
    :param to_head: alembic head of the working database
    """

    before: Mapping[str, int]
    after: Mapping[str, int]
    moved: tuple[SideTable, ...]
    stayed: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    cleared: Mapping[str, int] = field(default_factory=dict)
    cascaded: int = 0
    pool_added: bool = False
    from_head: str
    to_head: str

    def name_after(self, table: str) -> str | None:
        """What a table of the clone is called in the working database; None where it is gone, or stays behind."""
        if table in self.left_out:
            return None
        if table in self.after:
            return table
        renamed = RENAMED.get(table)
        return renamed if renamed in self.after and renamed not in self.before else None

    def archived(self, origin: str) -> tuple[SideTable, ...]:
        """Rows of `origin` that Airflow moved to its archives during this upgrade, by archive.

        An archive may have had rows before; the repairs may have moved these, or it whole, aside.
        """
        found = []
        for archive in archives({**dict.fromkeys(self.before, 0), **self.after}):
            if archive.origin == origin:
                aside = sum(side.rows for side in self.moved if side.origin == archive.name)
                rows = archive.rows + aside - self.before.get(archive.name, 0)
                if rows > 0:
                    found.append(replace(archive, rows=rows))
        return tuple(found)

    def archived_in(self, table: str) -> SideTable | None:
        """What came to an archive of Airflow's that the clone has as well; None where nothing did, or it is none."""
        for archive in archives({table: 0}):
            return next((moved for moved in self.archived(archive.origin) if moved.name == table), None)
        return None

    def travels(self, table: str, kept: sql.Composable | None) -> sql.Composable | None:
        """Which rows of a table of the clone are to be found in the working database: SQL over `t`; None is all."""
        if table != _CASCADED or not self.cascaded:
            return kept
        return _HAS_RUN if kept is None else sql.SQL("{} AND ({})").format(_HAS_RUN, kept)


def count(
    clone: Session,
    working: Session,
    migration_id: str,
    heads: tuple[str, str],
    kept: Mapping[str, sql.Composable],
    staying: Staying = NOTHING,
) -> Counts:
    """Count both databases.

    :param heads: alembic heads of clone and working database
    :param kept: table → which of the clone's rows have travelled, as SQL over `t`; all of those it does not name
    """
    with ThreadPoolExecutor(2) as pool:
        before, after = pool.map(count_tables, (clone, working))
    counts = Counts(
        before=before,
        after=after,
        moved=moved_by_repairs(clone, working, migration_id, before.keys() | after.keys() | RENAMED.keys()),
        stayed={table: before[table] - count_rows(clone, table, condition) for table, condition in kept.items()},
        left_out=staying.tables,
        cleared={table: count_rows(clone, table, _given(columns)) for table, columns in staying.columns.items()},
        pool_added=not _has_pool(clone) and _has_pool(working),
        from_head=heads[0],
        to_head=heads[1],
    )
    if not counts.archived("task_instance") or any(side.origin == _CASCADED for side in counts.moved):
        return counts
    if not {"dag_id", "execution_date"} <= read_tables(clone).get(_CASCADED, {}).keys():
        return counts
    without = sql.SQL("NOT {}").format(_HAS_RUN)
    return replace(counts, cascaded=count_rows(clone, _CASCADED, without))


def lost_aside(conn: Session, migration_id: str) -> tuple[str, ...]:
    """A sentence for each side table that does not hold as many rows as the repairs wrote down."""
    recorded: dict[tuple[str, str], int] = {}
    kept = [(moved.origin, moved.kept_in, moved.count) for moved in moved_rows(conn, migration_id)]
    kept += [(changed.origin, changed.kept_in, changed.count) for changed in changed_rows(conn, migration_id)]
    for origin, kept_in, rows in kept:
        recorded[origin, kept_in] = recorded.get((origin, kept_in), 0) + rows
    there = read_tables(conn, SCHEMA)
    problems = []
    for (origin, kept_in), rows in recorded.items():
        name = kept_in.removeprefix(f"{SCHEMA}.")
        found = _count(conn, sql.Identifier(SCHEMA, name), migration_id) if name in there else 0
        if found != rows:
            problems.append(f"{origin}: {kept_in} holds {found} of the {rows} row(s) that were kept there")
    return tuple(problems)


def count_tables(conn: Session) -> dict[str, int]:
    """Rows of every table on the search path; partitions are counted as part of their table."""
    return {name: count_rows(conn, name) for name in _tables(conn, None)}


def count_rows(conn: Session, table: str, condition: sql.Composable | None = None) -> int:
    """:param condition: only rows that meet it; SQL over `t`"""
    row = conn.execute(
        sql.SQL("SELECT count(*) FROM {} t WHERE {}").format(sql.Identifier(table), condition or sql.SQL("true"))
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def _given(columns: Iterable[str]) -> sql.Composable:
    return sql.SQL(" OR ").join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in columns)


def archives(counts: Mapping[str, int]) -> tuple[SideTable, ...]:
    """The tables into which Airflow's own upgrades move rows, known by their names.

    :param counts: what `count_tables` gave
    """
    found = []
    for name, rows in counts.items():
        if name == XCOM_ARCHIVE:
            found.append(SideTable(schema="", name=name, origin="xcom", rows=rows))
        elif name.startswith(ARCHIVE_PREFIX):
            found.append(SideTable(schema="", name=name, origin=name.rpartition("__")[2], rows=rows))
    return tuple(found)


def moved_by_repairs(
    clone: Session, working: Session, migration_id: str, origins: Iterable[str]
) -> tuple[SideTable, ...]:
    """The tables of our schema that hold rows, or whole tables, which this migration's repairs moved.

    :param origins: names that the origin can have; where the ledger does not say, the longest that fits is it
    """
    known = sorted(origins, key=len, reverse=True)
    ledger, dropped = _read_ledger(working, migration_id)
    before = set(_tables(clone, SCHEMA))
    found = []
    for name in _tables(working, SCHEMA):
        rest = name.removeprefix(MOVED_PREFIX)
        origin = ledger.get(name) or next((o for o in known if rest == o or rest.startswith(o + "_")), None)
        if origin is None:
            continue
        table = sql.Identifier(SCHEMA, name)
        if rest != name:
            rows = _count(working, table, migration_id)
            side = SideTable(schema=SCHEMA, name=name, origin=origin, rows=rows, dropped=dropped.get(name, 0))
            found.append(side)
        elif name not in before and name.startswith((ARCHIVE_PREFIX, XCOM_ARCHIVE)):
            rows = _count(working, table)
            found.append(SideTable(schema=SCHEMA, name=name, origin=origin, rows=rows, whole=True))
    return tuple(found)


def _read_ledger(conn: Session, migration_id: str) -> tuple[dict[str, str], dict[str, int]]:
    """Side table → origin, and side table → rows that are there because their table is dropped."""
    origins: dict[str, str] = {}
    dropped: dict[str, int] = {}
    for moved in moved_rows(conn, migration_id):
        name = moved.kept_in.removeprefix(f"{SCHEMA}.")
        origins[name] = moved.origin
        if moved.repair == DROPPED:
            dropped[name] = dropped.get(name, 0) + moved.count
    return origins, dropped


def _tables(conn: Session, schema: str | None) -> tuple[str, ...]:
    wanted = sql.SQL("n.nspname = {}").format(sql.Literal(schema)) if schema else sql.SQL(ON_SEARCH_PATH)
    rows = conn.execute(
        sql.SQL(
            "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE {} AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
        ).format(wanted)
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def _count(conn: Session, table: sql.Identifier, migration_id: str | None = None) -> int:
    query = sql.SQL("SELECT count(*) FROM {}").format(table)
    if migration_id is None:
        row = conn.execute(query).fetchone()
    else:
        row = conn.execute(query + sql.SQL(" WHERE migration_id = %s"), (migration_id,)).fetchone()
    assert row is not None
    return int(str(row[0]))


def _has_pool(conn: Session) -> bool:
    row = conn.execute("SELECT EXISTS (SELECT FROM slot_pool WHERE pool = %s)", (DEFAULT_POOL,)).fetchone()
    return bool(row and row[0])
