"""Keep the records of runs below the reports' path, and find those that matter to a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_migration.planning.downtime_prediction import MIGRATIONS
from airflow_migration.planning.record_report import record_of
from airflow_migration.planning.report import MIGRATION, REHEARSAL
from airflow_migration.planning.run_records import Pair, RunRecord, read_records
from airflow_migration.progress import Listener

FOLDER = "records"
REHEARSALS = 20
"""So many are looked at, of one source and target: among them those with the same and with other params."""


@dataclass(frozen=True)
class ObjectStorageShelf:
    """The records of one kind of run; `path` may be an object storage URL."""

    path: ObjectStoragePath

    @classmethod
    def below(cls, reports_path: str, kind: str) -> ObjectStorageShelf:
        return cls(ObjectStoragePath(reports_path) / FOLDER / kind)

    def names(self) -> Iterable[str]:
        return [each.name for each in self.path.iterdir()] if self.path.exists() else []

    def read(self, name: str) -> str:
        return str((self.path / name).read_text(encoding="utf-8"))

    def keep(self, record: RunRecord) -> None:
        """Written again by a retry it replaces itself."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / record.name).write_text(record.to_text(), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class EarlierRuns:
    """What a prediction is made of.

    :param rehearsals: of this source and target, newest first
    :param migrations: of this control Airflow, newest first
    """

    rehearsals: tuple[RunRecord, ...]
    migrations: tuple[RunRecord, ...]


def earlier_runs(reports_path: str, pair: Pair, listener: Listener, *, but: str | None = None) -> EarlierRuns:
    """:param but: run id whose own record is left out"""
    rehearsals, migrations = (ObjectStorageShelf.below(reports_path, kind) for kind in (REHEARSAL, MIGRATION))
    return EarlierRuns(
        rehearsals=read_records(rehearsals, limit=REHEARSALS, listener=listener, pair=pair, but=but),
        migrations=read_records(migrations, limit=MIGRATIONS, listener=listener, but=but),
    )


def keep_record(reports_path: str, report: Mapping[str, Any]) -> None:
    """Keep what later runs want to know of this one."""
    record = record_of(report)
    if record is not None:
        ObjectStorageShelf.below(reports_path, record.kind).keep(record)
