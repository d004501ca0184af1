"""Complete the report of a rehearsal by what earlier runs have measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_migration.planning.downtime_prediction import Wanted, predict_downtime
from airflow_migration.planning.record_report import record_of, told_by
from airflow_migration.planning.rehearsal_comparison import compare
from airflow_migration.planning.run_records import RunRecord

NOTHING: dict[str, Any] = {"prediction": None, "comparison": None}


def look_back(
    report: Mapping[str, Any], *, rehearsals: Sequence[RunRecord], migrations: Sequence[RunRecord]
) -> dict[str, Any]:
    """The report's ``prediction`` of the downtime, and its ``comparison`` with the rehearsal before.

    :param report: of `build_report`
    :param rehearsals: earlier ones of this source and target, newest first
    :param migrations: of this control Airflow, newest first
    """
    own = record_of(report)
    if own is None:
        return NOTHING
    prediction = (
        predict_downtime(Wanted.by(report["plan"]), rehearsals=(own, *rehearsals), migrations=migrations)
        if own.verified
        else None
    )
    own = replace(own, predicted=told_by(prediction))
    return {"prediction": prediction, "comparison": compare(rehearsals[0], own) if rehearsals else None}
