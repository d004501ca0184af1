"""What was in one schema is in the other, and works as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from psycopg import sql

from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.schemas import find_collisions, move_schema, move_tables, schema_exists

NewDatabase = Callable[..., DatabaseAddress]
NewRole = Callable[..., DatabaseAddress]
Owned = Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress]

ODD = ("Ä \"x\" \\ %s 'é' " + "ü" * 40).encode()[:63].decode(errors="ignore")
EVERYTHING = """
CREATE TABLE "Odd %s" (id serial PRIMARY KEY, other int GENERATED ALWAYS AS IDENTITY, mood text DEFAULT 'glad');
INSERT INTO "Odd %s" DEFAULT VALUES;
CREATE SEQUENCE "100%";
CREATE VIEW seen AS SELECT * FROM "Odd %s";
CREATE MATERIALIZED VIEW stored AS SELECT * FROM seen;
CREATE TABLE parted (i int) PARTITION BY RANGE (i);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9);
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TYPE pair AS (a int, "B" mood[]);
CREATE DOMAIN short AS varchar(9);
CREATE FUNCTION one(mood, pair[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE act(INOUT i int) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE AGGREGATE everything(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0');
"""
CONTENTS = """
SELECT 'relation ' || relname FROM pg_class WHERE relnamespace = %(schema)s::regnamespace
UNION ALL SELECT 'type ' || typname FROM pg_type WHERE typnamespace = %(schema)s::regnamespace
UNION ALL SELECT 'routine ' || proname FROM pg_proc p WHERE pronamespace = %(schema)s::regnamespace
   AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
"""


def contents(session: Session, schema: str) -> list[str]:
    rows = session.execute(CONTENTS, {"schema": sql.Identifier(schema).as_string()}).fetchall()
    return sorted(str(name) for (name,) in rows)


@pytest.fixture
def database(new_database: NewDatabase, new_role: NewRole, owned: Owned) -> DatabaseAddress:
    """One object of each kind in public, all of a role that is no superuser; pgcrypto is there too."""
    address = new_database()
    with address.connect(read_only=False) as session:
        session.execute("CREATE EXTENSION pgcrypto")
        session.execute(EVERYTHING)
    return owned(address, new_role())


@pytest.mark.parametrize(("old", "new"), [("public", ODD), (ODD, "public"), (ODD, "airflow"), (ODD, "there already")])
def test_everything_moves_and_a_second_time_nothing(database: DatabaseAddress, old: str, new: str) -> None:
    with database.connect(read_only=False) as session:
        session.execute('CREATE SCHEMA "there already"')
        move_schema(session, "public", old)
        before = contents(session, old)
        assert len(before) > 30
        assert move_schema(session, old, new) > 0
        assert contents(session, new) == before
        assert move_schema(session, old, new) == 0
        assert schema_exists(session, old) is (old == "public")
    there = replace(database, schema=new, further_schemas=("public",))
    with there.connect(read_only=False) as session:
        session.execute('INSERT INTO "Odd %s" DEFAULT VALUES')
        found = session.execute("SELECT array_agg(id ORDER BY id), one(), length(gen_random_bytes(3)) FROM seen")
        assert found.fetchone() == ([1, 2], 1, 3)


def test_an_extension_s_schema_stays_with_what_is_the_extension_s(
    new_database: NewDatabase, new_role: NewRole, owned: Owned
) -> None:
    address = new_database()
    with address.connect(read_only=False) as session:
        session.execute("CREATE SCHEMA airflow")
        session.execute("CREATE EXTENSION pgcrypto SCHEMA airflow")
        session.execute("CREATE TABLE airflow.dag (id int)")
    address = owned(address, new_role())
    with address.connect(read_only=False) as session:
        assert move_schema(session, "airflow", "public") == 1
        assert session.execute("SELECT count(*) FROM dag").fetchone() == (0,)
        assert session.execute("SELECT length(airflow.gen_random_bytes(3))").fetchone() == (3,)


def test_some_tables_move_with_the_sequences_of_their_ids(database: DatabaseAddress) -> None:
    with database.connect(read_only=False) as session:
        session.execute("CREATE SCHEMA users")
        session.execute("CREATE TABLE ab_user (id int PRIMARY KEY)")
        session.execute("CREATE SEQUENCE ab_user_id_seq")  # as 1.10's FAB made them: nobody's
        session.execute("CREATE TABLE ab_role (id serial PRIMARY KEY)")
        assert move_tables(session, ("ab_user", "ab_role", "ab_group"), "public", "users") == 3
        moved = [name for name in contents(session, "users") if name.startswith("relation")]
        assert moved == [
            f"relation {name}"
            for name in ("ab_role", "ab_role_id_seq", "ab_role_pkey", "ab_user", "ab_user_id_seq", "ab_user_pkey")
        ]
        assert move_tables(session, ("ab_user", "ab_role"), "public", "users") == 0
        assert move_tables(session, ("ab_user", "ab_role"), "users", "users") == 0


def test_names_that_are_in_both_schemas_are_told(database: DatabaseAddress) -> None:
    with database.connect(read_only=False) as session:
        session.execute("CREATE SCHEMA other CREATE TABLE seen (i int) CREATE TABLE free (i int)")
        assert find_collisions(session, "public", "other") == ("seen",)
