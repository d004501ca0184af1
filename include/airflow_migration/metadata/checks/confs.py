"""The conf of dag runs, a pickle before 3.0 and JSON from there on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from psycopg import sql

from airflow_migration.metadata.checks.check import Check, Examination
from airflow_migration.metadata.conf_scan import EMPTY, Outcome, judge
from airflow_migration.metadata.findings import EXAMPLES, Finding, Severity
from airflow_migration.metadata.repairs.xcoms import STRIPS_NUL
from airflow_migration.postgres.address import Session

JSON_CONF = "e39a26ac59f6"
SECONDS = 15.0
BATCH = 200
LISTED = 100
"""Most runs that the query names."""

_EMPTY = ", ".join(f"'\\x{data.hex()}'::bytea" for data in EMPTY)
# The same conf is often that of thousands of runs.
_CONFS = (
    "SELECT conf, count(*), min(id) FROM dag_run"  # noqa: S608
    f" WHERE conf IS NOT NULL AND conf NOT IN ({_EMPTY}) GROUP BY conf"
)


@dataclass(slots=True)
class _Tally:
    runs: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[int] = field(default_factory=list)


def _ask(look: Examination) -> Iterator[Finding]:
    column = look.tables.get("dag_run", {}).get("conf")
    if column is None or column.type != "bytea":
        return
    tallies, finished = _judge_all(look.conn)
    seen = "" if finished else f" among those looked at in {SECONDS:.0f} s; there may be more"
    stops = [tallies["stops"]] if look.crossing.reaches(STRIPS_NUL) else [tallies["stops"], tallies["rewritten"]]
    yield _found(
        look.conn, "conf_lost", "warning", [tallies["lost"]],
        "{count} dag run(s) have a conf that JSON cannot hold; Airflow's migration makes it NULL" + seen,
        "The frozen clone keeps it; note what these runs were started with before you clear them at the target",
    )  # fmt: skip
    yield _found(
        look.conn, "conf_stops", "blocker", stops,
        "{count} dag run(s) have a conf at which the upgrade stops" + seen,
        "Set their conf to NULL in the source, or go to 3.3 or later, which takes NaN and the NUL character",
    )  # fmt: skip
    if look.crossing.reaches(STRIPS_NUL) and tallies["rewritten"].runs:
        yield _found(
            look.conn, "conf_rewritten", "info", [tallies["rewritten"]],
            "{count} dag run(s) have a conf that is changed: NaN and Infinity become text, NUL characters go" + seen,
            "Airflow's own migration does that; the frozen clone keeps the values",
        )  # fmt: skip


def _judge_all(conn: Session) -> tuple[dict[Outcome, _Tally], bool]:
    """Judge every different conf, a batch in memory at a time.

    :returns: the tallies, and whether there was time for all
    """
    tallies: dict[Outcome, _Tally] = {"kept": _Tally(), "rewritten": _Tally(), "stops": _Tally(), "lost": _Tally()}
    stop = time.monotonic() + SECONDS
    with conn.cursor(name="airflow_migration_confs") as cursor:
        cursor.itersize = BATCH
        for conf, count, first in cursor.execute(_CONFS):
            assert isinstance(conf, bytes)
            outcome, reason = judge(conf)
            tally = tallies[outcome]
            tally.runs += int(str(count))
            tally.reasons[reason] = tally.reasons.get(reason, 0) + int(str(count))
            if outcome != "kept" and len(tally.examples) < LISTED:
                tally.examples.append(int(str(first)))
            if time.monotonic() > stop:
                return tallies, False
    return tallies, True


def _found(conn: Session, check: str, severity: Severity, tallies: list[_Tally], summary: str, remedy: str) -> Finding:
    count = sum(tally.runs for tally in tallies)
    if not count:
        return Finding(check=check, severity="ok", summary=summary.format(count="No"))
    ids = [row for tally in tallies for row in tally.examples]
    reasons = ", ".join(f"{number} {why}" for tally in tallies for why, number in tally.reasons.items())
    same = sql.SQL("FROM dag_run WHERE conf IN (SELECT conf FROM dag_run WHERE id IN ({})) ORDER BY id").format(
        sql.SQL(", ").join(map(sql.Literal, ids))
    )
    keys = conn.execute(
        sql.SQL("SELECT concat_ws(' ', dag_id, run_id) {} LIMIT {}").format(same, sql.Literal(EXAMPLES))
    )
    return Finding(
        check=check,
        severity=severity,
        summary=f"{summary.format(count=count)} ({reasons})",
        count=count,
        evidence=tuple(str(key) for (key,) in keys),
        remedy=remedy,
        sql=f"SELECT id, dag_id, run_id {same.as_string(conn)};",
    )


CONF_CHECKS = (Check(ids=("conf_lost", "conf_stops", "conf_rewritten"), revisions=(JSON_CONF,), ask=_ask),)
