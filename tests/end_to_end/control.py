"""A control Airflow without processes of its own: each command is run to its end, as in a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


class Control:
    """Runs one DAG at a time, as README's terminal does.

    :param folder: for its home, dumps and reports
    :param database: of an Airflow that knows the DAGs, which is copied; None makes one, which takes ten seconds
    :param connections: id → fields
    :ivar said: what each command has printed, all logs of a DAG's tasks included
    """

    def __init__(self, folder: Path, database: Path | None = None, **connections: dict[str, Any]) -> None:
        self.folder = folder
        self.said: list[str] = []
        self._environment = os.environ | {
            "AIRFLOW_HOME": str(folder / "control"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__AIRFLOW_MIGRATION__RUNTIMES_PATH": str(REPOSITORY / "build" / "runtimes"),
            "AIRFLOW__AIRFLOW_MIGRATION__DUMPS_PATH": str(folder / "dumps"),
            "AIRFLOW__AIRFLOW_MIGRATION__REPORTS_PATH": str(folder / "reports"),
            "PYTHONPATH": str(REPOSITORY / "include"),
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(content) for name, content in connections.items()},
        }
        if database is None:
            for command in (["db", "migrate"], ["dags", "reserialize"]):
                self._airflow(*command)
        else:
            self.database.parent.mkdir()
            shutil.copy(database, self.database)

    @property
    def database(self) -> Path:
        return self.folder / "control" / "airflow.db"

    def run(self, dag_id: str, **conf: Any) -> dict[str, Any]:
        """Run a DAG to its end.

        :returns: the report that it has written
        """
        before = set(self.reports())
        nobody = {} if dag_id == "rehearse_migration" else {"require_approval": False}
        output = self._airflow("dags", "test", dag_id, "-c", json.dumps(nobody | conf))
        (path,) = set(self.reports()) - before
        report: dict[str, Any] = json.loads(path.read_text())
        assert report["status"] == "success", output[-6000:]
        return report

    def reports(self) -> list[Path]:
        return list((self.folder / "reports").rglob("report.json"))

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each row of its own database, with its table: XComs, rendered templates and all the rest."""
        with closing(sqlite3.connect(self.database)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    yield str(table), "|".join(map(str, row))

    def _airflow(self, *argv: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("airflow"), *argv],
            env=self._environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.said.append(done.stdout)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout
