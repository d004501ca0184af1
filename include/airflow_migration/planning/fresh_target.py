"""Check a target into whose own database rows alone are to go: fresh, of the source's release, and ours to write."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.metadata import releases
from airflow_migration.metadata.checks import within_limits
from airflow_migration.metadata.counts import count_rows
from airflow_migration.metadata.encrypted_columns import present_columns
from airflow_migration.metadata.findings import EXAMPLES, Finding, blocker
from airflow_migration.metadata.fresh import read_occupancy
from airflow_migration.metadata.releases import Release
from airflow_migration.metadata.repairs.catalog import Tables, read_tables
from airflow_migration.metadata.repairs.ledger import SCHEMA
from airflow_migration.metadata.replaced_rows import find_pointing, read_replaced, tell_pointing
from airflow_migration.metadata.table_choice import USERS
from airflow_migration.metadata.users_schema import VERSION_TABLE, fab_head
from airflow_migration.planning import stricter_target, target_rights, text_checks
from airflow_migration.planning.keys import SWAP
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.databases import database_exists

CHECK = "fresh_target"
TABLES = "tables"
RUNS = "dag_run"


def goal_of(head: str, source: Deployment, target: Deployment) -> Release:
    """The release of both sides: one that a connection names, if the source's head is its, else its newest.

    :param head: alembic head of the source
    """
    at = releases.require_release_head(head)
    stated = (each.airflow_version for each in (target, source) if each.airflow_version)
    return next((release for release in map(releases.release, stated) if release in at), at[-1])


def check_target(plan: Plan, there: Session, here: Session, target: Deployment) -> Iterator[Finding]:
    """:param there: session in the source's database
    :param here: session in the target server's maintenance database
    """
    yield from _choice(plan, there)
    name = plan.target_database
    if not database_exists(here, name):
        yield blocker(
            CHECK,
            f'the target has no database "{name}"; transfer data_only fills the one that the target has made',
            f"Let the target's platform make it, with the schema of Airflow {plan.target_release}; or use transfer"
            " clone or dump, which make it",
        )
        return
    with target.address.on(name).connect() as conn:
        rights = list(target_rights.check_kept_schema(conn, target.address.user))
        yield from rights
        if rights:
            return
        ours = bool(read_replaced(conn, plan.migration_id))
        occupancy = None if ours else read_occupancy(conn)
        if occupancy is not None:
            yield blocker(
                CHECK,
                f'database "{name}" of the target is {occupancy} (schema "{target.address.schema}")',
                "Name the fresh database and its metadata_schema in the target's connection: only a target without runs"
                " of its own, whose schema its own Airflow has made, is filled",
            )
            return
        yield from _release(plan, conn, target)
        rights = list(target_rights.check_tables(conn, target.address.user, plan.choice.travel))
        yield from rights
        if rights:
            return
        yield from _tables(plan, there, conn, target, ours=ours)
        yield from _keys(plan, conn, ours=ours)


def _choice(plan: Plan, there: Session) -> Iterator[Finding]:
    choice = plan.choice
    staying = [(table, why, count_rows(there, table)) for table, why in choice.left_out.items()]
    kept = tuple(f"{table}: {rows:,} row(s), {why}" for table, why, rows in staying if rows)
    yield Finding(
        check=TABLES,
        severity="info",
        summary=f"{len(choice.travel)} table(s) travel: {', '.join(choice.travel)}; {len(choice.left_out)} stay behind,"
        f" {len(kept)} of them with rows",
        count=len(choice.travel),
        evidence=kept[:EXAMPLES],
    )
    for table, why in choice.added.items():
        yield Finding(check=TABLES, severity="info", summary=f"table {table} travels as well: {why}")
    for table, columns in choice.cleared.items():
        yield Finding(
            check=TABLES,
            severity="warning",
            summary=f"rows of {table} lose {', '.join(columns)}, as the users whom it names do not travel",
            remedy=f'Add "{USERS}" to the param tables, or let their authors go',
        )
    if plan.history_cutoff is not None and RUNS not in choice.travel:
        yield blocker(TABLES, "history_days is given, and no runs travel", f"Leave it out, or add {RUNS} to tables")


def _release(plan: Plan, conn: Session, target: Deployment) -> Iterator[Finding]:
    head = releases.read_head(conn)
    stated = target.airflow_version
    if head != plan.source_head:
        found = ", ".join(release.version for release in releases.releases_at(head)) or "no release"
        seen = f"its schema is {head} ({found})"
    elif stated is not None and stated != plan.target_release:
        seen = f"its connection says {stated}"
    else:
        return
    yield blocker(
        CHECK,
        f"rows alone go between deployments of one release: the source's schema is {plan.source_head}"
        f" ({plan.source_release}), but of the target {seen}",
        f"Let the target's platform set up Airflow {plan.target_release}; or use transfer clone or dump, which upgrade",
    )


def _tables(plan: Plan, there: Session, conn: Session, target: Deployment, *, ours: bool) -> Iterator[Finding]:
    before, after = read_tables(there), read_tables(conn)
    missing = tuple(_missing(plan, before, after))
    if missing:
        yield blocker(
            TABLES,
            "the target lacks what the source's rows need",
            "Leave these tables out of the param tables, or let the target make them",
            evidence=missing,
        )
        return
    yield from within_limits(
        there, text_checks.CHECK, lambda: text_checks.check_text_for(there, conn, plan.choice.travel)
    )
    yield from within_limits(there, stricter_target.CHECK, lambda: stricter_target.check_rows(plan.choice, there, conn))
    if not ours:
        for child, (parent, rows) in find_pointing(conn, plan.choice.travel).items():
            yield blocker(
                TABLES,
                tell_pointing(child, parent, rows),
                f"Add {child} to the param tables, or empty it"
                if rows is not None
                else f"GRANT SELECT ON {child} TO {sql.Identifier(target.address.user).as_string()}, and USAGE on its"
                " schema",
            )
        own = {table: count_rows(conn, table) for table in plan.choice.travel}
        kept = tuple(f"{table}: {rows:,}" for table, rows in own.items() if rows)
        yield Finding(
            check=CHECK,
            severity="info",
            summary=f"{sum(own.values()):,} row(s) of the target's own, of {len(kept)} table(s), make room; they are"
            f" kept in its schema {SCHEMA}, and a roll back puts them back",
            count=sum(own.values()),
            evidence=kept[:EXAMPLES],
        )
    if VERSION_TABLE in before and "ab_user" in plan.choice.travel:
        heads = [fab_head(each) for each in (there, conn)]
        if heads[0] != heads[1]:
            yield blocker(
                TABLES,
                f"users and roles are of another FAB: {VERSION_TABLE} is {heads[0]} at the source,"
                f" {heads[1]} at the target",
                f'Bring both to one release of the FAB provider, or leave "{USERS}" out of the param tables',
            )


def _missing(plan: Plan, before: Tables, after: Tables) -> Iterator[str]:
    for table in sorted(plan.choice.travel):
        if table not in after:
            yield f"table {table}"
        else:
            yield from (f"{table}.{column}" for column in before[table] if column not in after[table])


def _keys(plan: Plan, conn: Session, *, ours: bool) -> Iterator[Finding]:
    """What stays in the target is in the key that it has now."""
    if plan.fernet != SWAP or ours:
        return
    for each in present_columns(conn):
        if each.table in plan.choice.travel or each.flag is None:
            continue
        rows = count_rows(conn, each.table, sql.SQL("t.{}").format(sql.Identifier(each.flag)))
        if rows:
            yield blocker(
                "fernet_key",
                f"{rows} value(s) in {each.table}.{each.column} of the target are encrypted with its own key and stay,"
                " but fernet is swap, after which nothing reads them",
                f"Use fernet reencrypt, or add {each.table} to the param tables",
            )
