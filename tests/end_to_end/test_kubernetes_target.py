"""A target in a cluster by the real DAGs: from two connections and a kubeconfig to a migrated Airflow, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg import sql
from tests.end_to_end.control import Control
from tests.kubernetes.conftest import ClusterUnderTest, api_client, apply_manifest, token_of_account
from tests.kubernetes.fake.cluster import FakeCluster
from tests.kubernetes.release import COMPONENTS, KEY, RELEASE, Release

from airflow_migration.metadata.releases import read_head, release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret
from demo.leaks import Arguments, Search

NAMESPACE, IMAGE, GOAL = "target", "apache/airflow:{release}", "3.3.2"
BEFORE, AFTER = "airflow_before", "airflow_after"
LOGIN, PASSWORD = "in the cluster", "of the cluster, %never& shown"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the cluster holds, and how many DAGs of either side are active.

    :param values: secret/key → value
    """

    values: dict[str, str]
    replicas: list[int]
    pods: list[str]
    active: list[int]


@dataclass(frozen=True, kw_only=True)
class Journey:
    """A migration and its roll back, each as one run of its DAG.

    :param uri: of the metadata secret, before
    :param secrets: name that may be shown → value
    :param report: of the migration
    :param arguments: of every process that was seen meanwhile
    :param head: of the migrated database
    """

    control: Control
    uri: str
    secrets: dict[str, str]
    report: dict[str, Any]
    arguments: set[str]
    before: Seen
    migrated: Seen
    back: Seen
    head: str


@pytest.fixture(scope="module")
def installed() -> Iterator[Release]:
    """A cluster of its own, in which the service account of ``docs/kubernetes/rbac.yaml`` waits."""
    fake = FakeCluster().start()
    fake.add_namespace(NAMESPACE)
    admin = api_client(fake.url, fake.admin_token)
    apply_manifest(admin, NAMESPACE)
    token = token_of_account(admin, NAMESPACE)
    cluster = ClusterUnderTest(
        admin=admin, api=api_client(fake.url, token), url=fake.url, token=token, namespace=NAMESPACE, fake=fake
    )
    yield Release(cluster=cluster, image="pause")
    fake.stop()
    assert fake.errors == []


@pytest.fixture(scope="module")
def journey(
    installed: Release,
    corpus: Callable[[str], DatabaseAddress],
    runtimes: VenvRuntime,
    fernet_key: Secret,
    control_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Journey:
    fake = installed.cluster.fake
    assert fake is not None
    fake.images.programs[IMAGE.format(release=GOAL)] = Path(runtimes.prepare(GOAL, lambda _: None)) / "bin"
    source = corpus("2.10.5")
    target = fresh_target(source)
    login = f"{quote(target.user)}:{quote(PASSWORD)}"
    uri = f"postgresql://{login}@{target.host}:{target.port}/{BEFORE}"
    installed.install(replicas=2, uri=uri)
    in_cluster = {"conn_id": "target_cluster", "namespace": NAMESPACE}
    control = Control(
        tmp_path_factory.mktemp("journey"),
        control_database,
        target_cluster={"conn_type": "kubernetes", "extra": {"kube_config": kubeconfig(installed.cluster)}},
        migration_source={
            "conn_type": "airflow_deployment",
            "host": source.host,
            "port": source.port,
            "login": source.user,
            "password": source.password.reveal(),
            "schema": source.database,
            "extra": {"secret_fernet_key": fernet_key.reveal()},
        },
        migration_target={
            "conn_type": "airflow_deployment",
            "extra": {
                "airflow_version": GOAL,
                "control": {"kind": "kubernetes", "release": RELEASE} | in_cluster,
                "runtime": {"kind": "kubernetes", "image": IMAGE} | in_cluster,
            },
        },
    )

    def look(database: str) -> Seen:
        return see(installed, [source, target.on(database)])

    before = see(installed, [source])
    with Arguments() as arguments:
        report = control.run("migrate_airflow", target_database=AFTER, backup=False)
        migrated = look(AFTER)
        with target.on(AFTER).connect() as conn:
            head = read_head(conn)
        control.run("roll_back_migration", migration_id=report["migration_id"])
    return Journey(
        control=control,
        uri=uri,
        secrets={
            "the password in the cluster": PASSWORD,
            "the same as the secret spells it": quote(PASSWORD),
            "the source's fernet key": fernet_key.reveal(),
            "the target's fernet key": KEY,
            "the kubeconfig's token": installed.cluster.token,
        },
        report=report,
        arguments=arguments.seen,
        before=before,
        migrated=migrated,
        back=see(installed, [source]),
        head=head,
    )


def fresh_target(source: DatabaseAddress) -> DatabaseAddress:
    """A login of its own with an empty database; one DAG of the source is active."""
    with source.connect(read_only=False) as conn:
        conn.execute("UPDATE dag SET is_paused = false WHERE dag_id = (SELECT min(dag_id) FROM dag)")
    login = sql.Identifier(LOGIN)
    with source.maintenance().connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(login, sql.Literal(PASSWORD)))
        conn.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(BEFORE), login))
    return replace(source.on(BEFORE), user=LOGIN, password=Secret(PASSWORD))


