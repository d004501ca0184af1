"""Bring every relation that holds rows of a table, or held them, to one shape, whatever release made it.

That is the parts of its key and the columns that keep their meaning, in the same types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from psycopg import sql

from airflow_migration.metadata.fingerprints import READ_JSON, Dialect, Part
from airflow_migration.metadata.kept_meanings import RUN, TASK, Meaning
from airflow_migration.metadata.repairs.catalog import Column

_TEXTS = frozenset({"character varying", "text", "character"})
_NUMBERS = frozenset({"smallint", "integer", "bigint"})
_JSONS = frozenset({"json", "jsonb"})
_MOMENTS = frozenset({"timestamp with time zone", "timestamp without time zone"})
_FLOATS = frozenset({"real", "double precision"})
_AS_TEXT = _TEXTS | _NUMBERS | {"uuid"}
_XCOM = _JSONS | {"bytea"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table that holds rows of some table, or held them.

    :param source: what is selected from
    :param columns: those that it has
    :param condition: only rows that meet it; SQL over `t`
    """

    source: Part
    columns: Mapping[str, Column]
    condition: Part = field(default_factory=lambda: sql.SQL("true"))

    @classmethod
    def table(cls, name: str, columns: Mapping[str, Column], condition: Part | None = None) -> Relation:
        return cls(source=sql.Identifier(name), columns=columns, condition=condition or sql.SQL("true"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A column that is compared.

    :param name: on the source
    :param names: those that it can have
    :param types: all that it has in the relations, without their lengths
    :param negated: the last of the names says the opposite
    :param values: value before, value after
    :param filled: its NULL may have got a value
    :param default: SQL of the value that counts as much as NULL
    :param text: wanted as text, to stand beside another relation's
    """

    name: str
    names: tuple[str, ...]
    types: frozenset[str] = frozenset()
    negated: bool = False
    values: tuple[str, str] | None = None
    filled: bool = False
    default: str | None = None
    text: bool = False

    def of(self, relation: Relation) -> str | None:
        return next((name for name in self.names if name in relation.columns), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What all relations of a table are brought to.

    :param key: parts by which rows are told apart; names that the columns can have, or `RUN`, or part of `TASK`
    :param by_date: runs are told apart by date
    """

    table: str
    key: tuple[tuple[str, ...], ...]
    label: tuple[tuple[str, ...], ...]
    facts: tuple[tuple[str, ...], ...]
    fields: tuple[Field, ...]
    by_date: bool


def shape_of(
    table: str,
    meaning: Meaning,
    relations: tuple[Relation, ...],
    crossed: frozenset[str],
    originals: Mapping[str, tuple[Relation, ...]],
) -> Shape:
    """The shape that these relations have in common.

    :param relations: that of the source first
    :param crossed: revisions that lie between source and target
    :param originals: column, by any of its names → relations that have it as it was before a repair
    """
    fields = [
        _field(column, meaning, relations, crossed, originals)
        for column in relations[0].columns
        if column not in meaning.skipped and meaning.rewritten.get(column) not in crossed
    ]
    key = tuple(meaning.names(part) for part in meaning.key)
    by_date = any(_run_name(relation) is None for relation in relations)
    known = {name for names in (*key, *(meaning.names(part) for part in meaning.facts)) for name in names}
    if RUN in known:
        known |= {"run_id", "execution_date", "logical_date"}
    return Shape(
        table=table,
        key=key if all(_has(relation, names) for relation in relations for names in key) else (),
        label=tuple(meaning.names(part) for part in meaning.label),
        facts=tuple(
            names for names in map(meaning.names, meaning.facts) if all(_has(relation, names) for relation in relations)
        ),
        fields=tuple(each for each in fields if each is not None and not known & set(each.names)),
        by_date=by_date,
    )


def _field(
    column: str,
    meaning: Meaning,
    relations: tuple[Relation, ...],
    crossed: frozenset[str],
    originals: Mapping[str, tuple[Relation, ...]],
) -> Field | None:
    """None where a relation lacks the column, or holds something that cannot be compared."""
    found = Field(name=column, names=meaning.names(column))
    kept = tuple(relation for name in found.names for relation in originals.get(name, ()))
    if not all(found.of(relation) for relation in relations):
        return None
    types = frozenset(
        _plain(relation.columns[name].type) for relation in (*relations, *kept) if (name := found.of(relation))
    )
    if not _comparable(types) or (column in meaning.converted and len(types) > 1):
        return None
    value = meaning.values.get(column)
    return replace(
        found,
        types=types,
        negated=column in meaning.negated,
        filled=column in meaning.filled,
        default=meaning.defaults.get(column),
        values=value[:2] if value and value[2] in crossed else None,
        text=bool(kept),
    )


def _plain(type_name: str) -> str:
    """``character varying(250)`` → ``character varying``."""
    head, _, rest = type_name.partition("(")
    return head + rest.partition(")")[2]


def _comparable(types: frozenset[str]) -> bool:
    return len(types) == 1 or any(types <= group for group in (_AS_TEXT, _MOMENTS, _FLOATS, _XCOM))


def _run_name(relation: Relation) -> str | None:
    return next((name for name in ("run_id", "ti_id") if name in relation.columns), None)


def _has(relation: Relation, names: tuple[str, ...]) -> bool:
    if any(name in relation.columns for name in names):
        return True
    if names == (RUN,):
        return bool({"run_id", "ti_id", "execution_date", "logical_date"} & relation.columns.keys())
    return names == ("map_index",) or (names[0] in TASK and "ti_id" in relation.columns)


class Shaped:
    """One relation in its shape: SQL over what `rows` selects.

    :ivar key: the key as text
    """

    def __init__(self, relation: Relation, shape: Shape, dialect: Dialect, runs: Mapping[str, Column]) -> None:
        """:param runs: columns of `dag_run` in the same database"""
        self._relation, self._shape, self._dialect, self._runs = relation, shape, dialect, runs
        self._joins: dict[str, Part] = {}
        self._key = [self._part(names) for names in shape.key]
        self._facts = [self._part(names) if _has(relation, names) else sql.SQL("NULL") for names in shape.facts]
        self._labels = [self._part(names) for names in (*shape.key, *shape.label) if _has(relation, names)]
        self._fields = [self._value(each) for each in shape.fields]

    def select(self, *, labelled: bool = False, further: tuple[str, ...] = ()) -> Part:
        """Every row: columns k0 … of the key, f0 … of facts and then fields; l, an array of names and values."""
        parts: list[Part] = [
            sql.SQL("{} AS {}").format(part, sql.Identifier(f"k{i}")) for i, part in enumerate(self._key)
        ]
        values = [*self._facts, *self._fields]
        parts += [sql.SQL("{} AS {}").format(part, sql.Identifier(f"f{i}")) for i, part in enumerate(values)]
        if labelled:
            parts.append(sql.SQL("ARRAY[{}]::text[] AS l").format(self._label()))
        parts += [sql.Identifier("t", name) for name in further]
        return sql.SQL("SELECT {} FROM {} t{} WHERE {}").format(
            sql.SQL(", ").join(parts),
            self._relation.source,
            sql.SQL("").join(self._joins.values()),
            self._relation.condition,
        )

    def _label(self) -> Part:
        names = [names for names in (*self._shape.key, *self._shape.label) if _has(self._relation, names)]
        pairs = {}
        for known, part in zip(names, self._labels, strict=True):
            name = known[0] if known != (RUN,) else "date" if self._shape.by_date else "run_id"
            pairs[name] = sql.SQL("{} || coalesce(({})::text, '-')").format(sql.Literal(f"{name}="), part)
        return sql.SQL(", ").join(pairs.values())

    def _part(self, names: tuple[str, ...]) -> Part:
        columns = self._relation.columns
        if names == (RUN,):
            return self._run()
        name = next((name for name in names if name in columns), None)
        if name is not None:
            kind = _plain(columns[name].type)
            return sql.SQL("{}::text" if kind == "uuid" else "{}").format(sql.Identifier("t", name))
        if names[0] in TASK and "ti_id" in columns:
            return sql.Identifier(self._task(), names[0])
        return sql.SQL("-1")

    def _run(self) -> Part:
        columns = self._relation.columns
        if self._shape.by_date:
            for name in ("execution_date", "logical_date"):
                if name in columns:
                    return sql.Identifier("t", name)
        alias = "t" if "run_id" in columns else self._task()
        if not self._shape.by_date:
            return sql.Identifier(alias, "run_id")
        self._joins["run"] = sql.SQL(
            " LEFT JOIN dag_run run ON run.dag_id = {alias}.dag_id AND run.run_id = {alias}.run_id"
        ).format(alias=sql.Identifier(alias))
        return sql.Identifier("run", "logical_date" if "logical_date" in self._runs else "execution_date")

    def _task(self) -> str:
        self._joins["task"] = sql.SQL(" LEFT JOIN task_instance task ON task.id = t.ti_id")
        return "task"

    def _value(self, each: Field) -> Part:
        name = each.of(self._relation)
        if name is None:
            return sql.SQL("NULL::text")
        value = _in_common(
            sql.Identifier("t", name), _plain(self._relation.columns[name].type), each.types, self._dialect
        )
        if each.negated and name != each.name:
            value = sql.SQL("NOT {}").format(value)
        if each.default is not None:
            value = sql.SQL("coalesce({}, {})").format(value, sql.SQL(each.default))
        if each.values:
            value = sql.SQL("CASE {} WHEN {} THEN {} ELSE {} END").format(value, *each.values, value)
        return sql.SQL("({})::text").format(value) if each.text else value


def _in_common(value: Part, own: str, types: frozenset[str], dialect: Dialect) -> Part:
    """A value in the type that all relations can give it."""
    if types & _FLOATS:
        return sql.SQL("float8send({}::float8)").format(value)
    if "bytea" in types and types & _JSONS:
        return sql.SQL("{}::jsonb::text").format(value) if own != "bytea" else _read_json(value, dialect)
    if len(types) == 1:
        return value
    if types <= _JSONS:
        return sql.SQL("{}::jsonb").format(value)
    if types <= _MOMENTS:
        return sql.SQL("{} AT TIME ZONE 'UTC'").format(value) if own == "timestamp with time zone" else value
    return sql.SQL("{}::text").format(value)


def _read_json(value: Part, dialect: Dialect) -> Part:
    """Bytes as JSON, pickles as they are."""
    cast = sql.SQL("{}({})").format(sql.SQL(READ_JSON), value)
    if not dialect.lenient:
        cast = sql.SQL("convert_from({}, 'UTF8')::jsonb::text").format(value)
    return sql.SQL("CASE WHEN substring({value} FROM 1 FOR 1) = '\\x80' THEN {value}::text ELSE {cast} END").format(
        value=value, cast=cast
    )
