"""Few rows, each with its own sentence: sequences, users, left-over tables, connections."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_migration.metadata.checks.check import Check, Examination
from airflow_migration.metadata.counts import count_rows
from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.metadata.repairs import connections, leftovers, sequences, users
from airflow_migration.metadata.repairs.faults import FIRST_OF_3
from airflow_migration.metadata.repairs.xcoms import CAST
from airflow_migration.metadata.users_schema import VERSION_TABLE

_FAB_IDS = "b0d31815b5a6"


def _listed(check: str, details: tuple[str, ...], summary: str, remedy: str, query: str) -> Finding:
    """A finding whose repair has the same id."""
    if not details:
        return Finding(check=check, severity="ok", summary=summary.format(count="No"), sql=query)
    return Finding(
        check=check,
        severity="warning",
        summary=summary.format(count=len(details)),
        count=len(details),
        evidence=details[:EXAMPLES],
        remedy=remedy,
        repair=check,
        sql=query,
    )


def _ask_for_defaults(look: Examination) -> Iterator[Finding]:
    yield _listed(
        "fab_id_default",
        tuple(f"{each.table}.id" for each in sequences.missing_defaults(look.conn)),
        "{count} id(s) of FAB's tables lack their default or sequence",
        "Defaults and sequences are made",
        "SELECT table_name, column_default FROM information_schema.columns WHERE column_name = 'id'"
        " AND table_schema = current_schema() AND table_name LIKE 'ab\\_%'"
        " AND (column_default IS NULL OR to_regclass(table_name || '_id_seq') IS NULL);",
    )


def _ask_for_sequences(look: Examination) -> Iterator[Finding]:
    behind = sequences.behind_sequences(look.conn, look.tables)
    queries = (
        f"SELECT '{each.sequence}', last_value, (SELECT max(id) FROM {each.table}) FROM {each.sequence};"  # noqa: S608
        for each in behind
    )
    yield _listed(
        "sequence_behind",
        tuple(f"{each.sequence}: next {each.next}, highest id {each.highest}" for each in behind),
        "{count} sequence(s) stand behind the ids of their table",
        "The sequences are set above the highest id",
        "\n".join(queries),
    )


def _ask_for_users(look: Examination) -> Iterator[Finding]:
    renames = users.new_usernames(look.conn, look.tables, look.crossing)
    yield _listed(
        "username_case",
        tuple(rename.detail for rename in renames),
        "{count} user(s) have a name that differs from another's in case only",
        "The later user is renamed",
        "\n".join(_same_but_for_case(table, "username") for table in users.USER_TABLES if table in look.tables),
    )
    emails = users.same_emails(look.conn, look.tables)
    if emails:
        yield Finding(
            check="email_case",
            severity="info",
            count=len(emails),
            evidence=emails[:EXAMPLES],
            summary=f"{len(emails)} e-mail(s) belong to several users but for case",
            remedy="Nothing is changed: every release allows it",
            sql=_same_but_for_case("ab_user", "email"),
        )


def _same_but_for_case(table: str, column: str) -> str:
    return f"SELECT lower({column}), array_agg(id ORDER BY id) FROM {table} GROUP BY 1 HAVING count(*) > 1;"  # noqa: S608


def _ask_for_leftovers(look: Examination) -> Iterator[Finding]:
    found = leftovers.find_leftovers(look.conn, look.tables, look.crossing)
    yield _listed(
        "left_over_table",
        tuple(f"{each.table}: {each.why}" for each in found),
        "{count} table(s) of an earlier upgrade stand in the way",
        "They are moved to schema airflow_migration",
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        " AND tablename ~ '^(_airflow_moved__|_xcom_archive$)';",
    )


def _ask_for_types(look: Examination) -> Iterator[Finding]:
    yield _listed(
        "connection_type",
        tuple(change.detail for change in connections.new_types(look.conn, look.tables)),
        "{count} connection(s) have no type",
        "Each gets the type that its extra, id or host names, else generic",
        "SELECT id, conn_id FROM connection WHERE conn_type IS NULL ORDER BY id;",
    )


def _ask_for_ids(look: Examination) -> Iterator[Finding]:
    yield _listed(
        "connection_id",
        tuple(change.detail for change in connections.new_ids(look.conn, look.tables)),
        "{count} connection(s) have no id or that of another",
        "They are renamed, none is removed",
        "SELECT coalesce(conn_id, ''), array_agg(id ORDER BY id) FROM connection GROUP BY 1"
        " HAVING count(*) > 1 OR coalesce(conn_id, '') = '';",
    )


def _ask_for_fab_version(look: Examination) -> Iterator[Finding]:
    """`alembic_version_fab` is made only where FabAuthManager is configured."""
    if not look.crossing.starts_after(FIRST_OF_3) or "ab_user" not in look.tables or VERSION_TABLE in look.tables:
        return
    yield Finding(
        check="fab_without_version",
        severity="info",
        summary=f"FAB's tables are here without {VERSION_TABLE}: this Airflow has never upgraded them",
        remedy="A target with FabAuthManager brings them up to date; with any other they stay as they are, unused",
        sql=f"SELECT to_regclass('ab_user'), to_regclass('{VERSION_TABLE}');",
    )


def _ask_for_triggers(look: Examination) -> Iterator[Finding]:
    if "kwargs" not in look.tables.get("trigger", {}):
        return
    count = count_rows(look.conn, "trigger")
    if count:
        rows = look.conn.execute("SELECT id, classpath FROM trigger ORDER BY id LIMIT %s", (EXAMPLES,))
        yield Finding(
            check="trigger_kwargs",
            severity="info",
            count=count,
            evidence=tuple(f"id {row} {classpath}" for row, classpath in rows),
            summary=f"The arguments of {count} trigger(s) are encrypted by the upgrade (2.9)",
            remedy="The upgrade is run with the key that the target will have",
            sql="SELECT id, classpath FROM trigger ORDER BY id;",
        )


NAME_CHECKS = (
    Check(ids=("fab_id_default",), revisions=(), ask=_ask_for_defaults),
    Check(ids=("sequence_behind",), revisions=(), ask=_ask_for_sequences),
    Check(ids=("username_case", "email_case"), revisions=(users.LOWER_INDEX,), always=True, ask=_ask_for_users),
    # The tables for dangling rows are 2.11's (`check_bad_references`), for migrations of 2.2 and 2.3.
    Check(
        ids=("left_over_table",),
        revisions=("7b2661a43ba3", "4eaab2fe6582", "48925b2719cb", "c306b5b5ae4a", CAST),
        ask=_ask_for_leftovers,
    ),
    Check(ids=("connection_type",), revisions=(connections.TYPE_NOT_NULL,), ask=_ask_for_types),
    Check(ids=("connection_id",), revisions=(connections.ID_UNIQUE,), ask=_ask_for_ids),
    Check(ids=("fab_without_version",), revisions=(FIRST_OF_3,), always=True, ask=_ask_for_fab_version),
    Check(ids=("trigger_kwargs",), revisions=("1949afb29106",), ask=_ask_for_triggers),
)