def kubeconfig(cluster: ClusterUnderTest) -> str:
    """As `kubectl` keeps it."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
            "users": [{"name": "u", "user": {"token": cluster.token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


def see(installed: Release, databases: list[DatabaseAddress]) -> Seen:
    active = []
    for address in databases:
        with address.connect() as conn:
            ((count,),) = conn.execute("SELECT count(*) FROM dag WHERE NOT is_paused").fetchall()
            active.append(int(str(count)))
    names = [(name, key) for name, data in installed.secrets().items() for key in data]
    listed = installed.core.list_namespaced_pod(NAMESPACE).items
    pods = [each for each in listed if each.metadata.deletion_timestamp is None]
    return Seen(
        values={f"{name}/{key}": installed.value(name, key) for name, key in names},
        replicas=[installed.look(each).spec.replicas for each in COMPONENTS],
        pods=sorted(each.metadata.labels.get("component", each.metadata.name) for each in pods),
        active=active,
    )


def test_two_connections_and_a_kubeconfig_are_enough(journey: Journey, fernet_key: Secret) -> None:
    report, seen = journey.report, journey.migrated
    assert report["verified"]
    assert report["plan"]["active_dags"] == 1
    assert journey.head == release(GOAL).head
    assert seen.active == [0, 1]
    assert seen.replicas == journey.before.replicas == [2, 2, 2]
    assert seen.pods == journey.before.pods == sorted(COMPONENTS * 2)
    assert seen.values == {
        f"{RELEASE}-fernet-key/fernet-key": fernet_key.reveal(),
        f"{RELEASE}-fernet-key-before-migration/fernet-key": KEY,
        f"{RELEASE}-metadata/connection": journey.uri.replace(BEFORE, AFTER),
        f"{RELEASE}-metadata-before-migration/connection": journey.uri,
        f"{RELEASE}-result-backend/connection": f"db+{journey.uri.replace(BEFORE, AFTER)}",
        f"{RELEASE}-result-backend-before-migration/connection": f"db+{journey.uri}",
    }


def test_a_roll_back_leaves_the_cluster_as_it_was(journey: Journey) -> None:
    assert journey.back == journey.before
    assert journey.back.active == [1]


def test_no_secret_of_the_cluster_is_told(journey: Journey) -> None:
    control = journey.control
    search = Search(journey.secrets)
    search.texts(control.said, "what the DAGs have printed")
    search.files([control.folder / "control" / "logs", control.folder / "reports"])
    search.texts(journey.arguments, "arguments of a process")
    for table, row in control.rows():
        search.text(row, f"table {table}")
    assert {"xcom", "rendered_task_instance_fields", "task_instance"} <= {table for table, _ in control.rows()}
    assert any("upgrade_1" in said for said in control.said)
    assert any("db migrate" in each for each in journey.arguments)
    assert search.leaks == []
