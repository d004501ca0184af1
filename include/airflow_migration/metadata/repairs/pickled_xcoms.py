"""XComs that are pickles: 1.10 writes no others, later releases where `enable_xcom_pickling` is set.

eed27faa34e3 (3.0.0) moves those with the first byte 0x80 to its table `_xcom_archive`, which nothing reads, and stops
at those of the protocols 0 and 1, which Python 2 writes and which begin otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from psycopg import sql

from airflow_migration.metadata.airflow_json import xcom_text
from airflow_migration.metadata.pickled_objects import UndecodableError
from airflow_migration.metadata.pickles import MAX_BYTES, decode
from airflow_migration.metadata.repairs.changing import keep_originals
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.ledger import Entry, read_repairs
from airflow_migration.metadata.repairs.leftovers import ARCHIVE
from airflow_migration.postgres.address import Session

REPAIR = "xcom_pickled"
READS_UUIDS = "1d6611b6ab7c"
"""3.2.0, whose task SDK (1.2.0) brought `serde/serializers/uuid.py`."""

ARCHIVED = r"substring(t.value FROM 1 FOR 1) = '\x80'"
"""Of xcom t: what Airflow's migration takes for a pickle."""
PICKLED = rf"t.value IS NOT NULL AND ({ARCHIVED} OR substring(t.value FROM octet_length(t.value)) = '\x2e')"
"""Of xcom t: what may be a pickle. Each ends with a full stop, as no JSON does."""

BATCH = 1000
SMALL = 1 << 16
"""Bytes; larger values are read one at a time."""
CACHED = 1000
"""Values that are remembered, as many are the same."""
LISTED = 20
"""Most keys that are listed for one reason why XComs stay pickles."""
_NEW = "airflow_migration_xcoms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriage:
    """What becomes of one pickle.

    :param text: JSON text for the column; None where there is none
    :param reasons: what changes, or why there is none
    """

    text: str | None
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Carrier:
    """Decodes pickles for one target."""

    uuids: bool
    seen: dict[bytes, Carriage] = field(default_factory=dict)

    @classmethod
    def towards(cls, crossing: Crossing) -> Carrier:
        """For the release at the end."""
        return cls(uuids=crossing.reaches(READS_UUIDS))

    def carry(self, value: bytes) -> Carriage:
        """What becomes of a pickle; nothing that it names is run."""
        found = self.seen.get(value)
        if found is None:
            found = self._carry(value)
            if len(value) < SMALL // 100:
                if len(self.seen) >= CACHED:
                    self.seen.clear()
                self.seen[value] = found
        return found

    def _carry(self, value: bytes) -> Carriage:
        try:
            decoded = decode(value)
            text, changes = xcom_text(decoded.value, uuids=self.uuids)
        except UndecodableError as err:
            return Carriage(text=None, reasons=(str(err),))
        return Carriage(text=text, reasons=tuple(sorted(changes | decoded.notes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PickledXCom:
    """One of them.

    :param place: ctid
    :param value: None where it is larger than wanted
    :param archived: whether Airflow would archive it, else it would stop
    :param key: what names the row to a person
    """

    place: str
    value: bytes | None
    archived: bool
    key: str


def read_pickles(conn: Session, *, key: str, most: int = MAX_BYTES) -> Iterator[PickledXCom]:
    """Every pickle, a batch in memory at a time.

    :param key: SQL text expression over xcom `t` that names a row
    :param most: bytes of the largest that is read
    """
    query = (
        f"SELECT t.ctid::text, {ARCHIVED}, {key},"  # noqa: S608
        f" CASE WHEN octet_length(t.value) <= {SMALL} THEN t.value END FROM xcom t WHERE {PICKLED}"
    )
    with conn.cursor(name="airflow_migration_pickles") as cursor:
        cursor.itersize = BATCH
        for place, archived, name, value in cursor.execute(sql.SQL(query)):
            read = value if value is not None else _large(conn, str(place), most)
            assert read is None or isinstance(read, bytes)
            yield PickledXCom(place=str(place), value=read, archived=bool(archived), key=str(name))


def _large(conn: Session, place: str, most: int) -> object:
    row = conn.execute(
        "SELECT CASE WHEN octet_length(value) <= %s THEN value END FROM xcom WHERE ctid = %s::text::tid", (most, place)
    ).fetchone()
    return row[0] if row else None


def carry_pickles(conn: Session, entry: Entry, crossing: Crossing, *, key: str) -> tuple[int, tuple[str, ...]]:
    """Put JSON in the place of each pickle that has a form in it, and keep the originals; the caller commits.

    The rest stays: Airflow archives it, or `xcom_not_json` moves it.

    :param key: SQL text expression over xcom `t` that names a row
    :returns: XComs that are JSON now, and a sentence for each outcome
    """
    if any(repair.id == REPAIR for repair in read_repairs(conn, entry.migration_id, entry.head)):
        return 0, ()
    conn.execute(
        sql.SQL("CREATE TEMP TABLE {} (place tid, value text, reason text) ON COMMIT DROP").format(sql.Identifier(_NEW))
    )
    left, examples = _write_new(conn, Carrier.towards(crossing), key)
    conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(_NEW)))
    details = [f"{count} XCom(s), originals kept: {reason}" for reason, count in _keep_originals(conn, entry)]
    changed = conn.execute(
        sql.SQL("UPDATE xcom t SET value = convert_to(c.value, 'UTF8') FROM {} c WHERE t.ctid = c.place").format(
            sql.Identifier(_NEW)
        )
    ).rowcount
    conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(_NEW)))
    for reason, count in left.most_common():
        more = "; …" if count > LISTED else ""
        details.append(f"{count} XCom(s) stay pickles for {ARCHIVE}: {reason}: {'; '.join(examples[reason])}{more}")
    return changed, tuple(details)


