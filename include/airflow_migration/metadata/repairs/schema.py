"""Give constraints and indexes the names by which the migrations of a hop drop them, and free names that they use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.dry_run import REFERENCES, Kind, Obstacle, try_changes
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.schema_catalog import Constraint, Index, Picture, read_picture
from airflow_migration.metadata.schema_changes import schema_changes
from airflow_migration.metadata.schema_objects import SchemaObject, schema_objects
from airflow_migration.postgres.address import Session

MISSING, IN_THE_WAY = "schema_object_missing", "schema_object_in_the_way"
_LONGEST_NAME = 63
_ASIDE = "__by_hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mending:
    """What removes one obstacle; no row is touched.

    :param table: by its name in the database
    :param old: name of the constraint or index that is renamed; None where a stand-in is made
    :param new: the name that is there afterwards
    :param columns: of a unique constraint that is made
    """

    kind: str
    table: str
    old: str | None
    new: str
    detail: str
    columns: tuple[str, ...] = ()

    @property
    def statement(self) -> sql.Composed:
        if self.columns:
            return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} UNIQUE ({})").format(
                sql.Identifier(self.table),
                sql.Identifier(self.new),
                sql.SQL(", ").join(map(sql.Identifier, self.columns)),
            )
        if self.kind == "i" and self.old:
            return sql.SQL("ALTER INDEX {} RENAME TO {}").format(*map(sql.Identifier, (self.old, self.new)))
        if self.old:
            return sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
                *map(sql.Identifier, (self.table, self.old, self.new))
            )
        # A stand-in costs nothing to make and holds nothing, until the migration drops it.
        if self.kind == "i":
            return sql.SQL("CREATE INDEX {} ON {} ((1)) WHERE false").format(
                *map(sql.Identifier, (self.new, self.table))
            )
        return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK (true)").format(
            *map(sql.Identifier, (self.table, self.new))
        )

    def show(self, picture: Picture) -> None:
        """Change a picture as the statement would change the database."""
        constraint = Constraint(kind="u" if self.columns else "c", columns=frozenset(self.columns))
        if self.kind != "i":
            if self.old:
                constraint = picture.constraints.pop((self.table, self.old))
            picture.constraints[self.table, self.new] = constraint
        if self.old in picture.indexes and (self.kind == "i" or constraint.index == self.old):
            picture.indexes[self.new] = picture.indexes.pop(self.old)
            for each in picture.constraints.values():
                if each.index == self.old:
                    each.index = self.new
        elif self.kind == "i":
            picture.indexes[self.new] = Index(table=self.table, columns=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The obstacles of one kind, and for each what removes it, or None."""

    obstacles: tuple[Obstacle, ...]
    mendings: tuple[Mending | None, ...]

    @property
    def mendable(self) -> bool:
        return bool(self.obstacles) and None not in self.mendings


def try_schema(conn: Session, crossing: Crossing) -> dict[Kind, Trial]:
    """Try the changes of a hop or a path; changes nothing.

    What is in the way, or held, is seen as it will be once what is missing is mended: a primary key of another name
    stands in the way of the next one.
    """
    changes = schema_changes(crossing)
    missing = _of_kind("missing", try_changes(read_picture(conn), changes))
    picture, pictured = read_picture(conn), read_picture(conn)
    renames = missing_mendings(picture, missing)
    for mending in renames:
        if mending is not None:
            mending.show(picture)
            mending.show(pictured)
    obstacles = try_changes(pictured, changes)
    in_the_way = _of_kind("in the way", obstacles)
    held = _of_kind("held", obstacles)
    return {
        "missing": Trial(obstacles=missing, mendings=renames),
        "in the way": Trial(obstacles=in_the_way, mendings=in_the_way_mendings(picture, in_the_way)),
        "held": Trial(obstacles=held, mendings=(None,) * len(held)),
    }


def _of_kind(kind: Kind, obstacles: Sequence[Obstacle]) -> tuple[Obstacle, ...]:
    return tuple(each for each in obstacles if each.kind == kind)


