"""Indexes, constraints, columns and views at which a migration would stop, by trying its changes on a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_migration.metadata.checks.check import Check, Examination
from airflow_migration.metadata.dry_run import Kind, Obstacle
from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.metadata.repairs.schema import IN_THE_WAY, MISSING, try_schema
from airflow_migration.metadata.schema_catalog import VIEWS

HELD = "schema_object_held"

_KINDS: dict[Kind, tuple[str, str, str]] = {
    "missing": (
        MISSING,
        "{count} table(s), column(s), index(es) or constraint(s) that the upgrade changes by name are missing",
        "Give those that have another name the one listed (ALTER INDEX … RENAME TO …, ALTER TABLE … RENAME CONSTRAINT"
        " … TO …), make those that are gone, in the source",
    ),
    "in the way": (
        IN_THE_WAY,
        "{count} thing(s) that the upgrade makes are there already, by hand or from an upgrade that was broken off",
        "Drop or rename what was made by hand; after half an upgrade restore the copy from before it",
    ),
    "held": (
        HELD,
        "{count} table(s), column(s) or constraint(s) that the upgrade replaces are held by a view or a foreign key",
        "Note the definitions down, drop these views and foreign keys in the source, make them anew at the target",
    ),
}
_REPAIRED = (
    "Those that were renamed get their names, those that are gone a stand-in, what was made by hand another name"
)


def _ask(look: Examination) -> Iterator[Finding]:
    trials = try_schema(look.conn, look.crossing)
    for kind, (check, summary, remedy) in _KINDS.items():
        found, mendable = trials[kind].obstacles, trials[kind].mendable
        yield Finding(
            check=check,
            severity="warning" if mendable else "blocker" if found else "ok",
            summary=summary.format(count=len(found) or "No"),
            count=len(found),
            evidence=tuple(map(str, found[:EXAMPLES])),
            remedy=_REPAIRED if mendable else remedy if found else "",
            repair=check if mendable else None,
            sql=_query(kind, found),
        )


def _query(kind: Kind, found: Sequence[Obstacle]) -> str:
    tables = ", ".join(sorted({f"'{each.change.table}'" for each in found}))
    if not found:
        return ""
    if kind == "held":
        return (
            f"{VIEWS.strip()}\nUNION ALL SELECT conrelid::regclass::text, confrelid::regclass::text, conname"  # noqa: S608
            f" FROM pg_constraint WHERE contype = 'f' AND confrelid::regclass::text IN ({tables});"
        )
    return (
        f"SELECT tablename, indexname FROM pg_indexes WHERE tablename IN ({tables})\n"  # noqa: S608
        "UNION ALL SELECT conrelid::regclass::text, conname FROM pg_constraint"
        f" WHERE conrelid::regclass::text IN ({tables})\n"
        "UNION ALL SELECT table_name, column_name FROM information_schema.columns"
        f" WHERE table_name IN ({tables}) ORDER BY 1, 2;"
    )


SCHEMA_CHECKS = (Check(ids=(MISSING, IN_THE_WAY, HELD), revisions=(), ask=_ask),)
