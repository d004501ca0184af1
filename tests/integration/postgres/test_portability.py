"""A dump goes to a server of another major version, which lacks much of what the first one has."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.findings import Finding
from airflow_migration.planning import dump_checks, privileges
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import database_encoding
from airflow_migration.postgres.dump import dump_database, read_table_sizes
from airflow_migration.postgres.manifest import read_manifest
from airflow_migration.postgres.portability import Portability, compare, read_abilities
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.restore import RestoreResult, create_empty, restore_dump
from airflow_migration.postgres.tools import compression_methods, find_tool
from airflow_migration.secret import Secret

NewDatabase = Callable[..., DatabaseAddress]
PASSWORD = "p-of-a-loading-role"

NOTHING_NEEDS_IT = """
CREATE EXTENSION pg_stat_statements;
CREATE EXTENSION "uuid-ossp";
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION hstore;
COMMENT ON EXTENSION hstore IS 'their own words';
COMMENT ON EXTENSION "uuid-ossp" IS 'of an extension that is not there';
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere');
COMMENT ON SERVER elsewhere IS 'far away';
CREATE USER MAPPING FOR {reader} SERVER elsewhere OPTIONS (user 'u', password 'of-a-user-mapping');
CREATE FOREIGN TABLE far (id int NOT NULL DEFAULT 3, CHECK (id > 0)) SERVER elsewhere;
COMMENT ON FOREIGN TABLE far IS 'far';
COMMENT ON COLUMN far.id IS 'far id';
GRANT SELECT ON far TO {reader};
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watching ON ddl_command_start EXECUTE FUNCTION watch();
COMMENT ON EVENT TRIGGER watching IS 'watches';
CREATE TABLE notes (id serial PRIMARY KEY, note text COLLATE "C", tags hstore);
INSERT INTO notes (note, tags) SELECT 'Zürich ' || n, 'a=>b' FROM generate_series(1, 1000) n;
COMMENT ON TABLE notes IS 'kept';
CREATE PUBLICATION told FOR TABLE notes;
CREATE SUBSCRIPTION heard CONNECTION 'host=nowhere' PUBLICATION told WITH (connect = false);
ALTER TABLE notes OWNER TO {owner};
GRANT SELECT ON notes TO {reader};
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reader};
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY theirs ON notes TO {reader} USING (id < 10);
CREATE POLICY everybodys ON notes USING (id < 20);
COMMENT ON POLICY theirs ON notes IS 'of a role';
SELECT lo_from_bytea(4711, 'a large object');
CREATE SCHEMA "their own" AUTHORIZATION {owner};
CREATE MATERIALIZED VIEW "their own".many AS SELECT count(*) FROM notes;
"""


class Servers:
    """A database on the first server and a role without superuser on the second."""

    def __init__(self, source: DatabaseAddress, target: DatabaseAddress, folder: Path) -> None:
        self.source, self.target, self.folder = source, target, folder

    def write(self, statements: str) -> None:
        names = {"owner": sql.Identifier("owner of the old"), "reader": sql.Identifier("reader of the old")}
        with self.source.connect(read_only=False) as conn:
            for name in names.values():
                found = conn.execute(
                    sql.SQL("SELECT FROM pg_roles WHERE quote_ident(rolname) = {}").format(
                        sql.Literal(name.as_string())
                    )
                ).fetchone()
                if found is None:
                    conn.execute(sql.SQL("CREATE ROLE {}").format(name))
            conn.execute(sql.SQL(statements).format(**names))

    def portability(self) -> Portability:
        with self.source.connect() as there, self.target.maintenance().connect() as here:
            return compare(there, read_abilities(here))

    def findings(self) -> dict[str, Finding]:
        with self.source.connect() as there, self.target.maintenance().connect() as here:
            return {each.check: each for each in dump_checks.check_dump(there, here, self.target.user)}

    def carry(self) -> RestoreResult:
        with self.source.connect() as there, self.target.maintenance().connect() as here:
            version = max(there.info.server_version, here.info.server_version)
        pg_dump, pg_restore = find_tool("pg_dump", version), find_tool("pg_restore", version)
        dump_database(
            Client("dump", self.source.environment()),
            self.source,
            self.folder / "dump",
            pg_dump=pg_dump,
            methods=compression_methods(pg_dump, pg_restore),
            about={},
            listener=print,
        )
        manifest = read_manifest(self.folder / "dump")
        create_empty(self.target, encoding=manifest.encoding, comment="")
        return restore_dump(
            Client("restore", self.target.environment()),
            self.target,
            self.folder / "dump",
            manifest=manifest,
            portable=self.portability(),
            pg_restore=pg_restore,
            listener=print,
        )

    def ask(self, query: str) -> list[tuple[object, ...]]:
        with self.target.connect() as conn:
            return conn.execute(query).fetchall()


numbers = itertools.count(1)


@pytest.fixture
def servers(new_database: NewDatabase, newer_server: DatabaseAddress, tmp_path: Path) -> Servers:
    name = f"Loader {next(numbers)}"
    with newer_server.connect(read_only=False, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(sql.Identifier(name), PASSWORD))
    target = replace(newer_server, user=name, password=Secret(PASSWORD)).on(f"loaded {name}")
    return Servers(new_database(), target, tmp_path)


def test_what_the_other_server_cannot_have_is_left_out_and_said(servers: Servers) -> None:
    servers.write(NOTHING_NEEDS_IT)
    found = servers.findings()
    assert "not_portable" not in found
    left_out = found["left_out"].evidence
    for each in (
        "extension pg_stat_statements",
        "extension uuid-ossp",
        "extension postgres_fdw",
        "server elsewhere",
        "event trigger watching",
        "policy theirs on table notes",
    ):
        assert each in left_out
    assert not [each for each in left_out if "hstore" in each or "everybodys" in each]
    assert set(found["roles_and_grants"].evidence) >= {"owner of the old", "reader of the old"}
    assert set(found["replication_and_tablespaces"].evidence) == {"publication told", "subscription heard"}
    result = servers.carry()
    assert set(result.left_out) == set(servers.portability().left_out)
    assert servers.ask("SELECT count(*), max(tags::text), max(note) FROM notes") == [(1000, '"a"=>"b"', "Zürich 999")]
    assert servers.ask('SELECT * FROM "their own".many') == [(1000,)]
    assert servers.ask("SELECT convert_from(lo_get(4711), 'UTF8')") == [("a large object",)]
    assert servers.ask("SELECT obj_description('notes'::regclass)") == [("kept",)]
    assert servers.ask("SELECT polname::text FROM pg_policy") == [("everybodys",)]
    assert servers.ask("SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql'") == [("hstore",)]
    assert (
        servers.ask("SELECT pubname FROM pg_publication UNION SELECT relname FROM pg_class WHERE relkind = 'f'") == []
    )
    assert servers.ask("SELECT DISTINCT tableowner::text FROM pg_tables WHERE tablename = 'notes'") == [
        (servers.target.user,)
    ]


IN_THE_WAY = [
    ('CREATE EXTENSION "uuid-ossp"; CREATE TABLE t (id uuid DEFAULT uuid_generate_v4(), a int)', "default value"),
    ("CREATE EXTENSION xml2; CREATE VIEW v AS SELECT xpath_nodeset('<a/>', 'a')", "v"),
    (
        "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;"
        " CREATE FOREIGN TABLE f (a int) SERVER s; CREATE VIEW of_far AS SELECT * FROM f",
        "of_far",
    ),
    ("CREATE COLLATION odd (provider = libc, locale = 'C'); CREATE TABLE fine (a text COLLATE odd)", None),
    (
        "CREATE TABLE held (a int); ALTER TABLE held ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        " CREATE POLICY p ON held TO {reader} USING (true)",
        "policy p on table held",
    ),
]


@pytest.mark.parametrize(("statements", "named"), IN_THE_WAY)
def test_what_something_needs_is_a_blocker_with_its_name(servers: Servers, statements: str, named: str | None) -> None:
    servers.write(statements)
    blocker = servers.findings().get("not_portable")
    if named is None:
        assert blocker is None
        servers.carry()
        return
    assert blocker is not None
    assert blocker.severity == "blocker"
    assert named in " ".join(blocker.evidence)
    assert blocker.remedy
    with pytest.raises(InvalidInputError, match=named):
        servers.carry()


def test_a_collation_that_the_system_of_the_other_server_lacks_is_a_blocker(servers: Servers) -> None:
    """As if its locale had been there when the source's server was made."""
    servers.write("""
        CREATE COLLATION lacking (provider = libc, locale = 'C'); CREATE TABLE sorted (a text COLLATE lacking);
        UPDATE pg_collation SET collcollate = 'xx_XX.UTF-8' WHERE collname = 'lacking'
    """)
    blocker = servers.findings()["not_portable"]
    assert blocker.evidence == ("table sorted",)
    assert "collation lacking" in blocker.summary
    assert "pg_import_system_collations" in blocker.remedy


