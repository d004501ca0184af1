"""Tell people of a run by e-mail and in Slack, through the connections that the control Airflow has for that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import BaseHook, ObjectStoragePath, conf

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.links.routes import report_route, run_route
from airflow_migration.operators.base import errors_of
from airflow_migration.planning.notification import Notification, notification_of, notification_without_report
from airflow_migration.settings import notified_connections, notified_people

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

EMAIL, SLACK = "smtp", "slackwebhook"


class MigrationNotifier(BaseNotifier):
    """Callback of the task that writes a run's report, also where it could not.

    It runs in that task's process, so that what it says is in the task's log. A message that cannot be sent is logged
    there and changes nothing. ``[airflow_migration] notify_conn_ids`` names the connections.
    """

    def notify(self, context: Context) -> None:
        conn_ids = notified_connections()
        if not conn_ids:
            return
        message = self.message(context)
        for conn_id in conn_ids:
            try:
                send(conn_id, message, context)
            # Whatever a server or a library of the channel brings up: the other channels are still to be told.
            except Exception as err:
                self.log.error("Nobody was told by connection %s: %s: %s", conn_id, type(err).__name__, err)
            else:
                self.log.info("Told by connection %s: %s", conn_id, message.subject)

    def message(self, context: Context) -> Notification:
        ti, run = context["ti"], context["dag_run"]
        written = ti.xcom_pull(task_ids=ti.task_id)
        base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
        if written:
            report = json.loads(ObjectStoragePath(written["path"]).read_text())
            link = f"{base}{report_route(run.dag_id, run.run_id)}" if base else None
            return notification_of(report, path=written["path"], link=link)
        return notification_without_report(
            dag_id=run.dag_id,
            run_id=run.run_id,
            errors=errors_of(context, _tasks(context)),
            link=f"{base}{run_route(run.dag_id, run.run_id)}" if base else None,
        )


def _tasks(context: Context) -> list[str]:
    """Those that may have left an error."""
    task: Any = context["task"]
    return [task.plan_task_id, *(name for name in task.step_task_ids if name != task.plan_task_id)]


def send(conn_id: str, message: Notification, context: Context) -> None:
    """Hand a message to the notifier of the connection's type.

    It is not rendered as a template: what a report says may look like one.

    :raises InvalidInputError: nobody can be told by it
    """
    kind = BaseHook.get_connection(conn_id).conn_type
    if kind == EMAIL:
        _email(conn_id, message).notify(context)
    elif kind == SLACK:
        _slack(conn_id, message).notify(context)
    else:
        raise _cannot(f"its type is {kind}", f"Use one of type {EMAIL} or {SLACK}")


def _email(conn_id: str, message: Notification) -> BaseNotifier:
    people = notified_people()
    if not people:
        raise _cannot("no address is given", "Set [airflow_migration] notify_emails")
    try:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier
    except ImportError:
        raise _cannot("its provider is missing", "Install apache-airflow-providers-smtp") from None
    return SmtpNotifier(smtp_conn_id=conn_id, to=people, subject=message.subject, html_content=message.html)


def _slack(conn_id: str, message: Notification) -> BaseNotifier:
    try:
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
    except ImportError:
        raise _cannot("its provider is missing", "Install apache-airflow-providers-slack") from None
    return SlackWebhookNotifier(slack_webhook_conn_id=conn_id, text=message.slack, unfurl_links=False)


def _cannot(problem: str, remedy: str) -> InvalidInputError:
    return InvalidInputError(problem, where="[airflow_migration] notify_conn_ids", remedy=remedy)
