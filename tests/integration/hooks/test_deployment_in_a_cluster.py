"""The hook, by a connection of type kubernetes, against a cluster and the server that its secrets lead to."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from airflow.sdk._shared.secrets_masker import redact
from kubernetes import client
from psycopg import sql
from tests.kubernetes.conftest import ACCOUNT, ClusterUnderTest, api_client, apply_manifest, token_of_account
from tests.kubernetes.fake.cluster import FakeCluster
from tests.kubernetes.release import RELEASE, Release

from airflow_migration.exceptions import MigrationError
from airflow_migration.hooks.deployment import DeploymentHook, open_cluster
from airflow_migration.postgres.address import DatabaseAddress

NAMESPACE = "hooked"
LOGIN = "hooked"
Hook = Callable[..., DeploymentHook]


@pytest.fixture
def installed(corpus: Callable[[str], DatabaseAddress]) -> Iterator[Release]:
    """A release with a real metadata database, and the service account of ``docs/kubernetes/rbac.yaml``."""
    database, password = corpus("2.10.5"), f"p&ss w/ %signs {uuid.uuid4()}"
    with database.connect(read_only=False) as conn:
        role = sql.Identifier(LOGIN)
        conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))
        conn.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(role, sql.Literal(password)))
    fake = FakeCluster().start()
    fake.add_namespace(NAMESPACE)
    admin = api_client(fake.url, fake.admin_token)
    apply_manifest(admin, NAMESPACE)
    token = token_of_account(admin, NAMESPACE)
    cluster = ClusterUnderTest(admin=admin, api=admin, url=fake.url, token=token, namespace=NAMESPACE, fake=fake)
    release = Release(cluster=cluster, image="pause")
    login = f"{LOGIN}:{quote(password, safe='')}"
    release.install(uri=f"postgresql://{login}@{database.host}:{database.port}/{database.database}")
    yield release
    fake.stop()
    assert fake.errors == []


@pytest.fixture
def hook(installed: Release, monkeypatch: pytest.MonkeyPatch) -> Hook:
    def define(kube: dict[str, Any] | None = None, server: str | None = None, **control: Any) -> DeploymentHook:
        extra = {"kube_config": kubeconfig(installed.cluster, server)} if kube is None else kube
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        said = {"kind": "kubernetes", "conn_id": "cluster", "namespace": NAMESPACE, "release": RELEASE} | control
        fields = {"conn_type": "airflow_deployment", "extra": {"control": said}}
        monkeypatch.setenv("AIRFLOW_CONN_MOVED_TO", json.dumps(fields))
        return DeploymentHook("moved_to")

    return define


def kubeconfig(cluster: ClusterUnderTest, server: str | None = None) -> str:
    content = {
        "clusters": [{"name": "c", "cluster": {"server": server or cluster.url}}],
        "users": [{"name": "u", "user": {"token": cluster.token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    return json.dumps(content)


def secrets_of(installed: Release) -> list[str]:
    """The password, as it is and as the connection string spells it, and the account's token."""
    uri = installed.value(f"{RELEASE}-metadata", "connection")
    spelt = uri.partition("@")[0].rpartition(":")[2]
    return [unquote(spelt), spelt, installed.cluster.token]


def refused(hook: DeploymentHook, secrets: list[str]) -> str:
    """What the button and a step say, which is the same one sentence with no secret in it."""
    works, answer = hook.test_connection()
    assert not works
    with pytest.raises(MigrationError) as caught:
        hook.deployment()
    assert str(caught.value) == answer
    assert "\n" not in answer
    assert not [secret for secret in secrets if secret in answer]
    return str(answer)


def test_the_button_finds_database_and_release_by_namespace_and_release_alone(hook: Hook) -> None:
    works, answer = hook().test_connection()
    assert works, answer
    assert "2.10.3 to 2.11." in answer
    assert f'release "{RELEASE}" in namespace {NAMESPACE}' in answer


def test_what_was_read_from_the_cluster_is_masked_in_logs(hook: Hook, installed: Release) -> None:
    secrets = secrets_of(installed)
    assert all(secret in str(redact(f"it is {secret}")) for secret in secrets)
    deployment = hook().deployment()
    assert deployment.address.password.reveal() == secrets[0]
    assert not any(secret in str(redact(f"it is {secret}")) for secret in secrets)


def test_each_mistake_in_the_target_is_one_sentence(hook: Hook, installed: Release) -> None:
    secrets = secrets_of(installed)
    assert "namespace elsewhere" in refused(hook(namespace="elsewhere"), secrets)
    assert "no secret other-airflow-metadata or other-metadata" in refused(hook(release="other"), secrets)
    assert 'secret "none"' in refused(hook(metadata_from="none"), secrets)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert "does not answer" in refused(hook(server=address), secrets)
    client.RbacAuthorizationV1Api(installed.cluster.admin).delete_namespaced_role_binding(ACCOUNT, NAMESPACE)
    assert "may not get secrets" in refused(hook(), secrets)


@pytest.mark.parametrize(
    "kube",
    [
        {},
        {"kube_config": "{"},
        {"kube_config": "token: s3cret-of-the-cluster\n\tbroken"},
        {"kube_config": "text"},
        {"kube_config": "[]"},
        {"kube_config_path": "/no/such/file"},
        {"in_cluster": True},
    ],
    ids=str,
)
def test_a_connection_that_names_no_cluster_is_one_sentence(
    kube: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps({"conn_type": "kubernetes", "extra": kube}))
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    with pytest.raises(MigrationError, match="names no cluster") as caught:
        open_cluster("cluster")
    assert caught.value.where == 'connection "cluster"'
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_button_names_the_rights_that_are_missing(hook: Hook, installed: Release) -> None:
    rbac = client.RbacAuthorizationV1Api(installed.cluster.admin)
    role = rbac.read_namespaced_role(ACCOUNT, NAMESPACE)
    role.rules = [rule for rule in role.rules if "apps" not in rule.api_groups]
    rbac.replace_namespaced_role(ACCOUNT, NAMESPACE, role)
    works, answer = hook().test_connection()
    assert not works
    assert "get deployments" in answer
