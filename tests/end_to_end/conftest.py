"""One PostgreSQL and one control Airflow for every test here that asks: its start takes half a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from demo.stage import Stage

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the control Airflow and its tasks keep temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[Stage]:
    """The demo's scene, started; what it shows is in ``console.file``."""
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "terminal").open("w+") as terminal:
        console = Console(file=terminal, width=200)
        stage = Stage(folder=folder / "demo", runtimes=REPOSITORY / "build" / "runtimes", console=console)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TMPDIR", str(temporary))
                stage.set_up()
            yield stage
        finally:
            stage.stop()
            stage.server.remove()
