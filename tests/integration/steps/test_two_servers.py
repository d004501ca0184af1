"""A whole database goes from one server to another of a later release, out of whatever its own was made with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from psycopg import sql
from tests.integration.steps.fresh_targets import compare, ignore, write

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.planning.plan import DUMP
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import LOCALE_PROVIDERS_SINCE, database_encoding, database_locale
from airflow_migration.postgres.manifest import read_manifest
from airflow_migration.postgres.portability import read_abilities
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, quiesce
from airflow_migration.steps.migration import Migration

RELEASE = "2.10.5"
NewSource = Callable[[str], DatabaseAddress]
numbers = itertools.count(1)


def new_login(server: DatabaseAddress, what: str) -> DatabaseAddress:
    """Of plain letters: the servers do not convert the names of roles for databases of other encodings."""
    role = f"{what} {next(numbers)}"
    with server.connect(read_only=False, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD 'never shown'").format(sql.Identifier(role)))
    return replace(server, user=role, password=Secret("never shown"))


@pytest.fixture
def new_source(
    postgres_server: DatabaseAddress,
    load_database: Callable[[DatabaseAddress, str], None],
    owned: Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress],
) -> NewSource:
    """Makes a deployment's database by these options of CREATE DATABASE, which belongs to an ordinary role."""

    def make(options: str) -> DatabaseAddress:
        source = postgres_server.on(f"made otherwise {next(numbers)}")
        with postgres_server.connect(read_only=False, autocommit=True) as admin:
            name = sql.Identifier(source.database)
            admin.execute(sql.SQL(f"CREATE DATABASE {{}} TEMPLATE template0 {options}").format(name))
        load_database(source, RELEASE)
        write(
            source,
            "INSERT INTO variable (key, val, is_encrypted, description) SELECT 'Größe ' || n, 'Zürich', false, 'ÿ §'"
            " FROM generate_series(1, 300) n; UPDATE dag SET owners = 'Jürgen'",
        )
        return owned(source, new_login(postgres_server, "owner"))

    return make


@pytest.fixture
def carry(
    newer_server: DatabaseAddress,
    deployment: Callable[..., Deployment],
    migration_of: Callable[..., Migration],
    fernet_key: Secret,
) -> Callable[[DatabaseAddress], Migration]:
    """Takes a source as far as the working database on the newer server."""

    def make(source: DatabaseAddress) -> Migration:
        target = new_login(newer_server, "loader").on(source.database)
        migration = migration_of(
            deployment(source, fernet_keys=fernet_key), deployment(target, airflow_version=RELEASE)
        )
        assert migration.plan.transfer == DUMP
        quiesce.pause_dags(migration, ignore)
        copy.clone_source(migration, ignore)
        copy.dump_frozen(migration, ignore)
        copy.make_working_database(migration, ignore)
        return migration

    return make


def rows(address: DatabaseAddress) -> dict[str, list[str]]:
    """Each table's rows, as they arrive here: digests of the servers' own would be of their encodings."""
    with address.connect() as conn:
        return {
            table: sorted(
                str(row) for (row,) in conn.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
            )
            for table in read_tables(conn)
        }


def major(address: DatabaseAddress) -> int:
    with address.connect() as conn:
        return conn.info.server_version // 10000


def seen(migration: Migration) -> dict[str, tuple[str, ...]]:
    return {finding.check: finding.evidence for finding in migration.plan.findings if finding.severity == "info"}


def test_out_of_latin1_and_a_tablespace(
    new_source: NewSource,
    carry: Callable[[DatabaseAddress], Migration],
    postgres_server: DatabaseAddress,
    newer_server: DatabaseAddress,
    fernet_key: Secret,
) -> None:
    with postgres_server.connect(read_only=False, autocommit=True) as admin:
        admin.execute("SET allow_in_place_tablespaces = on")
        admin.execute("CREATE TABLESPACE elsewhere LOCATION ''")
        admin.execute("CREATE TABLESPACE further LOCATION ''")
    source = new_source("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TABLESPACE elsewhere")
    write(postgres_server.on(source.database), "ALTER TABLE xcom SET TABLESPACE further")
    migration = carry(source)
    assert "encoding_converted" in seen(migration)
    assert set(seen(migration)["replication_and_tablespaces"]) == {"tablespace elsewhere", "tablespace further"}
    manifest = read_manifest(migration.dump_path)
    assert (manifest.encoding, manifest.database_encoding) == ("UTF8", "LATIN1")
    with migration.working.connect() as conn:
        assert database_encoding(conn) == "UTF8"
        assert conn.info.server_version // 10000 == major(newer_server)
    assert rows(migration.working) == rows(migration.frozen) == rows(source)
    assert compare(migration, fernet_key, migration.working).problems == ()


def test_out_of_a_database_that_sorts_by_icu(
    new_source: NewSource,
    carry: Callable[[DatabaseAddress], Migration],
    postgres_server: DatabaseAddress,
    fernet_key: Secret,
) -> None:
    with postgres_server.connect() as conn:
        if conn.info.server_version < LOCALE_PROVIDERS_SINCE or not read_abilities(conn).has_icu:
            pytest.skip("this server has no databases that sort by ICU")
    migration = carry(new_source("LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LC_COLLATE 'C' LC_CTYPE 'C'"))
    assert read_manifest(migration.dump_path).locale.startswith("icu de")
    with migration.working.connect() as conn:
        assert database_locale(conn).startswith("libc ")
    assert rows(migration.working) == rows(migration.frozen)
    assert compare(migration, fernet_key, migration.working).problems == ()
