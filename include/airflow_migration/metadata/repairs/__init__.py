"""Mend, on the working database only, what Airflow's migrations of the next hop would abort on or lose."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from psycopg.pq import TransactionStatus

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.repairs import (
    confs,
    connections,
    dropped,
    leftovers,
    pickled_xcoms,
    schema,
    sequences,
    users,
    xcoms,
)
from airflow_migration.metadata.repairs.catalog import Tables, read_tables
from airflow_migration.metadata.repairs.changing import note_new_values
from airflow_migration.metadata.repairs.connections import Decrypt
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.dataset_uris import NOT_INDEXABLE, move_unindexable
from airflow_migration.metadata.repairs.faults import OTHER_FAULTS, RUN_KEY, Fault, history_faults
from airflow_migration.metadata.repairs.ledger import (
    Entry,
    MovedRows,
    Repair,
    moved_rows,
    prepare,
    read_repairs,
    record,
)
from airflow_migration.metadata.repairs.moving import move_rows
from airflow_migration.metadata.repairs.registry import QUARANTINE, REPAIRS, SAFE_REPAIRS
from airflow_migration.metadata.repairs.run_duplicates import RUN_DUPLICATE, separate_runs
from airflow_migration.metadata.repairs.runs import name_runs
from airflow_migration.metadata.repairs.sequences import fix_sequences
from airflow_migration.postgres.address import Session
from airflow_migration.progress import Listener

__all__ = ["MovedRows", "Repair", "RepairResult", "fix_sequences", "moved_rows", "repair"]

Outcome = tuple[int, tuple[str, ...]]
Step = tuple[str, Callable[[Entry], Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """What was repaired before one hop, whether in this run or an earlier one of the same hop."""

    repairs: tuple[Repair, ...]


def repair(
    conn: Session,
    *,
    head: str,
    target_head: str,
    migration_id: str,
    listener: Listener,
    allowed: Collection[str] = SAFE_REPAIRS,
    decrypt: Decrypt | None = None,
) -> RepairResult:
    """Run every repair that the hop needs and that may run. Commits: each is a transaction with its own record.

    Rows that cannot stay are moved to schema ``airflow_migration``, with all their columns. Running again,
    after a kill too, gives the same database and the same result.

    :param conn: writable session on the working database; what is pending on it is committed first
    :param head: schema revision of the database now
    :param target_head: schema revision after the hop
    :param allowed: ids of the repairs that may run
    :param decrypt: reads an encrypted connection extra, for the types of connections without one
    :raises InvalidInputError: a head belongs to no known release, or a repair that may not run has something to do:
        nothing of it was changed
    """
    crossing = Crossing.between(head, target_head)
    if conn.info.transaction_status != TransactionStatus.IDLE:
        conn.commit()
    with conn.transaction():
        prepare(conn)
        tables = read_tables(conn)
    for repair_id, step in _steps(conn, tables, crossing, decrypt):
        entry = Entry(migration_id=migration_id, repair_id=repair_id, head=head)
        with conn.transaction():
            count, details = step(entry)
            if count and repair_id not in allowed:
                raise _not_allowed(conn, repair_id, count)
            record(conn, entry, count, details)
            if count:
                note_new_values(conn, entry)
        if count:
            listener(f"Repair {repair_id}: {count} row(s)")
    with conn.transaction():
        done = read_repairs(conn, migration_id, head)
    return RepairResult(repairs=tuple(each for each in done if each.id != QUARANTINE))


def _not_allowed(conn: Session, repair_id: str, count: int) -> InvalidInputError:
    """What preflight would have said, had the rows been there then; without the repair the hop may lose them."""
    return InvalidInputError(
        f"repair {repair_id} has {count} row(s) to mend, and may not run",
        where=f'database "{conn.info.dbname}"',
        remedy=f"{REPAIRS[repair_id].instead} and migrate anew, or allow {repair_id} with param repairs",
    )


def _steps(conn: Session, tables: Tables, crossing: Crossing, decrypt: Decrypt | None) -> tuple[Step, ...]:
    """Left-overs first, for others would move rows into their names; runs before what belongs to them;
    what is moved is moved before it is completed, so that it is kept as it was.
    """
    steps: list[Step] = [
        ("left_over_table", lambda _: _set_aside(conn, tables, crossing)),
        (schema.MISSING, lambda _: _counted(schema.mend_schema(conn, crossing, "missing"))),
        (schema.IN_THE_WAY, lambda _: _counted(schema.mend_schema(conn, crossing, "in the way"))),
        ("fab_id_default", lambda _: _counted(sequences.set_defaults(conn))),
        ("sequence_behind", lambda _: _counted(fix_sequences(conn))),
        ("username_case", lambda entry: _rename_users(conn, entry, tables, crossing)),
    ]
    if crossing.crosses(connections.TYPE_NOT_NULL):
        steps.append(("connection_type", partial(_retype, conn, tables, decrypt)))
    if crossing.crosses(connections.ID_UNIQUE):
        steps.append(("connection_id", lambda entry: _change(conn, entry, connections.new_ids(conn, tables))))
    if crossing.crosses(RUN_KEY):
        steps.append(("run_without_run_id", lambda entry: name_runs(conn, entry, tables)))
    if RUN_DUPLICATE.applies(tables, crossing):
        steps.append((RUN_DUPLICATE.id, partial(separate_runs, conn)))
    faults = (*history_faults(tables), *OTHER_FAULTS)
    steps += [(fault.id, partial(_move, conn, fault)) for fault in faults if fault.applies(tables, crossing)]
    if NOT_INDEXABLE.applies(tables, crossing):
        steps.append((NOT_INDEXABLE.id, lambda entry: (move_unindexable(conn, entry), ())))
    if confs.applies(tables, crossing):
        steps.append((confs.REPAIR, lambda entry: confs.carry_confs(conn, entry)))
    if xcoms.applies(tables, crossing):
        key = xcoms.row_key(tables)
        steps.append((pickled_xcoms.REPAIR, lambda entry: pickled_xcoms.carry_pickles(conn, entry, crossing, key=key)))
        steps.append((xcoms.REPAIR, lambda entry: xcoms.mend_uncastable(conn, entry, crossing)))
    if any(dropped.dropped_tables(tables, crossing)):
        steps.append((dropped.REPAIR, lambda entry: (dropped.keep_rows(conn, entry, tables, crossing), ())))
    return tuple(steps)


def _move(conn: Session, fault: Fault, entry: Entry) -> Outcome:
    moved = move_rows(conn, entry, table=fault.table, condition=fault.condition, reason=fault.reason)
    return moved, ()


def _set_aside(conn: Session, tables: Tables, crossing: Crossing) -> Outcome:
    found = leftovers.find_leftovers(conn, tables, crossing)
    return _counted(tuple(leftovers.set_aside(conn, leftover) for leftover in found))


def _rename_users(conn: Session, entry: Entry, tables: Tables, crossing: Crossing) -> Outcome:
    renames = users.new_usernames(conn, tables, crossing)
    users.rename_users(conn, entry, renames)
    return _counted(tuple(rename.detail for rename in renames))


def _retype(conn: Session, tables: Tables, decrypt: Decrypt | None, entry: Entry) -> Outcome:
    return _change(conn, entry, connections.new_types(conn, tables, decrypt))


def _change(conn: Session, entry: Entry, changes: tuple[connections.Change, ...]) -> Outcome:
    connections.apply(conn, entry, changes)
    return _counted(tuple(change.detail for change in changes))


def _counted(details: tuple[str, ...]) -> Outcome:
    return len(details), details
