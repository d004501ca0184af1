"""Try an upgrade's changes of the schema on a picture of it, and see what would be missing or in the way.

A migration names the indexes and constraints that it drops, and stops where one has another name or is gone. It stops
as well where what it makes is there already (by hand, or from an upgrade that was broken off), and where a view or
another application's foreign key holds on to what it drops or gives another type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from airflow_migration.metadata.schema_catalog import Constraint, Index, Picture, Table
from airflow_migration.metadata.schema_changes import Change

Kind = Literal["missing", "in the way", "held"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Where an upgrade would stop.

    :param what: object, by its name in the database where it has one
    :param table: that has it, by its name in the database; empty where the upgrade made it
    :param held_by: views and foreign keys
    """

    kind: Kind
    what: str
    table: str
    change: Change
    held_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        by = f" is held by {', '.join(self.held_by)}" if self.held_by else ""
        return f"{self.what}{by} ({self.change})"


REFERENCES = {"task_instance_dag_run_fkey": ("dag_run", "dag_run_dag_id_run_id_key", ("dag_id", "run_id"))}
"""Foreign key → table, unique constraint by Airflow's own name, and columns that it relies on; those on ids rely on
primary keys."""


def try_changes(picture: Picture, changes: Iterable[Change]) -> tuple[Obstacle, ...]:
    """Every obstacle; after each the change counts as done, so that it is told once.

    :param picture: is changed
    """
    obstacles: list[Obstacle] = []
    for change in changes:
        if change.act == "make foreign key" and change.name in REFERENCES:
            _relies(picture, change, obstacles)
        if change.table in picture.made and change.act != "drop table":
            if change.act == "rename table":
                picture.made.add(change.new_name)
            continue
        if change.table not in picture.tables and change.act not in ("make table", "drop table"):
            _note(picture, obstacles, change, "missing", f"table {change.table}")
            continue
        _TRIALS[change.act](picture, change, obstacles)
    return tuple(obstacles)


def _note(
    picture: Picture,
    obstacles: list[Obstacle],
    change: Change,
    kind: Kind,
    what: str,
    held_by: tuple[str, ...] = (),
) -> None:
    told = any(each.what == what and each.kind == kind for each in obstacles)
    if not change.lenient and not told:
        table = picture.tables[change.table].origin if change.table in picture.tables else ""
        obstacles.append(Obstacle(kind=kind, what=what, table=table, change=change, held_by=held_by))


