"""Decide whether the working database holds what the frozen clone holds, before anything is unpaused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.counts import count_rows, count_tables, moved_by_repairs
from airflow_migration.metadata.history import filtered_rows
from airflow_migration.metadata.releases import read_head
from airflow_migration.metadata.releases import release as find_release
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.sequences import behind_sequences
from airflow_migration.metadata.repairs.undecryptable import cleared_values
from airflow_migration.metadata.tables import RENAMED
from airflow_migration.planning.content_comparison import ContentComparison, compare_contents
from airflow_migration.planning.encryption_comparison import EncryptionComparison, compare_encryption
from airflow_migration.planning.samples import SampleComparison, Target, compare_samples
from airflow_migration.planning.table_comparison import Counts, Difference, TableComparison, compare_tables
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.progress import Listener
from airflow_migration.runtimes.runtime import Runtime
from airflow_migration.secret import Secret

__all__ = [
    "ContentComparison",
    "Difference",
    "EncryptionComparison",
    "HeadComparison",
    "SampleComparison",
    "SequenceComparison",
    "TableComparison",
    "VerificationResult",
    "verify",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadComparison:
    """:param expected: the target release's alembic head
    :param found: the working database's
    :param source: the clone's
    """

    expected: str
    found: str
    source: str

    @property
    def problem(self) -> str | None:
        if self.expected == self.found:
            return None
        return f"alembic_version says {self.found}, the target release's head is {self.expected}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceComparison:
    """:param behind: sequences of the metadata schema that would give an id that exists"""

    behind: tuple[str, ...]

    @property
    def problem(self) -> str | None:
        return f"Sequences stand below the ids: {', '.join(self.behind)}" if self.behind else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationResult:
    """What was compared and what came of it.

    :param verified: nothing is missing, changed or unreadable without a known cause
    :param tables: rows of every table, with why they differ
    :param contents: what the rows of the tables that users care about say
    :param samples: answers of the target's own commands; not asked once something else is wrong
    :param problems: a sentence for each reason why it is not verified
    """

    verified: bool
    tables: tuple[TableComparison, ...]
    contents: tuple[ContentComparison, ...]
    encrypted: EncryptionComparison
    heads: HeadComparison
    samples: tuple[SampleComparison, ...]
    sequences: SequenceComparison
    problems: tuple[str, ...]
    seconds: float


def verify(  # noqa: PLR0913
    *,
    clone: Session,
    working: Session,
    working_address: DatabaseAddress,
    clone_keys: Secret,
    target_keys: Secret,
    target_release: str,
    migration_id: str,
    runtime: Runtime | None,
    settings: Mapping[str, str],
    listener: Listener,
    kept: Mapping[str, sql.Composable] | None = None,
) -> VerificationResult:
    """Compare the frozen clone with the upgraded working database; adds rows to its `log` and nothing else.

    :param clone: session on the frozen clone, which has the source release's schema
    :param working: session on the working database
    :param working_address: where the target's own commands find it
    :param clone_keys: the source's fernet keys, newest first
    :param target_keys: the keys that the target will use
    :param target_release: what the working database was upgraded to
    :param migration_id: under which the repairs have moved rows
    :param runtime: where the target's own commands run; None asks none of them
    :param settings: ``AIRFLOW__…`` variables for the target's own commands
    :param kept: table → which of the clone's rows have travelled, as SQL over `t`; all of those it does not name
    :raises InvalidInputError: a key is not a Fernet key, or one of the databases is not Airflow's
    """
    started = time.monotonic()
    heads = HeadComparison(
        expected=find_release(target_release).head, found=read_head(working), source=read_head(clone)
    )
    listener(f"Comparing {clone.info.dbname} ({heads.source}) with {working.info.dbname} ({heads.found})")
    counts = _count(clone, working, migration_id, heads, kept or {})
    tables = compare_tables(clone, working, counts)
    _tell_tables(tables, listener)
    contents = compare_contents(clone, working, counts, migration_id, kept or {})
    encrypted = compare_encryption(clone, working, clone_keys, target_keys, cleared_values(working, migration_id))
    listener(f"{encrypted.equal} of {encrypted.values} connection and variable value(s) are what they were")
    sequences = SequenceComparison(
        behind=tuple(sorted(behind.sequence for behind in behind_sequences(working, read_tables(working))))
    )
    problems = _problems(tables, contents, encrypted, heads, sequences)
    problems += _history_problems(counts.stayed, filtered_rows(working, migration_id))
    samples: tuple[SampleComparison, ...] = ()
    if not problems and runtime is not None:
        target = Target(
            release=target_release,
            address=working_address,
            keys=target_keys,
            runtime=runtime,
            settings=settings,
        )
        samples = compare_samples(working, target, listener)
        problems = tuple(f"airflow {each.command}: {each.finding}" for each in samples if not each.matches)
    for problem in problems:
        listener(problem)
    return VerificationResult(
        verified=not problems,
        tables=tables,
        contents=contents,
        encrypted=encrypted,
        heads=heads,
        samples=samples,
        sequences=sequences,
        problems=problems,
        seconds=round(time.monotonic() - started, 1),
    )


def _count(
    clone: Session,
    working: Session,
    migration_id: str,
    heads: HeadComparison,
    kept: Mapping[str, sql.Composable],
) -> Counts:
    before, after = count_tables(clone), count_tables(working)
    origins = before.keys() | after.keys() | RENAMED.keys()
    return Counts(
        before=before,
        after=after,
        moved=moved_by_repairs(clone, working, migration_id, origins),
        from_head=heads.source,
        to_head=heads.found,
        stayed={table: before[table] - count_rows(clone, table, condition) for table, condition in kept.items()},
    )


def _problems(
    tables: tuple[TableComparison, ...],
    contents: tuple[ContentComparison, ...],
    encrypted: EncryptionComparison,
    heads: HeadComparison,
    sequences: SequenceComparison,
) -> tuple[str, ...]:
    asked = [heads.problem, *(table.problem for table in tables), *(content.problem for content in contents)]
    found = [problem for problem in (*asked, sequences.problem) if problem is not None]
    return (*found, *encrypted.problems)


def _history_problems(stayed: Mapping[str, int], ledger: Mapping[str, int]) -> tuple[str, ...]:
    """What was written down when history was left behind must be what the clone says now."""
    return tuple(
        f"{table}: {stayed.get(table, 0)} row(s) were to stay behind (history_days), {ledger.get(table, 0)} did"
        for table in sorted(stayed.keys() | ledger.keys())
        if stayed.get(table, 0) != ledger.get(table, 0)
    )


def _tell_tables(tables: tuple[TableComparison, ...], listener: Listener) -> None:
    rows = sum(table.rows_before for table in tables)
    differ = [table for table in tables if table.explained or table.unexplained]
    listener(f"{len(tables)} table(s), {rows:,} row(s) before; {len(differ)} table(s) differ in rows")
    for table in differ:
        causes = "; ".join(f"{difference.rows:+,} {difference.cause}" for difference in table.explained)
        name = table.table_before or table.table_after
        unexplained = f"; {table.unexplained:+,} unexplained" if table.unexplained else ""
        listener(f"{name}: {table.rows_before:,} → {table.rows_after:,} ({causes}{unexplained})")