def mend_schema(conn: Session, crossing: Crossing, kind: Kind) -> tuple[str, ...]:
    """Remove the obstacles of one kind, as far as that can be done; the caller commits.

    :returns: a sentence for each
    """
    mendings = [mending for mending in try_schema(conn, crossing)[kind].mendings if mending is not None]
    for mending in mendings:
        conn.execute(mending.statement)
    return tuple(mending.detail for mending in mendings)


def missing_mendings(picture: Picture, obstacles: Sequence[Obstacle]) -> tuple[Mending | None, ...]:
    """For each thing that is missing: the new name of the one of the same columns, or a stand-in to be dropped.

    None where no release is known that has it under that name, or where a table or column is missing.

    :param picture: the schema as it is
    """
    found: list[Mending | None] = []
    taken: set[str] = set()
    for obstacle in obstacles:
        if obstacle.change.name in REFERENCES and obstacle.change.act == "make foreign key":
            found.append(_unique(obstacle))
            continue
        wanted = schema_objects(obstacle.table).get(obstacle.change.name)
        if wanted is None or obstacle.change.act not in ("drop index", "drop constraint"):
            found.append(None)
            continue
        other = next((name for name in _alike(picture, obstacle.table, wanted) if name not in taken), None)
        taken.add(other or "")
        found.append(_mending(obstacle, wanted, other))
    return tuple(found)


def in_the_way_mendings(picture: Picture, obstacles: Sequence[Obstacle]) -> tuple[Mending | None, ...]:
    """For each thing that is in the way: another name for an index that somebody has made.

    None for anything else: tables, columns and constraints under Airflow's own names are half an upgrade.

    :param picture: the schema as it is
    """
    backing = {constraint.index for constraint in picture.constraints.values() if constraint.index}
    found: list[Mending | None] = []
    for obstacle in obstacles:
        name = obstacle.change.name
        if obstacle.change.act != "make index" or name in backing:
            found.append(None)
            continue
        aside = _free_name(name, picture)
        detail = f"index {name} renamed {aside}: the upgrade makes one of that name ({obstacle.change})"
        found.append(Mending(kind="i", table=picture.indexes[name].table, old=name, new=aside, detail=detail))
    return tuple(found)


def _alike(picture: Picture, table: str, wanted: SchemaObject) -> Iterator[str]:
    """Constraints, or indexes, of the same columns that no release calls so."""
    known = schema_objects(table)
    if wanted.kind == "i":
        backing = {constraint.index for constraint in picture.constraints.values()}
        for name, index in picture.indexes.items():
            if index.table == table and index.columns in wanted.columns and name not in known and name not in backing:
                yield name
        return
    for (owner, name), constraint in picture.constraints.items():
        same = constraint.kind == wanted.kind and (wanted.kind == "p" or constraint.columns in wanted.columns)
        if owner == table and same and name not in known:
            yield name


def _unique(obstacle: Obstacle) -> Mending:
    _, name, columns = REFERENCES[obstacle.change.name]
    detail = f"{obstacle.what} made: the upgrade refers to it ({obstacle.change})"
    return Mending(kind="u", table=obstacle.table, old=None, new=name, detail=detail, columns=columns)


def _mending(obstacle: Obstacle, wanted: SchemaObject, other: str | None) -> Mending:
    table, name = obstacle.table, obstacle.change.name
    if other:
        detail = f"{other} of {table} renamed {name}, as the upgrade drops it ({obstacle.change})"
    else:
        detail = f"{name} of {table} was missing: an empty one stands there for the upgrade to drop ({obstacle.change})"
    return Mending(kind=wanted.kind, table=table, old=other, new=name, detail=detail)


def _free_name(name: str, picture: Picture) -> str:
    number, suffix = 1, _ASIDE
    while True:
        candidate = name[: _LONGEST_NAME - len(suffix)] + suffix
        if candidate not in picture.indexes:
            return candidate
        number += 1
        suffix = f"{_ASIDE}_{number}"
