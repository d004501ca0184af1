"""The wheel, installed into clean Airflows: one install and one line of configuration offer the DAGs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uv

from airflow_migration.postgres.address import clean_environment

REPOSITORY = Path(__file__).parents[2]
BUNDLE = {"name": "migration", "classpath": "airflow_migration.bundles.MigrationDagBundle", "kwargs": {}}

OLDEST = [
    *("apache-airflow==3.1.0", "sqlalchemy<2.1"),
    "structlog<25.5",  # 3.1.0 itself imports what 25.5 has not
    *("--exclude-newer", "2026-03-20", "--exclude-newer-package", "ruff=false", "--exclude-newer-package", "uv=false"),
]
"""The oldest control Airflow, as of a day on which it had our oldest dependencies; uv and ruff run beside it."""
PINNED = ["--constraint", str(REPOSITORY / "requirements" / "dev.txt")]

AirflowCommand = Callable[..., str]


@pytest.fixture(scope="module", params=[PINNED, OLDEST], ids=["pinned", "oldest"])
def environment(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A virtual environment with nothing but the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("package")
    here = ["--no-build-isolation", "--python", sys.executable]
    run_uv("build", "--wheel", *here, "--out-dir", str(folder / "dist"), str(REPOSITORY))
    (wheel,) = (folder / "dist").glob("*.whl")
    run_uv("venv", "--python", sys.executable, str(folder / "venv"))
    python = str(folder / "venv" / "bin" / "python")
    run_uv("pip", "install", "--python", python, *request.param, str(wheel))
    return folder / "venv"


@pytest.fixture(scope="module")
def airflow(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> AirflowCommand:
    """Runs ``airflow`` of that environment in a home whose configuration is our one line."""
    home = tmp_path_factory.mktemp("home")
    (home / "airflow.cfg").write_text(
        f"[core]\nload_examples = False\n[dag_processor]\ndag_bundle_config_list = {json.dumps([BUNDLE])}\n"
    )

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [environment / "bin" / "airflow", *arguments],
            env=clean_environment() | {"AIRFLOW_HOME": str(home)},
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_airflow_lists_the_provider_and_its_hook(airflow: AirflowCommand) -> None:
    providers = rows(airflow("providers", "list", "--output", "json"))
    assert "airflow-provider-migration" in [each["package_name"] for each in providers]
    hooks = rows(airflow("providers", "hooks", "--output", "json"))
    (hook,) = (each for each in hooks if each["connection_type"] == "airflow_deployment")
    assert hook["class"] == "airflow_migration.hooks.deployment.DeploymentHook"


def test_the_settings_have_their_defaults(airflow: AirflowCommand) -> None:
    value = airflow("config", "get-value", "airflow_migration", "runtimes_path")
    assert value.strip().endswith("/migration-runtimes")


def test_one_line_of_configuration_offers_the_dags(airflow: AirflowCommand) -> None:
    airflow("db", "migrate")
    airflow("dags", "reserialize")
    dags = rows(airflow("dags", "list", "--output", "json"))
    expected = {path.stem for path in (REPOSITORY / "dags").glob("*.py")}
    assert {each["dag_id"] for each in dags} == expected
    assert {each["bundle_name"] for each in dags} == {"migration"}


def test_airflow_lists_the_console(airflow: AirflowCommand) -> None:
    plugins = rows(airflow("plugins", "--output", "json"))
    assert "airflow_migration_console" in [each["name"] for each in plugins]


def test_the_package_is_typed_and_brings_no_tests(environment: Path) -> None:
    (package,) = environment.glob("lib/python*/site-packages/airflow_migration")
    assert (package / "py.typed").is_file()
    assert (package / "planning" / "report_page" / "style.css").is_file()
    assert (package.parent / "airflow_migration_console" / "static" / "index.html").is_file()
    assert not (package.parent / "demo").exists()
    assert not (package.parent / "tests").exists()


def rows(output: str) -> list[dict[str, str]]:
    """What ``--output json`` prints, below what the providers log on the same stream."""
    parsed: list[dict[str, str]] = json.loads(output.strip().splitlines()[-1])
    return parsed


def run_uv(*arguments: str) -> None:
    done = subprocess.run(
        [uv.find_uv_bin(), "--quiet", *arguments],
        env=os.environ | {"UV_PYTHON_DOWNLOADS": "never"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