def test_a_collation_of_icu_goes_where_icu_is(servers: Servers) -> None:
    servers.write(
        "CREATE COLLATION german (provider = icu, locale = 'de'); CREATE TABLE sorted (a text COLLATE german)"
    )
    with servers.target.maintenance().connect() as here:
        there = read_abilities(here).has_icu
    assert ("not_portable" in servers.findings()) == (not there)
    if there:
        servers.carry()
        assert servers.ask("SELECT count(*) FROM sorted") == [(0,)]


def test_a_superuser_takes_what_the_server_has(servers: Servers, newer_server: DatabaseAddress) -> None:
    servers.write(NOTHING_NEEDS_IT.replace("CREATE SUBSCRIPTION", "-- "))
    servers.target = newer_server.on(f"loaded {next(numbers)} by a superuser")
    assert servers.portability().left_out == ("extension uuid-ossp", "policy theirs on table notes")
    servers.carry()
    assert servers.ask("SELECT evtname::text FROM pg_event_trigger UNION SELECT srvname FROM pg_foreign_server") == [
        ("elsewhere",),
        ("watching",),
    ]


@pytest.mark.parametrize(
    ("encoding", "expected", "text"),
    [
        ("LATIN1", "UTF8", b"Z\xfcrich"),
        ("WIN1252", "UTF8", b"\x80 and \xfc"),
        ("SQL_ASCII", "SQL_ASCII", b"\xff\xfe raw"),
    ],
)
def test_text_of_another_encoding_becomes_utf8_or_stays_as_it_is(
    servers: Servers, postgres_server: DatabaseAddress, encoding: str, expected: str, text: bytes
) -> None:
    servers.source = postgres_server.on(f"in {encoding} {next(numbers)}")
    with postgres_server.connect(read_only=False, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(
                sql.Identifier(servers.source.database), encoding
            )
        )
    with servers.source.connect(read_only=False) as conn:
        conn.execute(sql.SQL("CREATE TABLE t AS SELECT convert_from({}, {}) v").format(text, encoding))
    converted = servers.findings().get("encoding_converted")
    assert (converted.severity if converted else None) == {"LATIN1": "info", "WIN1252": "warning"}.get(encoding)
    servers.carry()
    with servers.target.connect() as conn:
        assert database_encoding(conn) == expected
        row = conn.execute(sql.SQL("SELECT convert_to(v, {}) FROM t").format(encoding)).fetchone()
    assert row is not None
    assert row[0] == text


