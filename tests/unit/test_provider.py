"""What Airflow is told about the package."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
from airflow.configuration import AIRFLOW_HOME
from airflow.sdk._shared.module_loading import import_string

from airflow_migration import bundles
from airflow_migration.deployments.connection_type import CONNECTION_TYPE
from airflow_migration.deployments.deployment import OWN_EXTRAS
from airflow_migration.get_provider_info import get_provider_info
from airflow_migration.hooks.deployment import DeploymentHook
from airflow_migration.settings import settings


def test_airflow_accepts_the_provider_info() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_entry_point_gives_it() -> None:
    (point,) = entry_points(group="apache_airflow_provider").select(module=get_provider_info.__module__)
    assert point.load() is get_provider_info


def test_every_module_that_it_names_is_there() -> None:
    info = get_provider_info()
    for kind in ("hooks", "bundles"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                import_module(module)
    for path in (*info["extra-links"], *info["notifications"]):
        assert import_string(path).__name__ == path.rpartition(".")[2]


def test_the_connection_form_shows_every_extra_and_hides_the_key() -> None:
    (form,) = (each for each in HookMetaService.hook_meta_data() if each.connection_type == CONNECTION_TYPE)
    assert form.hook_class_name is not None
    assert import_string(form.hook_class_name) is DeploymentHook
    assert form.extra_fields is not None
    assert set(OWN_EXTRAS) <= set(form.extra_fields)
    hidden = [name for name, field in form.extra_fields.items() if field["schema"].get("format") == "password"]
    assert hidden == ["secret_fernet_key"]
    assert all(field["schema"]["title"] and field["description"] for field in form.extra_fields.values())
    assert form.standard_fields is not None
    assert form.standard_fields.url_schema is not None
    assert form.standard_fields.url_schema.title == "Metadata database"


def test_paths_lie_under_airflow_home_unless_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(AIRFLOW_HOME)
    settings.cache_clear()
    assert settings().runtimes_path == home / "migration-runtimes"
    assert settings().dumps_path == home / "migration-dumps"
    assert settings().reports_path == str(home / "migration-reports")
    assert settings().bin_path is None
    monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__RUNTIMES_PATH", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__REPORTS_PATH", "s3://bucket/reports")
    monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__POSTGRES_BIN_PATH", "/opt/pg/bin")
    assert settings().bin_path is None, "the configuration is read once"
    settings.cache_clear()
    assert settings().runtimes_path == tmp_path
    assert settings().reports_path == "s3://bucket/reports"
    assert settings().bin_path == "/opt/pg/bin"
    settings.cache_clear()


def test_the_bundle_offers_the_dags_of_the_checkout() -> None:
    bundle = bundles.MigrationDagBundle(name="migration")
    assert (bundle.path / "migrate_airflow.py").is_file()
