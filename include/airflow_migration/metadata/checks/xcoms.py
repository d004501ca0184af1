"""XComs before the cast from bytes to JSON: tried on every value, changing nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.checks.check import Check, Examination
from airflow_migration.metadata.checks.pickled_xcoms import PICKLE_CHECKS, say_pickles, survey_pickles
from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.metadata.repairs import xcoms
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.postgres.address import Session

SECONDS = 40.0
"""When to stop looking, at pickles and casts together.

Values that pass are cast many at a time; each that does not costs a block of its own.
"""
PAGES = 128
"""Pages of the table that are cast in one statement; where one value of them fails, all of them are cast singly."""
RANGES_SINCE = 140000
"""From PostgreSQL 14 on a range of pages is read without the rest of the table."""

# A DO block may run where nothing may be written; it answers through a setting of the session.
_PROBE = r"""
DO $probe$
DECLARE
    body bytea; words text; stripped text; problem text; altered boolean; named text;
    passed bigint;
    probed bigint := 0; rewritten bigint := 0; finished boolean := true;
    counts jsonb := '{{}}'; examples jsonb := '[]';
    stop timestamptz := clock_timestamp() + {seconds} * interval '1 second';
    page bigint := 0; last bigint := pg_relation_size('xcom') / current_setting('block_size')::int;
BEGIN
    WHILE page <= last LOOP
        BEGIN
            SELECT count(CASE WHEN {suspect} THEN convert_from(t.value, 'UTF8')::jsonb END)
              INTO passed FROM xcom t
             WHERE t.ctid >= format('(%s,0)', page)::tid AND t.ctid < format('(%s,0)', page + {pages})::tid;
            probed := probed + passed;
        EXCEPTION WHEN others THEN
            FOR body, named IN SELECT t.value, {key} FROM xcom t WHERE t.value IS NOT NULL
                AND t.ctid >= format('(%s,0)', page)::tid AND t.ctid < format('(%s,0)', page + {pages})::tid LOOP
                CONTINUE WHEN substring(body FROM 1 FOR 1) = '\x80';
                {classify}
                probed := probed + 1;
                IF problem IS NOT NULL THEN
                    counts := counts || jsonb_build_object(problem, coalesce((counts ->> problem)::bigint, 0) + 1);
                    IF jsonb_array_length(examples) < {examples} THEN
                        examples := examples || to_jsonb(named || ': ' || problem);
                    END IF;
                ELSIF altered THEN
                    rewritten := rewritten + 1;
                END IF;
            END LOOP;
        END;
        page := page + {pages};
        IF page <= last AND clock_timestamp() > stop THEN
            finished := false;
            EXIT;
        END IF;
    END LOOP;
    PERFORM set_config('airflow_migration.xcoms', jsonb_build_object(
        'probed', probed, 'finished', finished, 'counts', counts, 'examples', examples,
        'rewritten', rewritten)::text, true);
END
$probe$
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class XComProbe:
    """What the cast would meet.

    :param probed: values looked at that are no pickles; all of them when `finished`
    :param rewritten: values that pass, but without the NUL characters, NaN or Infinity that they hold
    :param problems: pairs of what is wrong and how often
    :param examples: keys of some, each with what is wrong
    """

    probed: int
    finished: bool
    rewritten: int
    problems: tuple[tuple[str, int], ...]
    examples: tuple[str, ...]


def probe(conn: Session, crossing: Crossing, *, key: str, seconds: float = SECONDS) -> XComProbe:
    """Try the cast on every value, changing nothing; runs in a read-only transaction too.

    :param key: SQL text expression over xcom `t` that names a row
    :param seconds: when to stop looking
    """
    pages = PAGES if conn.info.server_version >= RANGES_SINCE else 2**31
    text = _PROBE.format(
        classify=xcoms.classify(crossing),
        seconds=float(seconds),
        suspect=xcoms.SUSPECT,
        key=key,
        pages=pages,
        examples=EXAMPLES,
    )
    conn.execute(sql.SQL(text))
    answer = conn.execute("SELECT current_setting('airflow_migration.xcoms')").fetchone()
    assert answer is not None
    found = json.loads(str(answer[0]))
    return XComProbe(
        probed=found["probed"],
        finished=found["finished"],
        rewritten=found["rewritten"],
        problems=tuple(sorted(found["counts"].items())),
        examples=tuple(found["examples"]),
    )


def _ask(look: Examination) -> Iterator[Finding]:
    if not xcoms.applies(look.tables, look.crossing):
        return
    key = xcoms.row_key(look.tables)
    started = time.monotonic()
    pickles = survey_pickles(look.conn, look.crossing, key=key)
    yield from say_pickles(pickles, key)
    found = probe(look.conn, look.crossing, key=key, seconds=SECONDS - (time.monotonic() - started))
    problems = Counter(dict(found.problems))
    problems[xcoms.OLD_PICKLE] -= pickles.old  # which the repair of pickles decodes before
    problems = +problems
    count = problems.total()
    kinds = ", ".join(f"{number} {problem}" for problem, number in sorted(problems.items()))
    seen = "" if found.finished else f" among the first {found.probed} looked at; there may be more"
    yield Finding(
        check=xcoms.REPAIR,
        severity="warning" if count else "ok" if found.finished else "info",
        summary=f"{count or 'No'} XCom(s) cannot become JSON{f' ({kinds})' if kinds else ''}{seen}",
        count=count,
        evidence=found.examples if count else (),
        remedy="NaN becomes null and NUL characters go, as 3.3 has it; what has no such form is moved to schema"
        " airflow_migration, with the originals of the others"
        if count
        else "",
        repair=xcoms.REPAIR if count or not found.finished else None,
        sql=_query(look.crossing, key),
    )
    if found.rewritten:
        yield Finding(
            check="xcom_rewritten",
            severity="info",
            count=found.rewritten,
            summary=f"{found.rewritten} XCom(s) lose what JSON cannot hold: NaN and Infinity become null, "
            "NUL characters go",
            remedy="Airflow's own migration does that; the frozen clone keeps the values",
            sql=f"SELECT {key} FROM xcom t WHERE {xcoms.SUSPECT}"  # noqa: S608
            r" AND encode(t.value, 'escape') ~ '(\\u0000|NaN|Infinity)';",
        )


def _query(crossing: Crossing, key: str) -> str:
    call = f"CASE WHEN {xcoms.SUSPECT} THEN pg_temp.airflow_migration_xcom_problem(t.value) END"
    return (
        f"{xcoms.problem_function(crossing).strip()};\n"  # noqa: S608
        f"SELECT * FROM (SELECT {key} AS key, {call} AS problem FROM xcom t) p WHERE problem IS NOT NULL;"
    )


XCOM_CHECKS = (Check(ids=(xcoms.REPAIR, "xcom_rewritten", *PICKLE_CHECKS), revisions=(xcoms.CAST,), ask=_ask),)
