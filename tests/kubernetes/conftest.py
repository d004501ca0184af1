"""A cluster for each test: the fake one, or with ``--kubeconfig`` a real one."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from tests.kubernetes.fake.cluster import FakeCluster
from tests.kubernetes.fake.faults import Faults

MANIFEST = Path(__file__).parents[2] / "docs" / "kubernetes" / "rbac.yaml"
ACCOUNT = "airflow-migration"
CALLS = pytest.StashKey[set[str]]()
"""The calls that one migration makes, once `test_calls` has run."""
REASON_SECONDS = 3
"""In which a node says why it cannot start a pod, even where it has to wait for a processor."""


@dataclass(frozen=True, kw_only=True)
class ClusterUnderTest:
    """A namespace of a cluster, real or not.

    :param admin: may do everything there
    :param api: a client with a token of the service account of ``docs/kubernetes/rbac.yaml``: what the package uses
    :param url: of the API server
    :param token: of that service account
    :param fake: the cluster, if it is ours
    """

    admin: client.ApiClient
    api: client.ApiClient
    url: str
    token: str
    namespace: str
    fake: FakeCluster | None

    @property
    def faults(self) -> Faults:
        """What the next requests meet."""
        if self.fake is None:
            pytest.skip("faults are asked of the fake cluster only")
        return self.fake.faults


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", help="run tests/kubernetes against this cluster, as its administrator")
    parser.addoption("--image", default="registry.k8s.io/pause:3.10", help="image of processes that do nothing")
    parser.addoption("--namespace", default="airflow-migration-tests", help="an existing namespace of that cluster")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the calls that one migration makes."""
    calls = config.stash.get(CALLS, set())
    if calls:
        terminalreporter.section("calls to the Kubernetes API that one migration makes")
        for call in sorted(calls, key=lambda call: call.split()[::-1]):
            terminalreporter.line(call)


@pytest.fixture(scope="session")
def fake_cluster() -> Iterator[FakeCluster]:
    """Our own; lives as long as the tests."""
    cluster = FakeCluster().start()
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterUnderTest]:
    """A cluster that afterwards holds what it held before."""
    kubeconfig = request.config.getoption("--kubeconfig")
    if kubeconfig:
        admin = config.new_client_from_config(kubeconfig)
        namespace, fake = str(request.config.getoption("--namespace")), None
    else:
        fake = request.getfixturevalue("fake_cluster")
        admin, namespace = api_client(fake.url, fake.admin_token), f"test-{uuid.uuid4().hex[:8]}"
        fake.add_namespace(namespace)
    before = _objects(admin, namespace)
    apply_manifest(admin, namespace)
    token = token_of_account(admin, namespace)
    yield ClusterUnderTest(
        admin=admin,
        api=api_client(admin.configuration.host, token, admin.configuration),
        url=admin.configuration.host,
        token=token,
        namespace=namespace,
        fake=fake,
    )
    for kind, name in _objects(admin, namespace) - before:
        try:
            DELETES[kind](admin)(name, namespace)
        except client.ApiException as err:
            if err.status != 404:  # gone with what it belonged to
                raise
    if fake is not None:
        fake.faults.clear()
        fake.images.unready.clear()
        fake.images.missing.clear()
        assert fake.errors == []


@pytest.fixture
def namespace(cluster: ClusterUnderTest) -> str:
    """The namespace of the test."""
    return cluster.namespace


def api_client(url: str, token: str, like: client.Configuration | None = None) -> client.ApiClient:
    """A client that comes in with a bearer token.

    :param like: whose certificates are trusted
    """
    configuration = client.Configuration(host=url)
    if like is not None:
        configuration.ssl_ca_cert, configuration.verify_ssl = like.ssl_ca_cert, like.verify_ssl
    configuration.api_key = {"authorization": f"Bearer {token}"}
    return client.ApiClient(configuration)


def manifest() -> list[dict[str, Any]]:
    """The documents of ``docs/kubernetes/rbac.yaml``."""
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def apply_manifest(admin: client.ApiClient, namespace: str) -> None:
    """Make the account with its role, or bring the role to what the manifest says now."""
    core, rbac = client.CoreV1Api(admin), client.RbacAuthorizationV1Api(admin)
    create = {
        "ServiceAccount": core.create_namespaced_service_account,
        "Role": rbac.create_namespaced_role,
        "RoleBinding": rbac.create_namespaced_role_binding,
    }
    for document in manifest():
        if document["kind"] == "RoleBinding":
            for subject in document["subjects"]:
                subject["namespace"] = namespace
        try:
            create[document["kind"]](namespace, document)
        except client.ApiException as err:
            if err.status != 409:
                raise
            if document["kind"] == "Role":
                rbac.replace_namespaced_role(ACCOUNT, namespace, document)


def token_of_account(admin: client.ApiClient, namespace: str) -> str:
    """A token of the manifest's service account."""
    body = {"spec": {"audiences": None, "expirationSeconds": 3600}}
    answer = client.CoreV1Api(admin).create_namespaced_service_account_token(ACCOUNT, namespace, body)
    return str(answer.status.token)


LISTS: dict[str, Callable[[client.ApiClient], Any]] = {
    "secret": lambda api: client.CoreV1Api(api).list_namespaced_secret,
    "deployment": lambda api: client.AppsV1Api(api).list_namespaced_deployment,
    "statefulset": lambda api: client.AppsV1Api(api).list_namespaced_stateful_set,
    "pod": lambda api: client.CoreV1Api(api).list_namespaced_pod,
}


DELETES: dict[str, Callable[[client.ApiClient], Callable[[str, str], Any]]] = {
    "secret": lambda api: client.CoreV1Api(api).delete_namespaced_secret,
    "deployment": lambda api: client.AppsV1Api(api).delete_namespaced_deployment,
    "statefulset": lambda api: client.AppsV1Api(api).delete_namespaced_stateful_set,
    "pod": lambda api: partial(client.CoreV1Api(api).delete_namespaced_pod, grace_period_seconds=0),
}


def _objects(api: client.ApiClient, namespace: str) -> set[tuple[str, str]]:
    """Kinds and names, in the order in which they are best removed."""
    found = [(kind, each.metadata.name) for kind, lists in LISTS.items() for each in lists(api)(namespace).items]
    return set(itertools.chain(found))
