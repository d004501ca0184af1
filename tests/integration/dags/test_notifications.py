"""People are told of runs by real servers: each DAG is run until its preflight refuses what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.dags.conftest import DAGS
from tests.receiving import Received, mail_server, webhook

from airflow_migration.planning.report_folders import MIGRATE, REHEARSE, ROLL_BACK
from airflow_migration.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import DAG

TOKEN = "T000/secret-of-the-webhook"
UNKNOWN = "nowhere_at_all"
TO = ["ops@example.org", "night@example.org"]


@pytest.fixture(scope="module")
def dags(serialized_dag: Callable[[str], Any]) -> dict[str, DAG]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(DAGS))
    assert not bag.import_errors
    return bag.dags


@pytest.fixture
def channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Received]]]:
    """Both servers, with their connections in the configuration, and reports in a folder of their own."""
    with mail_server() as mails, webhook() as posts, webhook(500) as broken:
        mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": mails.port}
        mail["extra"] = {"from_email": "airflow@example.org", "disable_ssl": True, "disable_tls": True}
        monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(mail))
        for name, server in (("SLACK", posts), ("BROKEN", broken)):
            hook = {"conn_type": "slackwebhook", "host": f"http://127.0.0.1:{server.port}/services", "password": TOKEN}
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(hook))
        monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__REPORTS_PATH", str(tmp_path))
        monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__NOTIFY_EMAILS", ", ".join(TO))
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example.org")
        settings.cache_clear()

        def use(*conn_ids: str) -> list[Received]:
            monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__NOTIFY_CONN_IDS", ",".join(conn_ids))
            return [mails, posts, broken]

        yield use
        settings.cache_clear()


def refused(dag: DAG, **conf: Any) -> str:
    """A run that preflight ends; its id. Of its tasks only the first and the report's are left, to save time."""
    (first,) = (name for name in dag.task_ids if name.startswith("preflight"))
    (last,) = (name for name in dag.task_ids if name.startswith("report"))
    short = dag.partial_subset([first, last], include_upstream=False, include_downstream=False)
    short.get_task(first) >> short.get_task(last)
    run = short.test(run_conf={"source_conn_id": UNKNOWN, "target_conn_id": UNKNOWN} | conf)
    return str(run.run_id)


@pytest.mark.parametrize(
    ("dag_id", "conf", "subject"),
    [
        (MIGRATE, {}, "Migration {run_id}: The migration stopped at preflight"),
        (REHEARSE, {}, "Rehearsal {run_id}: The rehearsal stopped at preflight"),
        (ROLL_BACK, {"migration_id": "m"}, "roll_back_migration {run_id}: it has no report"),
    ],
)
def test_a_run_that_failed_is_told_of_by_mail_and_in_slack(
    dags: dict[str, DAG], channels: Callable[..., list[Received]], dag_id: str, conf: dict[str, str], subject: str
) -> None:
    # A channel that fails does not keep the others from being used, nor change the run.
    mails, posts, broken = channels("broken", "not_there", "mail", "slack")
    run_id = refused(dags[dag_id], **conf)
    ((people, mail),) = mails.mails
    assert people == TO
    assert mail["From"] == "airflow@example.org"
    assert mail["Subject"] == subject.format(run_id=run_id)
    body = mail.get_body()
    assert body
    text = body.get_content()
    assert UNKNOWN in text
    assert "http://airflow.example.org/" in text
    ((path, post),) = posts.posts
    assert path == f"/services/{TOKEN}"
    assert post["text"].startswith(subject.format(run_id=run_id))
    assert UNKNOWN in post["text"]
    assert broken.posts


def test_nobody_is_told_where_nobody_is_to_be(dags: dict[str, DAG], channels: Callable[..., list[Received]]) -> None:
    mails, posts, _ = channels()
    refused(dags[MIGRATE])
    assert (mails.mails, posts.posts) == ([], [])
