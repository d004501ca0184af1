"""Ids that count on: defaults that FAB's tables lack, and sequences that stand behind their ids."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Tables, read_tables
from airflow_migration.postgres.address import Session

# b0d31815b5a6 (2.4.2) sets nextval('<table>_id_seq') on these, whatever stood there before.
FAB_TABLES = (
    "ab_permission",
    "ab_view_menu",
    "ab_role",
    "ab_permission_view",
    "ab_permission_view_role",
    "ab_user",
    "ab_user_role",
    "ab_register_user",
)

_COUNTED = """
SELECT c.relname, s.relname, n.nspname, has_sequence_privilege(s.oid, 'SELECT')
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND NOT a.attisdropped
   AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
  JOIN (SELECT d.adrelid AS relid, d.adnum AS number, p.refobjid AS sequence FROM pg_attrdef d
          JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
           AND p.refclassid = 'pg_class'::regclass
        UNION
        SELECT p.refobjid, p.refobjsubid, p.objid FROM pg_depend p
         WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
           AND p.deptype = 'i') u ON u.relid = c.oid AND u.number = a.attnum
  JOIN pg_class s ON s.oid = u.sequence AND s.relkind = 'S'
  JOIN pg_namespace n ON n.oid = s.relnamespace
 WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
   AND c.relkind IN ('r', 'p')
"""

_WITHOUT_DEFAULT = """
SELECT c.relname,
       NOT EXISTS (SELECT FROM pg_attrdef d WHERE d.adrelid = c.oid AND d.adnum = a.attnum)
       AND a.attidentity = '',
       NOT EXISTS (SELECT FROM pg_class s WHERE s.relnamespace = c.relnamespace AND s.relkind = 'S'
                      AND s.relname = c.relname || '_id_seq')
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND NOT a.attisdropped
 WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
   AND c.relname = ANY (%s)
 ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingDefault:
    """What a FAB table's id lacks: a default, the sequence of the expected name, or both."""

    table: str
    default: bool
    sequence: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BehindSequence:
    """A sequence whose next value is taken already."""

    table: str
    schema: str
    sequence: str
    next: int
    highest: int


def missing_defaults(conn: Session) -> tuple[MissingDefault, ...]:
    """FAB's tables to which a row can be added only with an id, or that 2.4.2 cannot mend.

    1.10.10's own FAB made them so; measured 1.10.10 → 2.11.2: ``null value in column "id"``.
    """
    rows = conn.execute(_WITHOUT_DEFAULT, (list(FAB_TABLES),))
    found = (MissingDefault(table=str(t), default=bool(d), sequence=bool(s)) for t, d, s in rows)
    return tuple(missing for missing in found if missing.default or missing.sequence)


def set_defaults(conn: Session) -> tuple[str, ...]:
    """Make the missing sequences and defaults; the caller commits."""
    details = []
    for missing in missing_defaults(conn):
        table, sequence = sql.Identifier(missing.table), f"{missing.table}_id_seq"
        if missing.sequence:
            conn.execute(sql.SQL("CREATE SEQUENCE {}").format(sql.Identifier(sequence)))
            _share_owner(conn, missing.table, sequence)
        if missing.default:
            conn.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN id SET DEFAULT nextval({}::regclass)").format(
                    table, sql.Literal(sql.Identifier(sequence).as_string(conn))
                )
            )
        details.append(f"{missing.table}.id counts on from sequence {sequence}")
    return tuple(details)


def behind_sequences(conn: Session, tables: Tables, only: Collection[str] | None = None) -> tuple[BehindSequence, ...]:
    """Sequences of the metadata schema's integer ids that would give an id that exists.

    :param only: tables whose sequences are meant; None for all
    """
    counted = {(str(t), str(n), str(s)) for t, s, n, readable in conn.execute(_COUNTED) if readable}
    current = conn.execute("SELECT current_schema()").fetchone()
    assert current is not None
    named = conn.execute(
        # Among the conditions it may be asked first, of what is no sequence, which is an error.
        "SELECT relname, has_sequence_privilege(oid, 'SELECT') FROM pg_class WHERE relkind = 'S' AND relname = ANY (%s)"
        " AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())",
        ([f"{table}_id_seq" for table in FAB_TABLES if table in tables],),
    )
    counted |= {(str(name).removesuffix("_id_seq"), str(current[0]), str(name)) for name, readable in named if readable}
    found = (_compare(conn, *each) for each in sorted(counted) if only is None or each[0] in only)
    return tuple(behind for behind in found if behind is not None)


def fix_sequences(conn: Session, only: Collection[str] | None = None) -> tuple[str, ...]:
    """Put every sequence of an integer id above the highest id; the caller commits.

    Wanted before a hop and once more at the end: the upgrades and the target's first rows count on them.

    :param only: tables whose sequences are meant; None for all
    :returns: a sentence for each sequence that stood behind
    """
    details = []
    for behind in behind_sequences(conn, read_tables(conn), only):
        name = sql.Identifier(behind.schema, behind.sequence).as_string(conn)
        conn.execute("SELECT setval(%s::regclass, %s, true)", (name, behind.highest))
        details.append(f"sequence {behind.sequence} stood at {behind.next}, below {behind.table}.id = {behind.highest}")
    return tuple(details)


def _compare(conn: Session, table: str, schema: str, sequence: str) -> BehindSequence | None:
    row = conn.execute(
        sql.SQL("SELECT (SELECT max(id) FROM {}), last_value + is_called::int FROM {}").format(
            sql.Identifier(table), sql.Identifier(schema, sequence)
        )
    ).fetchone()
    assert row is not None
    if row[0] is None or int(str(row[1])) > int(str(row[0])):
        return None
    return BehindSequence(
        table=table, schema=schema, sequence=sequence, next=int(str(row[1])), highest=int(str(row[0]))
    )


def _share_owner(conn: Session, table: str, sequence: str) -> None:
    """A sequence can belong to a column only when both have the same owner; then it follows the table."""
    owner = conn.execute(
        "SELECT pg_get_userbyid(relowner), relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
        " FROM pg_class WHERE oid = to_regclass(%s)",
        (sql.Identifier(table).as_string(conn),),
    ).fetchone()
    assert owner is not None
    if not owner[1]:
        conn.execute(
            sql.SQL("ALTER SEQUENCE {} OWNER TO {}").format(sql.Identifier(sequence), sql.Identifier(str(owner[0])))
        )
    conn.execute(sql.SQL("ALTER SEQUENCE {} OWNED BY {}.id").format(sql.Identifier(sequence), sql.Identifier(table)))
