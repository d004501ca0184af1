"""A migration that is about to begin, between two databases of one ordinary role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import sql

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.postgres.address import DatabaseAddress
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
    """Makes one, by any options: the target's login is a role of its own, of which the source's is a member."""

    def make(control: dict[str, Any] | None = None, **options: Any) -> Migration:
        ours, theirs = new_role(), new_role()
        with postgres_server.connect(read_only=False, autocommit=True) as admin:
            admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(theirs.user), sql.Identifier(ours.user)))
        source = owned(corpus("2.10.5"), ours)
        with source.connect(read_only=False) as conn:
            conn.execute("UPDATE dag SET is_paused = false WHERE dag_id = (SELECT min(dag_id) FROM dag)")
        target = theirs.on(source.database + " 'target'")
        return migration_of(deployment(source, fernet_keys=fernet_key), deployment(target, control=control), **options)

    return make
