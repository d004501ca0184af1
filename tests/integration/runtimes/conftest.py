"""The runtimes' own tests start each release as users do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_migration.runtimes.venv import VenvRuntime


@pytest.fixture(scope="session")
def runtimes() -> Iterator[VenvRuntime]:
    runtime = VenvRuntime(root=Path(__file__).parents[3] / "build" / "runtimes")
    yield runtime
    runtime.stop()
