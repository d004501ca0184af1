"""Decide whether the working database holds what the frozen clone holds, before anything is unpaused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.counts import count, lost_aside
from airflow_migration.metadata.history import filtered_rows
from airflow_migration.metadata.releases import read_head
from airflow_migration.metadata.releases import release as find_release
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.ledger import changed_rows
from airflow_migration.metadata.repairs.sequences import behind_sequences
from airflow_migration.metadata.repairs.undecryptable import cleared_values
from airflow_migration.metadata.staying import NOTHING, Staying
from airflow_migration.planning.content_comparison import ContentComparison, Contents
from airflow_migration.planning.encryption_comparison import EncryptionComparison, compare_encryption
from airflow_migration.planning.loss_ledger import Cause, LedgerEntry, keep_ledger
from airflow_migration.planning.other_tables import compare_others
from airflow_migration.planning.row_comparison import RowDifference
from airflow_migration.planning.samples import SampleComparison, Target, compare_samples
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.progress import Listener
from airflow_migration.runtimes.runtime import Runtime
from airflow_migration.secret import Secret

__all__ = [
    "Cause",
    "ContentComparison",
    "EncryptionComparison",
    "HeadComparison",
    "LedgerEntry",
    "RowDifference",
    "SampleComparison",
    "SequenceComparison",
    "VerificationResult",
    "verify",
]

TOLD = 100_000
"""From how many rows on a table's comparison is worth a line."""


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
    :param ledger: for every table of the source, where its rows are
    :param contents: what the rows of every table that can be compared say
    :param samples: answers of the target's own commands; not asked once something else is wrong
    :param problems: a sentence for each reason why it is not verified
    """

    verified: bool
    ledger: tuple[LedgerEntry, ...]
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
    staying: Staying = NOTHING,
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
    :param staying: what of the clone was to stay behind
    :raises InvalidInputError: a key is not a Fernet key, or one of the databases is not Airflow's
    """
    started = time.monotonic()
    heads = HeadComparison(
        expected=find_release(target_release).head, found=read_head(working), source=read_head(clone)
    )
    listener(f"Comparing {clone.info.dbname} ({heads.source}) with {working.info.dbname} ({heads.found})")
    kept = {table: condition for table, condition in (kept or {}).items() if table not in staying.tables}
    counts = count(clone, working, migration_id, (heads.source, heads.found), kept, staying)
    looked_at = Contents(clone, working, counts, migration_id, kept, staying)
    contents = _compare(looked_at, listener)
    by_table = {content.table: content for content in contents}
    ledger = keep_ledger(counts, by_table, changed_rows(working, migration_id))
    other_contents, other_entries = compare_others(clone, working, looked_at.dialect, staying.schemas)
    contents, ledger = (*contents, *other_contents), (*ledger, *other_entries)
    _tell_ledger(ledger, listener)
    encrypted = compare_encryption(
        clone, working, clone_keys, target_keys, cleared_values(working, migration_id), staying.tables
    )
    listener(f"{encrypted.equal} of {encrypted.values} connection and variable value(s) are what they were")
    sequences = SequenceComparison(
        behind=tuple(sorted(behind.sequence for behind in behind_sequences(working, read_tables(working))))
    )
    problems = _problems(ledger, contents, encrypted, heads, sequences)
    problems += lost_aside(working, migration_id)
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
        ledger=ledger,
        contents=contents,
        encrypted=encrypted,
        heads=heads,
        samples=samples,
        sequences=sequences,
        problems=problems,
        seconds=round(time.monotonic() - started, 1),
    )


def _compare(contents: Contents, listener: Listener) -> tuple[ContentComparison, ...]:
    found = []
    for table, rows in sorted(contents.counts.before.items()):
        started = time.monotonic()
        content = contents.compare(table)
        if content is not None:
            found.append(content)
        if rows >= TOLD:
            listener(f"{table}: {rows:,} row(s) compared in {time.monotonic() - started:.1f} s")
    compared = sum(content.rows for content in found)
    listener(f"{compared:,} row(s) of {len(found)} table(s) compared")
    return tuple(found)


def _problems(
    ledger: tuple[LedgerEntry, ...],
    contents: tuple[ContentComparison, ...],
    encrypted: EncryptionComparison,
    heads: HeadComparison,
    sequences: SequenceComparison,
) -> tuple[str, ...]:
    asked = [heads.problem, *(entry.problem for entry in ledger), *(content.problem for content in contents)]
    found = [problem for problem in (*asked, sequences.problem) if problem is not None]
    return (*found, *encrypted.problems)


def _history_problems(stayed: Mapping[str, int], ledger: Mapping[str, int]) -> tuple[str, ...]:
    """What was written down when history was left behind must be what the clone says now."""
    return tuple(
        f"{table}: {stayed.get(table, 0)} row(s) were to stay behind (history_days), {ledger.get(table, 0)} did"
        for table in sorted(stayed.keys() | ledger.keys())
        if stayed.get(table, 0) != ledger.get(table, 0)
    )


def _tell_ledger(ledger: tuple[LedgerEntry, ...], listener: Listener) -> None:
    rows = sum(entry.rows_in for entry in ledger)
    differ = [entry for entry in ledger if entry.causes or entry.changed or entry.nulled or entry.unaccounted]
    listener(f"{len(ledger)} table(s), {rows:,} row(s) in; {len(differ)} table(s) differ")
    for entry in differ:
        causes = [str(cause) for cause in (*entry.causes, *entry.changed, *entry.nulled)]
        causes += [f"{entry.unaccounted:,} unaccounted for"] if entry.unaccounted else []
        listener(f"{entry.table}: {entry.rows_in:,} row(s) in, {entry.rows_out:,} out; {'; '.join(causes)}")
