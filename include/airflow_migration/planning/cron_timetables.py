"""Keep what a run's logical date means, or give it up knowingly.

Up to 2.11 a plain cron string or timedelta makes runs that are named for the start of the interval which they
cover. In 3.x it makes runs that are named for the moment at which they start, unless the deployment is set
to go on as before (`_create_timetable` of airflow/sdk/definitions/dag.py, 3.3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.recorded_schedules import read_rules
from airflow_migration.metadata.releases import Release, releases_at
from airflow_migration.postgres.address import Session

DATA_INTERVAL = "data_interval"
TRIGGER = "trigger"
CHOICES = (DATA_INTERVAL, TRIGGER)

CRON_SETTING = "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS"
DELTA_SETTING = "AIRFLOW__SCHEDULER__CREATE_DELTA_DATA_INTERVALS"
"""For timedeltas up to 3.2; in 3.3 the other one governs them as well."""
IN_WORDS = "[scheduler] create_cron_data_intervals"
FIRST_WITH_SETTING = (3, 0)
_TRUE = ("t", "true", "1")

Naming = Literal["start of interval", "moment of start", "both", "unknown"]


def read_naming(conn: Session, head: str) -> Naming:
    """What a source's own plain schedules name their runs for.

    A 3.x that has serialized both kinds may name a timetable in some DAG files, and in which is not recorded.

    :param head: alembic head of the source
    """
    releases = releases_at(head)
    if releases and releases[-1].number < FIRST_WITH_SETTING:
        return "start of interval"
    schedules = [rules.schedule for rules in read_rules(conn).values() if rules.parsed and rules.schedule.ticks]
    # Up to 3.2 timedeltas had a setting of their own; crons are what most DAGs have.
    crons = [schedule for schedule in schedules if schedule.kind == "cron"] or schedules
    found = {schedule.trigger for schedule in crons}
    if len(found) != 1:
        return "both" if found else "unknown"
    return "moment of start" if found.pop() else "start of interval"


def decide(choice: str, naming: Naming, target: Release) -> bool | None:
    """What the target's setting has to be; None where it is left as it is.

    :raises InvalidInputError: the target cannot do what was chosen
    """
    if target.number < FIRST_WITH_SETTING:
        if choice == TRIGGER:
            raise InvalidInputError(
                f"cron_timetable is {TRIGGER}, and Airflow {target} has no such timetable for plain cron strings",
                where="params of the run",
                remedy=f"Use {DATA_INTERVAL}, or a target of 3.0 or newer",
            )
        return None
    if naming == "start of interval":
        return choice == DATA_INTERVAL
    return False if naming == "moment of start" else None


def missing_settings(wanted: bool | None, present: Mapping[str, str]) -> dict[str, str]:
    """The settings that the target needs and does not have.

    :param present: settings of the target, as far as they can be read
    """
    if wanted is None:
        return {}
    names = (CRON_SETTING, DELTA_SETTING)
    return {name: str(wanted) for name in names if (present.get(name, "").strip().lower() in _TRUE) != wanted}


def check(naming: Naming, wanted: bool | None, missing: Mapping[str, str], *, by_hand: bool) -> Iterator[Finding]:
    """What a person must know of it before approving.

    :param by_hand: nobody but a person can look at and change the target's settings
    """
    if naming == "both" and wanted is None:
        yield Finding(
            check="cron_timetable",
            severity="warning",
            summary="the source's DAGs have both kinds of timetables; which of them their files name is not recorded",
            remedy=f"Give the target the {IN_WORDS} that the source has; it is left as it is",
        )
    if wanted is None:
        return
    kept = "keep their meaning" if wanted or naming == "moment of start" else "become the moment of the run's start"
    if by_hand and wanted:
        yield Finding(
            check="cron_timetable",
            severity="warning",
            summary=f"logical dates {kept} only if the target has {IN_WORDS} = True, which cannot be seen from here",
            remedy="Set it where the target's DAG processor runs, before it starts",
        )
    elif missing and not by_hand:
        yield Finding(
            check="cron_timetable",
            severity="warning",
            summary=f"the target's settings have {IN_WORDS} = {not wanted}; logical dates {kept} with {wanted}",
            remedy="point_target sets it; the settings as they were are kept beside them",
        )
    else:
        yield Finding(check="cron_timetable", severity="ok", summary=f"logical dates {kept}")
