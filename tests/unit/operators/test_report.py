"""The files of a report, whatever is in it."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_migration.operators.report import write_report


def test_what_cannot_be_laid_out_is_written_and_shown_all_the_same(reports_path: Path) -> None:
    odd = {"migration_id": "m", "status": "success", "steps": [{"unheard": "of"}]}
    path = write_report(odd, "m")
    assert json.loads(path.read_text()) == odd
    assert "unheard" in (reports_path / "m" / "report.html").read_text()