def _make_table(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    if change.table in picture.tables and change.lenient:
        return
    if change.table in picture.tables:
        _note(picture, obstacles, change, "in the way", f"table {change.table}")
    picture.tables.pop(change.table, None)
    picture.made.add(change.table)


def _make_column(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    columns = picture.tables[change.table].columns
    if change.name in columns:
        _note(picture, obstacles, change, "in the way", f"column {_origin(picture, change)}.{change.name}")
    columns.setdefault(change.name, "")


def _make_index(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    if change.name in picture.indexes:
        _note(picture, obstacles, change, "in the way", f"index {change.name}")
    picture.indexes[change.name] = Index(table=change.table, columns=frozenset())


def _make_key(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    kind = {"make unique": "u", "make primary key": "p"}.get(change.act, "f")
    present = [
        name
        for (table, name), constraint in picture.constraints.items()
        if table == change.table and (name == change.name or constraint.kind == kind == "p")
    ]
    if present or (kind != "f" and change.name in picture.indexes):
        name = present[0] if present else change.name
        _note(picture, obstacles, change, "in the way", f"constraint {name} of {_origin(picture, change)}")
    index = change.name if kind != "f" else ""
    picture.constraints[change.table, change.name] = Constraint(kind=kind, index=index)
    if index:
        picture.indexes[index] = Index(table=change.table, columns=frozenset())


def _relies(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    table, name, columns = REFERENCES[change.name]
    there = any(
        owner == table and constraint.kind in ("u", "p") and (own == name or constraint.columns == set(columns))
        for (owner, own), constraint in picture.constraints.items()
    )
    if not there and table in picture.tables:
        origin = picture.tables[table].origin
        what = f"constraint {name} UNIQUE ({', '.join(columns)}) of {origin}"
        obstacles.append(Obstacle(kind="missing", what=what, table=origin, change=change))
        picture.constraints[table, name] = Constraint(kind="u", columns=frozenset(columns))


def _drop_table(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    table = picture.tables.pop(change.table, None)
    known = change.table in picture.made
    picture.made.discard(change.table)
    if table is None:
        if not known:
            _note(picture, obstacles, change, "missing", f"table {change.table}")
        return
    views = {view for (name, _), readers in picture.views.items() if name == table.origin for view in readers}
    keys = {
        f"{name} of {child}"
        for (child, name), constraint in picture.constraints.items()
        if constraint.refers_to == change.table and child != change.table
    }
    if views or keys:
        _note(picture, obstacles, change, "held", f"table {table.origin}", tuple(sorted(views | keys)))
    _forget(picture, change.table)


def _drop_column(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    columns = picture.tables[change.table].columns
    if change.name not in columns:
        _note(picture, obstacles, change, "missing", f"column {_origin(picture, change)}.{change.name}")
        return
    _held_column(picture, change, obstacles)
    origin = columns.pop(change.name)
    if not origin:
        return
    for name in [n for n, i in picture.indexes.items() if i.table == change.table and origin in i.columns]:
        del picture.indexes[name]
    for key in [k for k, c in picture.constraints.items() if k[0] == change.table and origin in c.columns]:
        del picture.constraints[key]


def _retype(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    if change.name in picture.tables[change.table].columns:
        _held_column(picture, change, obstacles)
    else:
        _note(picture, obstacles, change, "missing", f"column {_origin(picture, change)}.{change.name}")


def _held_column(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    table = picture.tables[change.table]
    origin = table.columns[change.name]
    views = picture.views.get((table.origin, origin), ()) if origin else ()
    if views:
        _note(picture, obstacles, change, "held", f"column {table.origin}.{origin}", tuple(sorted(views)))


def _drop_index(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    if picture.indexes.pop(change.name, None) is None:
        _note(picture, obstacles, change, "missing", f"index {change.name} of {_origin(picture, change)}")


def _drop_constraint(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    found = picture.constraints.pop((change.table, change.name), None)
    if found is None:
        _note(picture, obstacles, change, "missing", f"constraint {change.name} of {_origin(picture, change)}")
    elif found.kind != "f":
        picture.indexes.pop(found.index, None)
        _held_key(picture, change, found, obstacles)


def _held_key(picture: Picture, change: Change, key: Constraint, obstacles: list[Obstacle]) -> None:
    relying = {
        where: f"{where[1]} of {where[0]}"
        for where, constraint in picture.constraints.items()
        if constraint.kind == "f" and key.index and constraint.index == key.index
    }
    if relying:
        what = f"constraint {change.name} of {_origin(picture, change)}"
        _note(picture, obstacles, change, "held", what, tuple(sorted(relying.values())))
    for where in relying:
        del picture.constraints[where]


def _rename_table(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    if change.new_name in picture.tables:
        _note(picture, obstacles, change, "in the way", f"table {change.new_name}")
    picture.tables[change.new_name] = picture.tables.pop(change.table)
    for index in picture.indexes.values():
        if index.table == change.table:
            index.table = change.new_name
    for (table, name), constraint in list(picture.constraints.items()):
        if constraint.refers_to == change.table:
            constraint.refers_to = change.new_name
        if table == change.table:
            picture.constraints[change.new_name, name] = picture.constraints.pop((table, name))


def _rename_column(picture: Picture, change: Change, obstacles: list[Obstacle]) -> None:
    columns = picture.tables[change.table].columns
    if change.new_name in columns:
        _note(picture, obstacles, change, "in the way", f"column {_origin(picture, change)}.{change.new_name}")
    if change.name in columns:
        columns[change.new_name] = columns.pop(change.name)
    else:
        _note(picture, obstacles, change, "missing", f"column {_origin(picture, change)}.{change.name}")


def _forget(picture: Picture, table: str) -> None:
    picture.indexes = {name: index for name, index in picture.indexes.items() if index.table != table}
    picture.constraints = {
        where: constraint
        for where, constraint in picture.constraints.items()
        if where[0] != table and constraint.refers_to != table
    }


def _origin(picture: Picture, change: Change) -> str:
    table: Table = picture.tables[change.table]
    return table.origin


_TRIALS: dict[str, Callable[[Picture, Change, list[Obstacle]], None]] = {
    "make table": _make_table,
    "make column": _make_column,
    "make index": _make_index,
    "make unique": _make_key,
    "make primary key": _make_key,
    "make foreign key": _make_key,
    "drop table": _drop_table,
    "drop column": _drop_column,
    "drop index": _drop_index,
    "drop constraint": _drop_constraint,
    "rename table": _rename_table,
    "rename column": _rename_column,
    "retype": _retype,
}
