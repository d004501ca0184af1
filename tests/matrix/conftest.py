"""The pairs, the table that they make, and the fixtures of the operators' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.operators.conftest import connect, new_run, target_env
from tests.matrix.migrating import Outcome, migrate

__all__ = ["PAIRS", "connect", "migrate", "new_run", "outcomes", "target_env"]

Pair = tuple[str, str]

FIRST_LINES = ("1.10.10", "1.10.15", "2.0.2", "2.2.5", "2.7.3", "2.10.5", "2.11.2")
ALL_LINES = (*FIRST_LINES, "3.0.6", "3.1.8", "3.3.2")
PAIRS: tuple[Pair, ...] = (
    *((source, "2.0.2") for source in ("1.10.10", "1.10.15")),
    *((source, "2.11.2") for source in FIRST_LINES if source != "2.11.2"),
    *((source, "3.3.2") for source in ALL_LINES if source != "3.3.2"),
    *((release, release) for release in ALL_LINES),
)

TABLE = Path(__file__).parents[2] / "docs" / "matrix.md"
HEAD = """# Sources and targets

Every pair below was migrated by the DAG's own tasks, one after the other, within one PostgreSQL server: from a small
database that a real installation of this release has written ([how](../tests/databases/README.md)), to a target
without any. Each run ended with `verify`, with exactly the previously active DAGs active, and with every connection
readable by the target's key. A database is as good as the release's alembic head, so the releases between those named
go the same way as the next one below.

`make test-matrix` runs them all and writes this page. *Downtime* is that of these small databases on two cores: what
the steps cost by themselves, nearly all of it the start of Airflow's own commands.

| source | target | hops | verified | repairs, with rows | downtime |
|---|---|---|---|---|---|
"""


@pytest.fixture(scope="session")
def outcomes() -> Iterator[dict[Pair, Outcome]]:
    """What came of each pair; once all were run, the table is written."""
    done: dict[Pair, Outcome] = {}
    yield done
    if done.keys() == set(PAIRS):
        TABLE.write_text(HEAD + "".join(row(pair, done[pair]) for pair in PAIRS), encoding="utf-8")


def row(pair: Pair, outcome: Outcome) -> str:
    """One line of the table."""
    repairs = ", ".join(f"`{name}` {count}" for name, count in sorted(outcome.repairs.items()))
    cells = (
        *pair,
        ", ".join(outcome.hops) or "none",
        "yes" if outcome.verified else "no",
        repairs or "none",
        f"{outcome.downtime:.0f} s",
    )
    return f"| {' | '.join(cells)} |\n"
