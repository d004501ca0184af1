"""XComs that eed27faa34e3 (3.0.0) cannot turn from bytes into JSON, and the pickles that it archives.

Measured, value by value: empty bytes, bytes that are not UTF-8, text that is not JSON and pickles of
protocol 0 (no leading 0x80) abort the upgrade to every 3.x; NaN and Infinity to 3.0 (3.1.8 writes null);
the escape for NUL to 3.0 and 3.1 (3.3 strips it).
"""

from __future__ import annotations

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.ledger import Entry
from airflow_migration.metadata.repairs.moving import move_rows
from airflow_migration.postgres.address import Session

REPAIR = "xcom_not_json"
CAST = "eed27faa34e3"
# The releases at which these revisions are the sanitizing was measured; what brought it left no revision.
NULLS_NAN = "509b94a1042d"  # 3.1.8
STRIPS_NUL = "d2f4e1b3c5a7"  # 3.3.2

SUSPECT = r"t.value IS NOT NULL AND substring(t.value FROM 1 FOR 1) <> '\x80'"
"""Of xcom t: what is cast. get_byte, as the migration has it, aborts on an empty value."""

# What the migration does to one value, step by step; `body` in; `problem` out, NULL when it passes, and
# `altered` when it passes only because the migration rewrites it.
_CLASSIFY = r"""
    problem := NULL;
    altered := false;
    IF octet_length(body) = 0 THEN
        problem := 'empty value';
    ELSE
        BEGIN
            words := convert_from(body, 'UTF8');
            IF {strips_nul} AND position('\u0000' IN words) > 0 THEN
                stripped := replace(replace(replace(words, '\\', chr(1)), '\u0000', ''), chr(1), '\\');
                altered := stripped <> words;
                words := stripped;
            END IF;
            PERFORM words::jsonb;
        EXCEPTION
            WHEN character_not_in_repertoire THEN problem := 'not UTF-8';
            WHEN untranslatable_character THEN problem := 'holds the NUL character, which jsonb cannot';
            WHEN program_limit_exceeded THEN problem := 'larger than jsonb allows';
            WHEN others THEN problem := 'not JSON';
        END;
        IF problem = 'not JSON' AND words ~ '(NaN|Infinity)' THEN
            BEGIN
                PERFORM regexp_replace(words,
                    '([:,\[]\s*|^)(NaN|-?Infinity)(?=\s*[,}\]]|$)', '\1null', 'g')::jsonb;
                problem := CASE WHEN NOT {nulls_nan} THEN 'NaN or Infinity, which JSON does not know' END;
                altered := true;
            EXCEPTION WHEN others THEN NULL;
            END;
        END IF;
    END IF;
"""

_FUNCTION = r"""
CREATE OR REPLACE FUNCTION pg_temp.airflow_migration_xcom_problem(body bytea) RETURNS text
LANGUAGE plpgsql AS $function$
DECLARE
    words text; stripped text; problem text; altered boolean;
BEGIN
    {classify}
    RETURN problem;
END
$function$
"""


def applies(tables: Tables, crossing: Crossing) -> bool:
    """Whether this hop casts the column, and there is something to cast."""
    value = tables.get("xcom", {}).get("value")
    return crossing.crosses(CAST) and value is not None and value.type == "bytea"


def move_uncastable(conn: Session, entry: Entry, crossing: Crossing) -> int:
    """Move the values at which the upgrade would abort; pickles are left to Airflow's own archive."""
    conn.execute(sql.SQL(problem_function(crossing)))
    problem = "pg_temp.airflow_migration_xcom_problem(t.value)"
    # The CASE keeps the planner from classifying pickles first.
    condition = f"CASE WHEN {SUSPECT} THEN {problem} IS NOT NULL ELSE false END"
    return move_rows(conn, entry, table="xcom", condition=condition, reason=problem)


def problem_function(crossing: Crossing) -> str:
    """CREATE FUNCTION of ``pg_temp.airflow_migration_xcom_problem(bytea)``: what is wrong with a value, or NULL."""
    return _FUNCTION.format(classify=classify(crossing))


def classify(crossing: Crossing) -> str:
    """Statements of plpgsql over `body` that set `problem` and `altered`; need `words` and `stripped` as well."""
    return _CLASSIFY.replace("{strips_nul}", str(crossing.reaches(STRIPS_NUL)).lower()).replace(
        "{nulls_nan}", str(crossing.reaches(NULLS_NAN)).lower()
    )
