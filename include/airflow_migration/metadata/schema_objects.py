"""What Airflow's releases call the constraints and indexes of their tables on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaObject:
    """One constraint or index.

    :param kind: ``p`` primary key, ``u`` unique constraint, ``f`` foreign key, ``i`` index
    :param columns: the sets of columns that it has had in one release or another
    """

    kind: str
    columns: frozenset[frozenset[str]]


def schema_objects(table: str) -> Mapping[str, SchemaObject]:
    """Every constraint and index, by name, that a table has had; none for a table of which no migration drops one.

    From the catalogs of databases that 1.10.10, 1.10.15, 2.0.2, 2.2.5, 2.7.3, 2.10.5, 2.11.2, 3.0.6, 3.1.8 and 3.3.2
    have made.
    """
    return _recorded().get(table, {})


@cache
def _recorded() -> Mapping[str, Mapping[str, SchemaObject]]:
    data = json.loads(files(__package__).joinpath("schema_objects.json").read_text(encoding="utf-8"))
    return {
        table: {
            name: SchemaObject(kind=kind, columns=frozenset(frozenset(each.split(" ")) for each in columns))
            for name, (kind, *columns) in objects.items()
        }
        for table, objects in data.items()
    }
