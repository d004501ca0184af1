"""The files of a report, whatever is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_migration.operators.report import write_report
from airflow_migration.settings import settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__REPORTS_PATH", str(tmp_path))
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_what_cannot_be_laid_out_is_written_and_shown_all_the_same(tmp_path: Path) -> None:
    odd = {"migration_id": "m", "status": "success", "steps": [{"unheard": "of"}]}
    path = write_report(odd, "m")
    assert json.loads(path.read_text()) == odd
    assert "unheard" in (tmp_path / "m" / "report.html").read_text()