def test_rows_that_row_security_hides_stop_preflight_as_they_would_stop_the_dump(
    servers: Servers, new_role: Callable[..., DatabaseAddress]
) -> None:
    servers.write(
        "CREATE TABLE hidden (a int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE TABLE seen (a int)"
    )
    role = new_role().on(servers.source.database)
    with servers.source.connect(read_only=False) as conn:
        conn.execute(sql.SQL("GRANT SELECT ON hidden, seen TO {}").format(sql.Identifier(role.user)))
    with role.connect() as conn:
        (finding,) = privileges.find_hidden_rows(conn, role.user)
    assert finding.severity == "blocker"
    assert finding.evidence == ("hidden",)
    with servers.source.connect() as conn:
        assert not list(privileges.find_hidden_rows(conn, servers.source.user))


def test_room_for_the_dump_is_looked_at_where_it_will_be(servers: Servers, tmp_path: Path) -> None:
    servers.write("CREATE TABLE t AS SELECT n FROM generate_series(1, 10) n")
    with servers.source.connect() as there:
        assert not list(dump_checks.check_room(there, tmp_path / "not" / "there yet"))
        (blocker,) = dump_checks.judge_room(there, tmp_path, free=0)
        assert blocker.severity == "blocker"
        assert str(tmp_path) in blocker.summary
        (warning,) = dump_checks.judge_room(there, tmp_path, free=sum(read_table_sizes(there).values()))
        assert warning.severity == "warning"
        assert not list(dump_checks.judge_room(there, tmp_path, free=0, tables=("no such table",)))
        (blocker,) = dump_checks.judge_room(there, tmp_path, free=0, tables=("t",))
        assert blocker.severity == "blocker"
