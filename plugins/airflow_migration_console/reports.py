"""Find the report of a run by the rule by which it was written; nothing else can be read from here."""

from __future__ import annotations

import json
from typing import Literal

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_migration.planning.report_folders import DAG_IDS, folder_pattern
from airflow_migration.settings import settings

Name = Literal["report.html", "report.json"]


def read_report(dag_id: str, run_id: str, name: Name) -> str | None:
    """A file of a run's report; None when the run has none.

    :param dag_id: of one of our DAGs; others have no reports
    """
    if dag_id not in DAG_IDS:
        return None
    root = ObjectStoragePath(settings().reports_path)
    for data in root.glob(f"{folder_pattern(dag_id, run_id)}/report.json"):
        text = data.read_text()
        if _is_of(json.loads(text), run_id):
            if name == "report.json":
                return text
            page = data.with_name(name)
            return page.read_text() if page.exists() else None
    return None


def _is_of(report: dict[str, object], run_id: str) -> bool:
    """Two run ids may share a folder's name; a report of before its run was named in it belongs to its folder."""
    return report.get("run_id", run_id) == run_id
