"""Where the console and its reports are in the control Airflow's UI; the console serves what the links name."""

from __future__ import annotations

from urllib.parse import quote

URL_PREFIX = "/migrations"
"""Of the console's FastAPI app."""
CONSOLE_VIEW = "migrations"
"""`url_route` of the page in the navigation."""
RUN_VIEW = "migration"
"""`url_route` of the tab on a DAG run; Airflow lets no two views share one."""
REPORTS = f"{URL_PREFIX}/reports/{{dag_id}}/{{run_id}}"


def report_route(dag_id: str, run_id: str) -> str:
    """Path of a run's report as a page, below the path of Airflow's own base URL."""
    return REPORTS.format(dag_id=_part(dag_id), run_id=_part(run_id))


def run_route(dag_id: str, run_id: str) -> str:
    """Path of a run's tab, below the path of Airflow's own base URL."""
    return f"/dags/{_part(dag_id)}/runs/{_part(run_id)}/plugin/{RUN_VIEW}"


def _part(text: str) -> str:
    """A run id holds colons and a plus, which a path may, and perhaps a slash, which it may not."""
    return quote(text, safe=":+")
