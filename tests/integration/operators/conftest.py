"""Connections in the environment and a task's context without a scheduler, for one operator at a time."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_migration.planning.options import Options
from airflow_migration.planning.roll_back import RollBackOptions
from airflow_migration.postgres.address import DatabaseAddress

RUN_ID = "manual__operators"
DAG_FILE = Path(__file__).parents[3] / "dags" / "migrate_airflow.py"


@dataclass
class Task:
    """What an operator sees of its task instance: XComs and states, as they are kept in the run."""

    xcoms: dict[tuple[str, str], Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    task_id: str = ""

    def xcom_pull(self, *, task_ids: str, key: str = "return_value") -> Any:
        return self.xcoms.get((task_ids, key))

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.xcoms[self.task_id, key] = json.loads(json.dumps(value))

    def get_task_states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        return {run_id: {name: self.states[name] for name in task_ids if name in self.states} for run_id in run_ids}


@dataclass
class Run:
    """One run of the DAG, an operator at a time, with the XComs of the earlier ones."""

    conf: dict[str, Any]
    task: Task = field(default_factory=Task)
    run_id: str = RUN_ID
    dag_id: str = "migrate_airflow"
    options: type[Options] | type[RollBackOptions] = Options
    start_date: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def execute(self, operator: Any) -> Any:
        """Execute and keep the result as its XCom, which must be plain JSON."""
        self.task.task_id = operator.task_id
        operator.migration_id = operator.roll_back_id = self.run_id
        fields = self.options.__dataclass_fields__.items()
        defaults = {name: each.default for name, each in fields if each.default is not MISSING}
        context = {
            "ti": self.task,
            "params": defaults | self.conf,
            "dag_run": SimpleNamespace(
                dag_id=self.dag_id, run_id=self.run_id, conf=self.conf, start_date=self.start_date
            ),
        }
        try:
            result = operator.execute(context)
        except BaseException as err:
            self.task.states[operator.task_id] = "skipped" if isinstance(err, AirflowSkipException) else "failed"
            raise
        self.task.states[operator.task_id] = "success"
        self.task.xcom_push(key="return_value", value=result)
        return result

    def error(self, task_id: str) -> dict[str, str]:
        """What a failed task left under its key."""
        error: dict[str, str] = self.task.xcoms[task_id, "error"]
        return error


@pytest.fixture
def new_run() -> Callable[..., Run]:
    """A run with the given conf; nobody needs to approve it."""
    return lambda run_id=RUN_ID, **conf: Run(conf={"require_approval": False} | conf, run_id=run_id)


@pytest.fixture
def new_roll_back() -> Callable[..., Run]:
    """A run of roll_back_migration; nobody needs to approve it."""
    return lambda **conf: Run(
        conf={"require_approval": False} | conf,
        run_id="manual__roll_back",
        dag_id="roll_back_migration",
        options=RollBackOptions,
    )


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Describes a deployment as a connection: ``connect("migration_source", address, secret_fernet_key=…)``."""

    def describe(conn_id: str, address: DatabaseAddress, *, password: str | None = None, **extra: Any) -> None:
        content = {
            "conn_type": "airflow_deployment",
            "host": address.host,
            "port": address.port,
            "login": address.user,
            "password": address.password.reveal() if password is None else password,
            "schema": address.database,
            "extra": extra,
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(content))

    return describe


@pytest.fixture
def target_env(tmp_path: Path) -> Path:
    """The settings of a target with a key of its own."""
    path = tmp_path / "airflow.env"
    path.write_text("AIRFLOW__CORE__FERNET_KEY=b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA=\n")
    return path


@pytest.fixture(scope="session")
def migrate() -> Callable[[Run], dict[str, Any]]:
    """Runs every task of the runbook that is not skipped; gives task id → result."""
    spec = importlib.util.spec_from_file_location("migrate_airflow_dag", DAG_FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def go(run: Run) -> dict[str, Any]:
        results = {}
        for task in [*module.runbook, module.migration_complete]:
            with suppress(AirflowSkipException):
                results[task.task_id] = run.execute(task)["result"]
        return results

    return go
