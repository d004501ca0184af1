"""What Airflow is told about the console: an app, a page in the navigation and a tab on each DAG run.

Airflow loads plugins in every process, tasks included; nothing of the web server is imported here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_migration.links.console import below_base_url
from airflow_migration.links.routes import CONSOLE_VIEW, RUN_VIEW, URL_PREFIX

NAME = "Migrations"

Message = MutableMapping[str, Any]


class Console:
    """The console's app, which is imported by the first process that is asked for a page."""

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        from airflow_migration_console.app import app

        await app(scope, receive, send)


PAGE = below_base_url(f"{URL_PREFIX}/")
"""Path of the page for a browser, below that of the UI."""


class AirflowMigrationConsolePlugin(AirflowPlugin):
    """Registered by the entry point ``airflow.plugins``, and nowhere else: twice is an error in the UI."""

    name = "airflow_migration_console"
    # Lists, as the base class has them; nobody changes them.
    fastapi_apps: list[Any] = [{"app": Console(), "url_prefix": URL_PREFIX, "name": NAME}]  # noqa: RUF012
    external_views: list[Any] = [  # noqa: RUF012
        {
            "name": NAME,
            "href": PAGE,
            "destination": "nav",
            "url_route": CONSOLE_VIEW,
            "icon": f"{PAGE}static/icon.svg",
            "icon_dark_mode": f"{PAGE}static/icon-dark.svg",
        },
        {
            "name": "Migration",
            "href": f"{PAGE}?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
            "destination": "dag_run",
            "url_route": RUN_VIEW,
            "icon": f"{PAGE}static/icon.svg",
            "icon_dark_mode": f"{PAGE}static/icon-dark.svg",
        },
    ]
