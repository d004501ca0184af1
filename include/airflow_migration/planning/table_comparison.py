"""Compare how many rows each table has before and after an upgrade, and say why where it differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_migration.metadata.counts import SideTable, archives
from airflow_migration.metadata.tables import DEFAULT_POOL, GROWN, RENAMED, USER_TABLES, removal_of
from airflow_migration.postgres.address import Session

STAYED = "stayed behind (history_days); in the frozen clone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Why rows left a table, or came to it.

    :param rows: how many left; negative when they came
    """

    cause: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableComparison:
    """One table before and after.

    :param table_before: None when the upgrade made it
    :param table_after: None when the upgrade dropped it
    :param unexplained: rows that left for no known cause; negative when they came
    """

    table_before: str | None
    table_after: str | None
    rows_before: int
    rows_after: int
    explained: tuple[Difference, ...]
    unexplained: int

    @property
    def problem(self) -> str | None:
        """What is wrong with it, if anything."""
        name = self.table_before or self.table_after
        if self.unexplained > 0:
            return f"{name}: {self.unexplained} of {self.rows_before} row(s) are missing without a known cause"
        if self.unexplained < 0 and {self.table_before, self.table_after} & USER_TABLES:
            return f"{name}: {-self.unexplained} row(s) too many, from nowhere known"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted in both databases.

    :param moved: where the repairs put rows
    :param stayed: rows of the clone's tables that history_days left behind
    :param from_head: alembic head of the clone
    :param to_head: alembic head of the working database
    """

    before: Mapping[str, int]
    after: Mapping[str, int]
    moved: tuple[SideTable, ...]
    from_head: str
    to_head: str
    stayed: Mapping[str, int] = field(default_factory=dict)

    def archived(self, origin: str) -> tuple[Difference, ...]:
        """Rows of `origin` that Airflow moved to its archives during this upgrade, by archive.

        An archive may have had rows before; the repairs may have moved these, or it whole, aside.
        """
        found = []
        for archive in archives({**dict.fromkeys(self.before, 0), **self.after}):
            if archive.origin == origin:
                aside = sum(side.rows for side in self.moved if side.origin == archive.name)
                rows = archive.rows + aside - self.before.get(archive.name, 0)
                if rows > 0:
                    found.append(Difference(cause=archive.cause, rows=rows))
        return tuple(found)

    def changed_archives(self, origin: str) -> tuple[str, ...]:
        """The archives to which rows of `origin` came during this upgrade."""
        causes = {difference.cause for difference in self.archived(origin)}
        return tuple(archive.name for archive in archives(self.after) if archive.cause in causes)


def compare_tables(clone: Session, working: Session, counts: Counts) -> tuple[TableComparison, ...]:
    """Every table that the clone has, and those with rows that only the working database has."""
    compared = []
    seen: set[str] = set()
    for table, rows in sorted(counts.before.items()):
        after = _name_after(table, counts)
        seen.add(after or table)
        compared.append(_compare(clone, working, counts, table, after, rows))
    for table, rows in sorted(counts.after.items()):
        if table not in seen and rows:
            made = Difference(cause="table made by the upgrade", rows=-rows)
            compared.append(
                TableComparison(
                    table_before=None,
                    table_after=table,
                    rows_before=0,
                    rows_after=rows,
                    explained=(made,),
                    unexplained=0,
                )
            )
    return tuple(compared)


def _name_after(table: str, counts: Counts) -> str | None:
    if table in counts.after:
        return table
    renamed = RENAMED.get(table)
    return renamed if renamed in counts.after and renamed not in counts.before else None


def _compare(
    clone: Session, working: Session, counts: Counts, table: str, after: str | None, rows: int
) -> TableComparison:
    rows_after = counts.after[after] if after else 0
    explained = [
        Difference(cause=side.cause, rows=side.rows)
        for side in counts.moved
        if side.rows and side.origin in {table, after}
    ]
    explained += [difference for name in {table, after} - {None} for difference in counts.archived(str(name))]
    if stayed := counts.stayed.get(table):
        explained.append(Difference(cause=STAYED, rows=stayed))
    left = rows - rows_after - sum(difference.rows for difference in explained)
    # Only what is left over is asked about: these causes bound it, they do not excuse more than they did.
    for difference in _causes(clone, working, counts, table, after, left):
        explained.append(difference)
        left -= difference.rows
    return TableComparison(
        table_before=table,
        table_after=after,
        rows_before=rows,
        rows_after=rows_after,
        explained=tuple(explained),
        unexplained=left,
    )


def _causes(
    clone: Session, working: Session, counts: Counts, table: str, after: str | None, left: int
) -> tuple[Difference, ...]:
    if table.startswith("alembic_version"):
        # 1.10.3 to 1.10.6 have two heads, so two rows; the heads are compared elsewhere.
        return (Difference(cause="schema versions", rows=left),) if left else ()
    if left > 0:
        removal = removal_of(table, counts.from_head, counts.to_head)
        if removal is not None:
            return (Difference(cause=removal.cause, rows=left),)
        if table == "task_reschedule":
            rows = min(left, _cascaded_reschedules(clone, counts))
            cause = "deleted by Airflow with task instances that it moved (ON DELETE CASCADE)"
            return (Difference(cause=cause, rows=rows),) if rows else ()
    elif left < 0:
        if table == "slot_pool" and not _has_pool(clone) and _has_pool(working):
            return (Difference(cause=f"{DEFAULT_POOL} added by the upgrade", rows=-1),)
        if any(archive.name == after for archive in archives(counts.after)):
            return (Difference(cause="rows moved here by Airflow", rows=left),)
        if after in GROWN:
            return (Difference(cause=GROWN[after], rows=left),)
    return ()


def _cascaded_reschedules(clone: Session, counts: Counts) -> int:
    """Up to 2.1 a task_reschedule goes with its task instance, which 2.2 moves when it has no run.

    `check_bad_references`, utils/db.py of 2.11.2, takes task instances first.
    """
    if not counts.archived("task_instance"):
        return 0
    row = clone.execute(
        "SELECT count(*) FROM task_reschedule t WHERE NOT EXISTS (SELECT FROM dag_run r"
        " WHERE r.dag_id = t.dag_id AND r.execution_date = t.execution_date)"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def _has_pool(conn: Session) -> bool:
    row = conn.execute("SELECT EXISTS (SELECT FROM slot_pool WHERE pool = %s)", (DEFAULT_POOL,)).fetchone()
    return bool(row and row[0])
