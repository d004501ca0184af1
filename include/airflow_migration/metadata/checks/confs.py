"""The conf of dag runs, a pickle before 3.0 and JSON from there on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from psycopg import sql

from airflow_migration.metadata.checks.check import Check, Examination
from airflow_migration.metadata.findings import EXAMPLES, Finding, Severity
from airflow_migration.metadata.repairs import confs
from airflow_migration.metadata.repairs.confs import Outcome
from airflow_migration.postgres.address import Session

SECONDS = 15.0
LISTED = 100
"""Most runs that the query names."""
REASONS = 10
"""Most reasons that are said."""


@dataclass(slots=True)
class _Tally:
    runs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[int] = field(default_factory=list)


def _ask(look: Examination) -> Iterator[Finding]:
    if not confs.applies(look.tables, look.crossing):
        return
    tallies, finished = _judge_all(look.conn)
    seen = "" if finished else f" among those looked at in {SECONDS:.0f} s; there may be more"
    kept = "the originals are kept in table airflow_migration.changed_dag_run"
    yield _found(
        look.conn, confs.REPAIR, "warning", [tallies["carried"], tallies["changed"]],
        "{count} dag run(s) have a conf that Airflow's migration would stop at, lose or change, or run code of" + seen,
        f"Their conf is written anew as plain JSON; {kept}",
    )  # fmt: skip
    if tallies["changed"].runs:
        yield _found(
            look.conn, "conf_changed", "info", [tallies["changed"]],
            "{count} of these dag run(s) have a conf of which JSON cannot hold all" + seen,
            f"It is replaced by what comes nearest; {kept}",
        )  # fmt: skip
    yield _found(
        look.conn, "conf_lost", "warning", [tallies["lost"]],
        "{count} dag run(s) have a conf that cannot be carried" + seen,
        f"Their conf becomes NULL; {kept}. Note what these runs were started with before you clear them at the target",
    )  # fmt: skip


def _judge_all(conn: Session) -> tuple[dict[Outcome, _Tally], bool]:
    """Judge every different conf, a batch in memory at a time.

    :returns: the tallies, and whether there was time for all
    """
    tallies: dict[Outcome, _Tally] = {"kept": _Tally(), "carried": _Tally(), "changed": _Tally(), "lost": _Tally()}
    stop = time.monotonic() + SECONDS
    for conf, count, first in confs.read_confs(conn):
        found = confs.carry(conf)
        tally = tallies[found.outcome]
        tally.runs += count
        tally.reasons.update(dict.fromkeys(found.reasons, count))
        if found.outcome != "kept" and len(tally.examples) < LISTED:
            tally.examples.append(first)
        if time.monotonic() > stop:
            return tallies, False
    return tallies, True


def _found(conn: Session, check: str, severity: Severity, tallies: list[_Tally], summary: str, remedy: str) -> Finding:
    count = sum(tally.runs for tally in tallies)
    if not count:
        return Finding(check=check, severity="ok", summary=summary.format(count="No"))
    ids = [row for tally in tallies for row in tally.examples]
    same = sql.SQL("FROM dag_run WHERE conf IN (SELECT conf FROM dag_run WHERE id IN ({})) ORDER BY id").format(
        sql.SQL(", ").join(map(sql.Literal, ids))
    )
    keys = conn.execute(
        sql.SQL("SELECT concat_ws(' ', dag_id, run_id) {} LIMIT {}").format(same, sql.Literal(EXAMPLES))
    )
    return Finding(
        check=check,
        severity=severity,
        summary=summary.format(count=count) + say_reasons(sum((tally.reasons for tally in tallies), Counter())),
        count=count,
        evidence=tuple(str(key) for (key,) in keys),
        remedy=remedy,
        repair=confs.REPAIR,
        sql=f"SELECT id, dag_id, run_id {same.as_string(conn)};",
    )


def say_reasons(reasons: Counter[str]) -> str:
    """The most frequent, in parentheses."""
    words = [f"{count} {why}" for why, count in reasons.most_common(REASONS)]
    others = sum(reasons.values()) - sum(count for _, count in reasons.most_common(REASONS))
    words += [f"{others} for other reasons"] if others else []
    return f" ({', '.join(words)})" if words else ""


CONF_CHECKS = (Check(ids=(confs.REPAIR, "conf_changed", "conf_lost"), revisions=(confs.JSON_CONF,), ask=_ask),)
