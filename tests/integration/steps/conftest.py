"""A migration that is about to begin, between two databases of one ordinary role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from psycopg import sql
from tests.integration.steps.fresh_targets import NewPair, Pair, create, forget_everything, home, own

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.deployments.kubernetes.cluster import OpenCluster, open_from_environment
from airflow_migration.metadata.users_schema import TABLES
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.schemas import move_schema, move_tables
from airflow_migration.secret import Secret
from airflow_migration.steps.migration import Migration


@pytest.fixture
def migration(
    corpus: Callable[[str], DatabaseAddress],
    new_role: Callable[..., DatabaseAddress],
    owned: Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress],
    deployment: Callable[..., Deployment],
    migration_of: Callable[..., Migration],
    postgres_server: DatabaseAddress,
    fernet_key: Secret,
) -> Callable[..., Migration]:
    """Makes one, by any options: the target's login is a role of its own, of which the source's is a member.

    Airflow's tables are in schema public on both sides, unless `homes` names others; FAB's can be elsewhere.
    """

    def make(
        control: dict[str, Any] | None = None,
        homes: tuple[str, str] = ("public", "public"),
        users: str | None = None,
        open_cluster: OpenCluster = open_from_environment,
        **options: Any,
    ) -> Migration:
        ours, theirs = new_role(), new_role()
        with postgres_server.connect(read_only=False, autocommit=True) as admin:
            admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(theirs.user), sql.Identifier(ours.user)))
        source = owned(corpus("2.10.5"), ours)
        with source.connect(read_only=False) as conn:
            conn.execute("UPDATE dag SET is_paused = false WHERE dag_id = (SELECT min(dag_id) FROM dag)")
            if users:
                conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(users)))
                move_tables(conn, TABLES, "public", users)
            move_schema(conn, "public", homes[0])
        source, theirs = (replace(each, schema=home) for each, home in zip((source, theirs), homes, strict=True))
        target = theirs.on(source.database + " 'target'")
        return migration_of(
            deployment(source, fernet_keys=fernet_key),
            deployment(target, control=control, open_cluster=open_cluster),
            **options,
        )

    return make


@pytest.fixture
def pair(
    corpus: Callable[[str], DatabaseAddress],
    newer_server: DatabaseAddress,
    new_database: Callable[..., DatabaseAddress],
    load_database: Callable[[DatabaseAddress, str], None],
    deployment: Callable[..., Deployment],
    migration_of: Callable[..., Migration],
    fernet_key: Secret,
) -> NewPair:
    """Makes one: ``pair("1.10.15", homes=("airflow", "public"))``; the target's login owns nothing but its database."""

    def make(release: str = "2.10.5", homes: tuple[str, str] = ("airflow", "public")) -> Pair:
        source = corpus(release)
        home(source, homes[0])
        target = newer_server.on(source.database)
        create(newer_server, target.database)
        load_database(target, release)
        forget_everything(target)
        login = own(newer_server, target)
        home(login, homes[1])
        return Pair(
            source=deployment(replace(source, schema=homes[0]), fernet_keys=fernet_key),
            target=deployment(replace(login, schema=homes[1])),
            migration_of=migration_of,
        )

    return make
