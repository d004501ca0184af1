"""XComs that eed27faa34e3 (3.0.0) cannot turn from bytes into JSON, and the pickles that it archives.

Measured, value by value: empty bytes, bytes that are not UTF-8, text that is not JSON and pickles of
protocol 0 (no leading 0x80) abort the upgrade to every 3.x; NaN and Infinity to 3.0 (3.1.8 writes null);
the escape for NUL to 3.0 and 3.1 (3.3 strips it).
"""

from __future__ import annotations

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.changing import keep_originals
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.ledger import Entry
from airflow_migration.metadata.repairs.moving import move_rows
from airflow_migration.postgres.address import Session

REPAIR = "xcom_not_json"
CAST = "eed27faa34e3"
# The releases at which these revisions are the sanitizing was measured; what brought it left no revision.
NULLS_NAN = "509b94a1042d"  # 3.1.8
STRIPS_NUL = "d2f4e1b3c5a7"  # 3.3.2

OLD_PICKLE = "not JSON, perhaps a pickle of protocol 0 or 1"

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
        IF problem IN ('not JSON', 'not UTF-8') AND substring(body FROM octet_length(body)) = '\x2e' THEN
            problem := '{old_pickle}';
        END IF;
    END IF;
"""

# What 3.3 does to such a value, for releases that do not; NULL where that does not help either.
_MENDED = r"""
CREATE OR REPLACE FUNCTION pg_temp.airflow_migration_xcom_mended(body bytea) RETURNS bytea
LANGUAGE plpgsql AS $function$
DECLARE
    words text;
BEGIN
    words := replace(replace(replace(convert_from(body, 'UTF8'), '\\', chr(1)), '\u0000', ''), chr(1), '\\');
    BEGIN
        PERFORM words::jsonb;
    EXCEPTION WHEN others THEN
        words := regexp_replace(words, '([:,\[]\s*|^)(NaN|-?Infinity)(?=\s*[,}\]]|$)', '\1null', 'g');
        PERFORM words::jsonb;
    END;
    RETURN convert_to(words, 'UTF8');
EXCEPTION WHEN others THEN
    RETURN NULL;
END
$function$
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


# The CASE keeps the planner from classifying pickles first.
_BAD = f"""
CREATE TEMP TABLE airflow_migration_bad_xcoms ON COMMIT DROP AS
SELECT p.place, p.problem, pg_temp.airflow_migration_xcom_mended(p.value) AS mended
  FROM (SELECT t.ctid AS place, t.value,
               CASE WHEN {SUSPECT} THEN pg_temp.airflow_migration_xcom_problem(t.value) END AS problem
          FROM xcom t OFFSET 0) p
 WHERE p.problem IS NOT NULL;
CREATE INDEX ON airflow_migration_bad_xcoms (place)
"""  # noqa: S608


def applies(tables: Tables, crossing: Crossing) -> bool:
    """Whether this hop casts the column, and there is something to cast."""
    value = tables.get("xcom", {}).get("value")
    return crossing.crosses(CAST) and value is not None and value.type == "bytea"


def mend_uncastable(conn: Session, entry: Entry, crossing: Crossing) -> tuple[int, tuple[str, ...]]:
    """Give values at which the upgrade would abort the form of 3.3, and move those away that have none.

    Pickles are left to Airflow's own archive. The caller commits.

    :returns: rows mended or moved, and a sentence for each reason of the former
    """
    conn.execute(sql.SQL(problem_function(crossing)))
    conn.execute(sql.SQL(_MENDED))
    conn.execute(sql.SQL(_BAD))
    conn.execute(sql.SQL("ANALYZE airflow_migration_bad_xcoms"))
    counts = {}
    for (problem,) in conn.execute(
        "SELECT DISTINCT problem FROM airflow_migration_bad_xcoms WHERE mended IS NOT NULL ORDER BY 1"
    ).fetchall():
        same = sql.SQL(
            "t.ctid IN (SELECT place FROM airflow_migration_bad_xcoms WHERE mended IS NOT NULL AND problem = {})"
        ).format(sql.Literal(str(problem)))
        reason = f"{problem}; mended as 3.3 does"
        counts[reason] = keep_originals(conn, entry, table="xcom", columns=("value",), condition=same, reason=reason)
    conn.execute(
        "UPDATE xcom t SET value = b.mended FROM airflow_migration_bad_xcoms b"
        " WHERE t.ctid = b.place AND b.mended IS NOT NULL"
    )
    moved = move_rows(
        conn,
        entry,
        table="xcom",
        condition="t.ctid IN (SELECT place FROM airflow_migration_bad_xcoms WHERE mended IS NULL)",
        reason="(SELECT b.problem FROM airflow_migration_bad_xcoms b WHERE b.place = t.ctid)",
    )
    conn.execute("DROP TABLE airflow_migration_bad_xcoms")
    details = tuple(f"{count} XCom(s), originals kept: {reason}" for reason, count in counts.items())
    return moved + sum(counts.values()), details


def row_key(tables: Tables) -> str:
    """SQL text expression over xcom `t` that names a row to a person."""
    run = "t.run_id" if "run_id" in tables["xcom"] else "t.execution_date AT TIME ZONE 'UTC'"
    return f"concat_ws(' ', t.dag_id, t.task_id, {run}, t.key)"


def problem_function(crossing: Crossing) -> str:
    """CREATE FUNCTION of ``pg_temp.airflow_migration_xcom_problem(bytea)``: what is wrong with a value, or NULL."""
    return _FUNCTION.format(classify=classify(crossing))


def classify(crossing: Crossing) -> str:
    """Statements of plpgsql over `body` that set `problem` and `altered`; need `words` and `stripped` as well."""
    names = {
        "{strips_nul}": str(crossing.reaches(STRIPS_NUL)).lower(),
        "{nulls_nan}": str(crossing.reaches(NULLS_NAN)).lower(),
        "{old_pickle}": OLD_PICKLE,
    }
    text = _CLASSIFY
    for name, value in names.items():
        text = text.replace(name, value)
    return text
