"""Account for every row of the source: where it is now, or what took it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_migration.metadata.counts import Counts
from airflow_migration.metadata.repairs.ledger import ChangedRows
from airflow_migration.metadata.tables import growth_of, removal_of
from airflow_migration.planning.content_comparison import ContentComparison

STAYED = "history_days; stays in the frozen clone"
NULLED = "conf is NULL, as JSON cannot hold it (e39a26ac59f6, 3.0.0); in the frozen clone"
CLEARED = "author is NULL, as users do not travel; in the frozen clone"
CASCADED = "deleted by Airflow with task instances that it moved (ON DELETE CASCADE)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why rows left a table, or came to it; or why values left a column.

    :param rows: how many left; negative when they came
    """

    cause: str
    rows: int

    def __str__(self) -> str:
        return f"{self.rows:,} {self.cause}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One table of the source. Rows in = rows out + those of the causes, else some are unaccounted for.

    :param table: its name on the source
    :param table_after: its name after the upgrade; None where it is gone
    :param rows_in: in the frozen clone
    :param rows_out: in the upgraded database
    :param causes: what took rows, or brought them
    :param changed: rows that are there with other values, which a repair gave them
    :param nulled: values that became NULL although their rows are there
    :param unaccounted: rows that left for no known cause; negative when they came
    """

    table: str
    table_after: str | None
    rows_in: int
    rows_out: int
    causes: tuple[Cause, ...]
    changed: tuple[Cause, ...]
    nulled: tuple[Cause, ...]
    unaccounted: int

    @property
    def problem(self) -> str | None:
        """What is wrong with it, if anything."""
        if self.unaccounted > 0:
            return f"{self.table}: {self.unaccounted} of {self.rows_in} row(s) are missing without a known cause"
        if self.unaccounted < 0:
            return f"{self.table}: {-self.unaccounted} row(s) too many, from nowhere known"
        return None


def keep_ledger(
    counts: Counts,
    contents: Mapping[str, ContentComparison],
    changed: Sequence[ChangedRows],
) -> tuple[LedgerEntry, ...]:
    """An entry for every table of the source.

    :param contents: by table, what the comparison of its rows has found
    :param changed: what the repairs have written down
    """
    return tuple(_entry(counts, table, contents.get(table), changed) for table in sorted(counts.before))


def _entry(
    counts: Counts,
    table: str,
    content: ContentComparison | None,
    changed: Sequence[ChangedRows],
) -> LedgerEntry:
    if table in counts.left_out:
        return stays_behind(table, counts.before[table], counts.left_out[table])
    after = counts.name_after(table)
    rows_in, rows_out = counts.before[table], counts.after[after] if after else 0
    causes = _left(counts, table, after)
    left = rows_in - sum(cause.rows for cause in causes)
    causes += _by_airflow(counts, table, after, left, content)
    return LedgerEntry(
        table=table,
        table_after=after,
        rows_in=rows_in,
        rows_out=rows_out,
        causes=tuple(cause for cause in causes if cause.rows),
        changed=tuple(
            Cause(cause=f"{', '.join(each.columns)} repaired, kept in {each.kept_in}", rows=each.count)
            for each in changed
            if each.origin in {table, after}
        ),
        nulled=tuple(
            cause
            for cause in (
                Cause(cause=NULLED, rows=content.nulled if content is not None else 0),
                Cause(cause=CLEARED, rows=counts.cleared.get(table, 0)),
            )
            if cause.rows
        ),
        unaccounted=rows_in - rows_out - sum(cause.rows for cause in causes),
    )


def stays_behind(table: str, rows: int, cause: str) -> LedgerEntry:
    """The entry of a table that does not travel; what the target has under its name is the target's own."""
    return LedgerEntry(
        table=table,
        table_after=None,
        rows_in=rows,
        rows_out=0,
        causes=(Cause(cause=cause, rows=rows),) if rows else (),
        changed=(),
        nulled=(),
        unaccounted=0,
    )


def _left(counts: Counts, table: str, after: str | None) -> list[Cause]:
    """Rows that are somewhere else."""
    aside = [side for side in counts.moved if side.origin in {table, after}]
    aside += [archive for name in {table, after} - {None} for archive in counts.archived(str(name))]
    causes = [Cause(cause=cause, rows=rows) for side in aside for cause, rows in side.causes]
    causes.append(Cause(cause=STAYED, rows=counts.stayed.get(table, 0)))
    return causes


def _by_airflow(
    counts: Counts, table: str, after: str | None, left: int, content: ContentComparison | None
) -> list[Cause]:
    """What the upgrade itself deletes or adds.

    :param left: rows that are not somewhere else
    """
    rows_out = counts.after[after] if after else 0
    if table.startswith("alembic_version"):
        # 1.10.3 to 1.10.6 have two heads, so two rows; the heads are compared elsewhere.
        return [Cause(cause="schema versions", rows=left - rows_out)]
    removal = removal_of(table, counts.from_head, counts.to_head)
    growth = growth_of(after or table, counts.from_head, counts.to_head)
    if removal is not None and removal.whole:
        causes = [Cause(cause=removal.cause, rows=left)]
        return [*causes, Cause(cause=growth, rows=-rows_out)] if growth else causes
    causes = []
    if removal is not None and content is not None:
        causes += [Cause(cause=removal.cause, rows=content.missing), Cause(cause=removal.cause, rows=-content.added)]
    elif content is not None and growth:
        causes.append(Cause(cause=growth, rows=-content.added))
    if table == "task_reschedule":
        causes.append(Cause(cause=CASCADED, rows=counts.cascaded))
    if table == "slot_pool" and counts.pool_added:
        causes.append(Cause(cause="default_pool added by the upgrade", rows=-1))
    archived = counts.archived_in(table)
    if archived is not None:
        causes.append(Cause(cause=f"rows of {archived.origin} archived here by Airflow", rows=-archived.rows))
    return causes
