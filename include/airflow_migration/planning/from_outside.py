"""Preflight and verification without a migration under way: for an answer before anything is installed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from airflow_migration.deployments.control import configured_fernet_keys, fernet_keys_of
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata import releases
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.history import kept_conditions, read_cutoff
from airflow_migration.metadata.journal import read_entry
from airflow_migration.metadata.pausing import count_active
from airflow_migration.metadata.repairs.ledger import migration_ids
from airflow_migration.metadata.staying import NOTHING
from airflow_migration.metadata.table_choice import choose_tables
from airflow_migration.metadata.users_schema import find_users_schema
from airflow_migration.planning import history, repairs, text_checks
from airflow_migration.planning.hops import Hop, plan_hops
from airflow_migration.planning.key_checks import check_source_keys
from airflow_migration.planning.keys import SWAP, Keys
from airflow_migration.planning.preflight import (
    STATEMENT_TIMEOUT,
    check_rows,
    release_name,
    see_users,
    take_one_snapshot,
)
from airflow_migration.planning.verification import VerificationResult, verify
from airflow_migration.postgres.databases import database_size
from airflow_migration.progress import Listener
from airflow_migration.secret import Secret

NO_SETTINGS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePreflight:
    """What can be said of a source alone.

    :param source_size: bytes
    :param active_dags: DAGs that are active now
    """

    source_release: str
    source_head: str
    target_release: str
    target_head: str
    hops: tuple[Hop, ...]
    source_size: int
    active_dags: int
    findings: tuple[Finding, ...]


def look_at_source(
    source: Deployment, *, to: str | None, history_days: int | None, may_run: Collection[str], listener: Listener
) -> SourcePreflight:
    """Check its rows and keys for the way to a release; changes nothing.

    :param to: release; None is the newest
    :param may_run: ids of the repairs that may run; what another would mend is a blocker
    :raises InvalidInputError: the source's connection says something that cannot be, or there is no way
    :raises ServerUnreachableError: its server does not answer
    """
    goal = releases.release(to) if to else releases.newest()
    with source.address.connect(statement_timeout=STATEMENT_TIMEOUT) as conn:
        take_one_snapshot(conn)
        head = releases.read_head(conn)
        see_users(conn, source, head)
        hops = plan_hops(head, goal.version)
        listener(f"Checking {source.address} for {len(hops)} hop(s) to {goal.version}")
        keys = Keys(fernet=SWAP, source=fernet_keys_of(source), target=Secret(""))
        findings = [*text_checks.check_readable_text(conn)]
        if not findings:
            findings += [*check_source_keys(conn, keys), *check_rows(conn, hops)]
        findings += history.check(conn, history.cutoff_of(history_days), kept=True)
        return SourcePreflight(
            source_release=release_name(head, source),
            source_head=head,
            target_release=goal.version,
            target_head=goal.head,
            hops=hops,
            source_size=database_size(conn, source.address.database),
            active_dags=count_active(conn),
            findings=tuple(repairs.hold_to(findings, may_run)),
        )


def compare(
    source: Deployment,
    target: Deployment,
    *,
    to: str | None,
    migration_id: str | None,
    listener: Listener,
    tables: str | tuple[str, ...] | None = None,
) -> VerificationResult:
    """Compare a frozen clone, or a source at rest, with an upgraded database; nothing is written.

    The release's own commands are not asked. Encrypted values of the target are read with its own keys, or
    with the source's where it gives none.

    :param to: the target's release; None is the newest that has the database's alembic head
    :param migration_id: whose ledger explains what was moved or left behind; None explains nothing by one
    :param tables: which alone have travelled, in the words of the param of that name; None where all have
    :raises InvalidInputError: a connection says something that cannot be, or a database is not Airflow's
    :raises ServerUnreachableError: a server does not answer
    """
    with source.address.connect() as before, target.address.connect() as after:
        users = find_users_schema(before, releases.read_head(before))
        release = to or target.airflow_version or releases.require_release_head(releases.read_head(after))[-1].version
        known = migration_ids(after)
        if migration_id is not None and migration_id not in known and read_entry(after, migration_id) is None:
            raise InvalidInputError(
                "no such migration has come to this database",
                where=str(target.address),
                remedy=f"Use one of: {', '.join(known)}" if known else "Name no migration",
            )
        if migration_id is None and known:
            listener(f"The target has a ledger of {', '.join(known)}: naming the migration lets it explain differences")
    source_keys = fernet_keys_of(source)
    with source.address.seeing(users).connect() as before, target.address.connect() as after:
        cutoff = read_cutoff(after, migration_id) if migration_id else None
        staying = NOTHING if tables is None else choose_tables(before, releases.read_head(before), tables).staying
        return verify(
            clone=before,
            working=after,
            working_address=target.address,
            clone_keys=Keys(fernet=SWAP, source=source_keys, target=configured_fernet_keys(target)).clone,
            target_keys=configured_fernet_keys(target) or source_keys,
            target_release=release,
            migration_id=migration_id or "",
            runtime=None,
            settings=NO_SETTINGS,
            listener=listener,
            kept=kept_conditions(before, cutoff) if cutoff else None,
            staying=staying,
        )
