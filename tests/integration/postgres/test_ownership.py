"""After the hand-over nothing of a database belongs to anybody else, and nothing outside has changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from psycopg import sql

from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.ownership import hand_over

NewDatabase = Callable[..., DatabaseAddress]
NewRole = Callable[..., DatabaseAddress]
Corpus = Callable[[str], DatabaseAddress]

EVERYTHING = """
CREATE SCHEMA "Odd schema";
CREATE TABLE "Odd schema"."Odd table" (id serial PRIMARY KEY, other int GENERATED ALWAYS AS IDENTITY);
CREATE SEQUENCE alone;
CREATE SEQUENCE "Odd schema"."100% odd";
CREATE VIEW seen AS SELECT * FROM "Odd schema"."Odd table";
CREATE MATERIALIZED VIEW stored AS SELECT * FROM seen;
CREATE TABLE parted (i int) PARTITION BY RANGE (i);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9);
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TYPE pair AS (a int, "B" text);
CREATE DOMAIN short AS varchar(9);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE FUNCTION "Odd schema".one(mood, pair[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE act(INOUT i int) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE AGGREGATE everything(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE ordered(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal,
    FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE EXTENSION pgcrypto;
"""

# Everything in pg_shdepend, which DROP OWNED and REASSIGN OWNED go by, but extensions and what they brought.
OWNED_BY = """
SELECT pg_describe_object(classid, objid, objsubid) FROM pg_shdepend s
 WHERE deptype = 'o' AND classid <> 'pg_extension'::regclass
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' AND e.classid = s.classid AND e.objid = s.objid)
   AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
   AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def owned_by(address: DatabaseAddress, role: str) -> set[str]:
    with address.connect() as session:
        return {str(name) for (name,) in session.execute(OWNED_BY, (role,)).fetchall()}


def owners_of_databases(address: DatabaseAddress) -> dict[str, str]:
    with address.connect() as session:
        rows = session.execute("SELECT datname::text, pg_get_userbyid(datdba)::text FROM pg_database").fetchall()
        return {str(name): str(owner) for name, owner in rows}


@pytest.fixture
def filled(new_database: NewDatabase, new_role: NewRole) -> tuple[DatabaseAddress, str]:
    """A database with one object of each kind, all of a first owner, who has other databases as well."""
    address, first = new_database(), new_role("SUPERUSER")
    with first.on(address.database).connect(read_only=False) as session:
        session.execute(EVERYTHING)
    elsewhere = new_database()
    with address.connect(read_only=False, autocommit=True) as session:
        for name in (address.database, elsewhere.database):
            session.execute(
                sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(first.user))
            )
    return address, first.user


def test_every_object_changes_hands(filled: tuple[DatabaseAddress, str], new_role: NewRole) -> None:
    address, first = filled
    second = new_role()
    before = owned_by(address, first)
    assert len(before) > 18
    with address.connect(read_only=False) as session:
        hand_over(session, second.user)
    # Up to PostgreSQL 16 a multirange type does not follow its range, newer ones refuse to alter it alone.
    assert owned_by(address, first) <= {"type span_multirange"}
    assert owned_by(address, second.user) >= before - {"type span_multirange"}


def test_what_is_postgres_own_stays(filled: tuple[DatabaseAddress, str], new_role: NewRole) -> None:
    address, _ = filled
    role = new_role().user
    with address.connect(read_only=False) as session:
        hand_over(session, role)
        rows = session.execute("SELECT nspname FROM pg_namespace WHERE pg_get_userbyid(nspowner) = %s", (role,))
        owned = {str(name) for (name,) in rows.fetchall()}
    assert owned == {"Odd schema"}


def test_a_second_hand_over_has_nothing_to_do(filled: tuple[DatabaseAddress, str], new_role: NewRole) -> None:
    address, _ = filled
    role = new_role().user
    with address.connect(read_only=False) as session:
        assert hand_over(session, role) > 0
        assert hand_over(session, role) == 0


def test_no_database_gets_another_owner(filled: tuple[DatabaseAddress, str], new_role: NewRole) -> None:
    address, first = filled
    before = owners_of_databases(address)
    assert list(before.values()).count(first) == 2
    with address.connect(read_only=False) as session:
        hand_over(session, new_role().user)
    assert owners_of_databases(address) == before


@pytest.mark.parametrize("release", ["1.10.15", "2.10.5"])
def test_the_new_owner_may_do_what_an_upgrade_does(corpus: Corpus, new_role: NewRole, release: str) -> None:
    address, role = corpus(release), new_role()
    with address.connect(read_only=False) as session:
        hand_over(session, role.user)
    with role.on(address.database).connect(read_only=False) as session:
        session.execute("ALTER TABLE dag_run ADD COLUMN note text")
        session.execute("CREATE TABLE brand_new (id serial PRIMARY KEY)")
        session.execute("UPDATE alembic_version SET version_num = 'x'")
        session.execute("DROP TABLE task_reschedule CASCADE")
        session.execute("SELECT nextval('connection_id_seq')")


def test_a_member_of_the_new_role_who_is_no_superuser_may_hand_over(
    corpus: Corpus, new_role: NewRole, owned: Callable[..., DatabaseAddress], postgres_server: DatabaseAddress
) -> None:
    ours, theirs = new_role(), new_role()
    with postgres_server.connect(read_only=False, autocommit=True) as admin:
        admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(theirs.user), sql.Identifier(ours.user)))
    address = owned(corpus("2.10.5"), ours)
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute(
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
                sql.Identifier(address.database), sql.Identifier(theirs.user)
            )
        )
    with address.connect(read_only=False) as session:
        assert hand_over(session, theirs.user) > 20
    assert owned_by(postgres_server.on(address.database), ours.user) == set()
