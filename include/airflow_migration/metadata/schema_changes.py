"""What each of Airflow's migrations does to tables, columns, indexes and constraints on PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, cast

from airflow_migration.metadata.releases import revisions
from airflow_migration.metadata.repairs.crossing import Crossing

Act = Literal[
    "make table", "make column", "make index", "make unique", "make primary key", "make foreign key",
    "drop table", "drop column", "drop index", "drop constraint", "rename table", "rename column", "retype",
]  # fmt: skip

FIRST_KNOWN = "952da73b5eff"
"""1.10.10: what the migrations up to here do is not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One statement of a migration.

    :param release: that added the migration
    :param table: by its name at that moment
    :param name: of the column, index or constraint; empty where the table itself is meant
    :param new_name: of a rename
    :param lenient: the migration looks first, or says IF EXISTS
    """

    revision: str
    release: str
    act: Act
    table: str
    name: str = ""
    new_name: str = ""
    lenient: bool = False

    def __str__(self) -> str:
        return f"{self.revision}, {self.release}"


def schema_changes(crossing: Crossing) -> tuple[Change, ...]:
    """What runs on this stretch, in order; none where it begins before 1.10.10, of which too little is known."""
    if not crossing.starts_after(FIRST_KNOWN):
        return ()
    return tuple(change for change in _recorded() if crossing.crosses(change.revision))


@cache
def _recorded() -> tuple[Change, ...]:
    """From ``airflow/migrations/versions`` of 2.11.2 (1.10.11 to 2.11) and of 3.3.2, the branches for PostgreSQL.

    Left out: what is done for another server, and the foreign keys and indexes inside a CREATE TABLE.
    """
    since = {revision.id: revision.since for revision in revisions()}
    data = json.loads(files(__package__).joinpath("schema_changes.json").read_text(encoding="utf-8"))
    return tuple(_change(revision, since[revision], line) for revision, lines in data for line in lines)


def _change(revision: str, release: str, line: str) -> Change:
    act, _, rest = line.partition(": ")
    table, *names = rest.split(" ")
    if act.endswith("rename table"):
        names.insert(0, "")
    name, new_name = (*names, "", "")[:2]
    return Change(
        revision=revision,
        release=release,
        act=cast(Act, act.removeprefix("?")),
        table=table,
        name=name,
        new_name=new_name,
        lenient=act.startswith("?"),
    )