def _keep_originals(conn: Session, entry: Entry) -> Iterator[tuple[str, int]]:
    reasons = conn.execute(
        sql.SQL("SELECT reason FROM {} GROUP BY 1 ORDER BY 1").format(sql.Identifier(_NEW))
    ).fetchall()
    for (reason,) in reasons:
        same = sql.SQL("t.ctid IN (SELECT c.place FROM {} c WHERE c.reason = {})").format(
            sql.Identifier(_NEW), sql.Literal(str(reason))
        )
        yield (
            str(reason),
            keep_originals(conn, entry, table="xcom", columns=("value",), condition=same, reason=str(reason)),
        )


def _write_new(conn: Session, carrier: Carrier, key: str) -> tuple[Counter[str], dict[str, list[str]]]:
    """Fill the temporary table.

    :returns: how many have no form, by reason, and the keys of the first of each
    """
    left: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    batch: list[tuple[str, str, str]] = []
    held = 0
    for each in read_pickles(conn, key=key):
        found = carrier.carry(each.value) if each.value is not None else _TOO_LARGE
        if found.text is not None:
            batch.append((each.place, found.text, "; ".join(("a pickle becomes JSON", *found.reasons))))
            held += len(found.text)
        elif each.archived:
            left[found.reasons[0]] += 1
            keys = examples.setdefault(found.reasons[0], [])
            keys += [each.key] if len(keys) < LISTED else []
        if len(batch) >= BATCH or held > BATCH * SMALL // 8:
            _copy(conn, batch)
            batch.clear()
            held = 0
    _copy(conn, batch)
    return left, examples


def _copy(conn: Session, rows: list[tuple[str, str, str]]) -> None:
    into = sql.SQL("COPY {} (place, value, reason) FROM STDIN").format(sql.Identifier(_NEW))
    with conn.cursor() as cursor, cursor.copy(into) as copy:
        for row in rows:
            copy.write_row(row)


_TOO_LARGE = Carriage(text=None, reasons=(f"a pickle of more than {MAX_BYTES >> 20} MB",))
