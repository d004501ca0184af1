"""Compare the tables of others that are in schemas of their own."""

from __future__ import annotations

from airflow_migration.metadata.fingerprints import Dialect
from airflow_migration.metadata.kept_meanings import Meaning
from airflow_migration.metadata.other_schemas import OtherTable, count_other, read_other_tables, read_schemas
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.shapes import Relation, Shaped, shape_of
from airflow_migration.planning.content_comparison import ContentComparison
from airflow_migration.planning.loss_ledger import LedgerEntry, stays_behind
from airflow_migration.planning.row_comparison import RowComparison, Side
from airflow_migration.postgres.address import Session


def compare_others(
    clone: Session, working: Session, dialect: Dialect, staying: str = ""
) -> tuple[tuple[ContentComparison, ...], tuple[LedgerEntry, ...]]:
    """All of them whose schema has come along; one of a database that was upgraded by itself need not have.

    :param staying: why none of them travels; empty where they do
    """
    if staying:
        return (), tuple(
            stays_behind(str(table), count_other(clone, table.identifier), staying)
            for table in read_other_tables(clone)
        )
    there, schemas = {str(table): table for table in _in_sight(working)}, read_schemas(working)
    contents, ledger = [], []
    for table in read_other_tables(clone):
        if table.schema not in schemas:
            continue
        found = there.get(str(table))
        rows_in = count_other(clone, table.identifier)
        rows_out = count_other(working, found.identifier) if found is not None else 0
        ledger.append(
            LedgerEntry(
                table=str(table),
                table_after=str(found) if found is not None else None,
                rows_in=rows_in,
                rows_out=rows_out,
                causes=(),
                changed=(),
                nulled=(),
                unaccounted=rows_in - rows_out,
            )
        )
        if found is not None:
            contents.append(_compare(clone, working, dialect, (table, found), rows_in))
    return tuple(contents), tuple(ledger)


def _in_sight(working: Session) -> tuple[OtherTable, ...]:
    """Also those whose schema is on the target's search path."""
    row = working.execute("SELECT current_schemas(false)::text[]").fetchone()
    assert row is not None
    assert isinstance(row[0], list)
    visible = [
        OtherTable(schema=str(schema), name=name, columns=columns, key=())
        for schema in row[0]
        for name, columns in read_tables(working, str(schema)).items()
    ]
    return (*read_other_tables(working), *visible)


def _compare(
    clone: Session, working: Session, dialect: Dialect, tables: tuple[OtherTable, OtherTable], rows: int
) -> ContentComparison:
    before, after = (Relation(source=table.identifier, columns=table.columns) for table in tables)
    name = str(tables[0])
    shape = shape_of(name, Meaning(key=tables[0].key), (before, after), frozenset(), {})
    one, other = (
        Side(conn=conn, relations=(Shaped(relation, shape, dialect, {}),))
        for conn, relation in ((clone, before), (working, after))
    )
    found = RowComparison(one, other, shape, dialect).differences(rows)
    compared = tuple(each.name for each in shape.fields)
    return ContentComparison(
        table=name,
        key=tuple(names[0] for names in shape.key),
        compared=compared,
        not_compared=tuple(sorted(before.columns.keys() - set(compared) - set(tables[0].key))),
        rows=rows,
        missing=found.missing,
        added=found.added,
        changed=found.changed,
        filled=found.filled,
        first=found.first,
        cause="",
        growth="",
    )
