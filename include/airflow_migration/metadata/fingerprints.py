"""Hash the rows of a table so that it comes out the same on two servers, whatever release wrote the table.

A row is hashed as Postgres writes it as text; the settings that this text depends on are the same in both sessions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from airflow_migration.postgres.address import Session

Part = sql.Composable

_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "3",
}
_PROBE = "SELECT hashtextextended('airflow' COLLATE \"C\", 0)"
EXTENDED_HASHES = 110000
"""hashtextextended is there from PostgreSQL 11 on."""

READ_JSON = "pg_temp.airflow_migration_json"
# What eed27faa34e3 (3.0.0 to 3.3.2) makes of a value; what it could not cast is hashed as it is.
_READ_JSON = r"""
CREATE OR REPLACE FUNCTION pg_temp.airflow_migration_json(body bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $function$
DECLARE
    words text;
BEGIN
    words := convert_from(body, 'UTF8');
    words := replace(replace(replace(words, '\\', chr(1)), '\u0000', ''), chr(1), '\\');
    BEGIN
        RETURN words::jsonb;
    EXCEPTION WHEN others THEN
        RETURN regexp_replace(words, '([:,\[]\s*|^)(NaN|-?Infinity)(?=\s*[,}\]]|$)', '\1null', 'g')::jsonb;
    END;
EXCEPTION WHEN others THEN
    RETURN body::text;
END
$function$
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How to hash, so that two servers come to the same sums.

    :param extended: both have hashtextextended, and it gives the same; md5 otherwise
    :param recode: the databases' encodings differ, so bytes of UTF-8 are hashed
    :param lenient: XComs are read by a function of ours, as one of them is no JSON
    """

    extended: bool
    recode: bool
    lenient: bool = False


def agree(one: Session, other: Session) -> Dialect:
    """The dialect in which both databases can be hashed; settles both sessions for it."""
    sessions = (one, other)
    for session in sessions:
        settings = sql.SQL(", ").join(
            sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in _SETTINGS.items()
        )
        session.execute(sql.SQL("SELECT {}").format(settings))
        session.commit()  # they would go with a transaction that is rolled back
    extended = min(session.info.server_version for session in sessions) >= EXTENDED_HASHES
    probes = {session.execute(_PROBE).fetchone() for session in sessions} if extended else set()
    encodings = {session.info.parameter_status("server_encoding") for session in sessions}
    return Dialect(extended=len(probes) == 1, recode=len(encodings) > 1)


def read_xcoms_leniently(dialect: Dialect, *sessions: Session) -> Dialect:
    """The same for databases with XComs that are no JSON; makes a temporary function in each session.

    What is pending on the sessions is rolled back.
    """
    for session in sessions:
        session.rollback()
        with session.transaction():
            session.execute("SET TRANSACTION READ WRITE")
            session.execute(sql.SQL(_READ_JSON))
    return replace(dialect, lenient=True)


def row_text(parts: list[Part], dialect: Dialect) -> Part:
    """One text of all parts, in which NULL is no empty text."""
    text: Part = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(parts))
    return sql.SQL("encode(convert_to({}, 'UTF8'), 'escape')").format(text) if dialect.recode else text


def hash_of(text: Part, dialect: Dialect) -> Part:
    """64 bits of a text."""
    if dialect.extended:
        return sql.SQL('hashtextextended({} COLLATE "C", 0)').format(text)
    return sql.SQL("('x' || left(md5({}), 16))::bit(64)::bigint").format(text)
