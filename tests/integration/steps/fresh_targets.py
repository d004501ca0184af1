"""Sources and fresh targets of one release, and what is to be seen in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.table_choice import HISTORY_TABLES, SETTING_TABLES
from airflow_migration.planning.verification import VerificationResult, verify
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.ownership import hand_over
from airflow_migration.postgres.schemas import move_schema
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, quiesce
from airflow_migration.steps.migration import Migration


def ignore(_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A source and a fresh target of its release on another server."""

    source: Deployment
    target: Deployment
    migration_of: Callable[..., Migration]

    def migration(self, **options: Any) -> Migration:
        """One that has come as far as the dump."""
        made = self.planned(**options)
        quiesce.pause_dags(made, ignore)
        copy.clone_source(made, ignore)
        copy.dump_frozen(made, ignore)
        return made

    def planned(self, **options: Any) -> Migration:
        return self.migration_of(self.source, self.target, transfer="data_only", **options)


NewPair = Callable[..., Pair]


def create(server: DatabaseAddress, name: str) -> None:
    with server.connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))


def own(server: DatabaseAddress, database: DatabaseAddress) -> DatabaseAddress:
    """A role that may create no databases, and to which this one belongs."""
    role = f"owner of {database.database}"
    with server.connect(read_only=False, autocommit=True) as conn:
        name, base = sql.Identifier(role), sql.Identifier(database.database)
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'never shown'").format(name))
        conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(base, name))
    with database.connect(read_only=False) as conn:
        hand_over(conn, role)
    return replace(database, user=role, password=Secret("never shown"))


def home(address: DatabaseAddress, schema: str) -> None:
    with address.connect(read_only=False) as conn:
        move_schema(conn, "public", schema)


def forget_everything(address: DatabaseAddress) -> None:
    """What an Airflow has that was just set up: no runs, a pool, a connection and an audit row of its own."""
    with address.connect(read_only=False) as conn:
        tables = [name for name in read_tables(conn) if name in HISTORY_TABLES | SETTING_TABLES]
        names = sql.SQL(", ").join(map(sql.Identifier, tables))
        conn.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
        conn.execute(
            "INSERT INTO connection (conn_id, conn_type, password, is_encrypted, is_extra_encrypted)"
            " VALUES ('platform', 'http', 'plain', false, false)"
        )
        conn.execute("INSERT INTO log (dttm, event) VALUES (now(), 'set up')")


def rows(address: DatabaseAddress) -> dict[str, str]:
    """A digest of each table in the metadata schema."""
    with address.connect() as conn:
        found = {}
        for table in read_tables(conn, address.schema):
            query = "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {} t"
            row = conn.execute(sql.SQL(query).format(sql.Identifier(address.schema, table))).fetchone()
            found[table] = str(row[0]) if row else ""
        return found


def write(address: DatabaseAddress, statement: str) -> None:
    with address.connect(read_only=False) as conn:
        conn.execute(statement)


def compare(migration: Migration, key: Secret, there: DatabaseAddress | None = None) -> VerificationResult:
    """The frozen clone, and what came of it: the target's own database where it was filled."""
    there = there or migration.final
    with migration.frozen.connect() as clone, there.connect() as target:
        return verify(
            clone=clone,
            working=target,
            working_address=there,
            clone_keys=key,
            target_keys=key,
            target_release=migration.plan.target_release,
            migration_id=migration.id,
            runtime=None,
            settings={},
            listener=ignore,
            staying=migration.plan.staying,
        )
