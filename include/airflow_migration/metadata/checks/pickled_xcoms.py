"""XComs that are pickles: which of them become JSON, which not quite, and which not at all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_migration.metadata.checks.confs import say_reasons
from airflow_migration.metadata.findings import EXAMPLES, Finding, Severity
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.leftovers import ARCHIVE
from airflow_migration.metadata.repairs.pickled_xcoms import PICKLED, REPAIR, Carrier, read_pickles
from airflow_migration.postgres.address import Session

SECONDS = 20.0
LISTED = 100
"""Most rows that a query names."""
LARGEST = 1 << 20
"""Bytes of the largest value that is read from a live source."""
PICKLE_CHECKS = (REPAIR, "xcom_changed", "xcom_lost")


@dataclass(slots=True)
class _Tally:
    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    keys: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, place: str, key: str, reasons: tuple[str, ...]) -> None:
        self.count += 1
        self.reasons.update(reasons)
        if len(self.keys) < EXAMPLES:
            self.keys.append(key)
        if len(self.places) < LISTED:
            self.places.append(place)


@dataclass(slots=True)
class Survey:
    """What was found among the pickles.

    :param carried: become JSON, the same value
    :param changed: become JSON, with what that lacks replaced
    :param lost: have no form in it, and go to Airflow's archive
    :param old: of the first two, those at which the upgrade would stop
    :param seen: words for what was not looked at
    """

    carried: _Tally = field(default_factory=_Tally)
    changed: _Tally = field(default_factory=_Tally)
    lost: _Tally = field(default_factory=_Tally)
    old: int = 0
    seen: str = ""


def survey_pickles(conn: Session, crossing: Crossing, *, key: str, seconds: float = SECONDS) -> Survey:
    """Decode every pickle, changing nothing; a batch in memory at a time.

    :param key: SQL text expression over xcom `t` that names a row
    :param seconds: when to stop looking
    """
    survey, large, looked = Survey(), 0, 0
    carrier, stop = Carrier.towards(crossing), time.monotonic() + seconds
    for each in read_pickles(conn, key=key, most=LARGEST):
        looked += 1
        if each.value is None:
            large += 1
            continue
        found = carrier.carry(each.value)
        if found.text is not None:
            (survey.changed if found.reasons else survey.carried).add(each.place, each.key, found.reasons)
            survey.old += not each.archived
        elif each.archived:
            survey.lost.add(each.place, each.key, found.reasons)
        if time.monotonic() > stop:
            survey.seen = f" among the first {looked} looked at; there may be more"
            break
    if large:
        survey.seen += f"; {large} larger than {LARGEST >> 20} MB were not looked at"
    return survey


def say_pickles(survey: Survey, key: str) -> Iterator[Finding]:
    """A finding for each outcome that there is."""
    carried, changed, seen = survey.carried, survey.changed, survey.seen
    total = carried.count + changed.count
    if total or seen:
        yield Finding(
            check=REPAIR,
            severity="info",
            count=total,
            summary=f"{total} XCom(s) are pickles, which no 3.x reads, and become JSON{seen}",
            evidence=tuple([*carried.keys, *changed.keys][:EXAMPLES]),
            remedy="They are decoded, without running what they name; the originals are kept in table"
            " airflow_migration.changed_xcom",
            repair=REPAIR,
            sql=f"SELECT {key} FROM xcom t WHERE {PICKLED};",  # noqa: S608
        )
    for check, severity, tally, summary, remedy in (
        (
            "xcom_changed", "info", changed, "of these XCom(s) are not quite the same afterwards",
            "The originals are kept in table airflow_migration.changed_xcom",
        ),
        (
            "xcom_lost", "warning", survey.lost, "XCom(s) are pickles that cannot become JSON",
            f"Airflow moves them to its table {ARCHIVE}, which no task reads",
        ),
    ):  # fmt: skip
        if tally.count:
            yield _named(check, severity, tally, summary + seen, remedy, key)


def _named(check: str, severity: str, tally: _Tally, summary: str, remedy: str, key: str) -> Finding:
    places = ", ".join(f"'{place}'" for place in tally.places)
    level: Severity = "warning" if severity == "warning" else "info"
    return Finding(
        check=check,
        severity=level,
        count=tally.count,
        summary=f"{tally.count} {summary}{say_reasons(tally.reasons)}",
        evidence=tuple(tally.keys),
        remedy=remedy,
        repair=REPAIR if level == "info" else None,
        sql=f"SELECT {key} FROM xcom t WHERE t.ctid IN ({places});",  # noqa: S608
    )
