"""Releases run as pods: a real upgrade by a real `airflow`, and everything that keeps a pod from it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.kubernetes.conftest import REASON_SECONDS, ClusterUnderTest
from tests.kubernetes.fake.faults import Fault
from tests.kubernetes.fake.pod_security import ENFORCE
from tests.listening import Heard
from tests.polling import until

from airflow_migration.deployments.deployment import read_deployment
from airflow_migration.deployments.kubernetes.cluster import Cluster, ForbiddenError
from airflow_migration.exceptions import InvalidInputError, MigrationError, OwnershipError, ToolError
from airflow_migration.metadata.releases import read_head, release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.progress import Progress
from airflow_migration.runtimes.kubernetes import KubernetesRuntime, database_token, pod_name
from airflow_migration.runtimes.pod_spec import PodOptions
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret
from airflow_migration.steps.migration import Workshop, build_runtime

IMAGE = "apache/airflow:{release}"
Runtimes = Callable[..., KubernetesRuntime]


class WorkerLostError(MigrationError):
    """Stands for the end of the process: nothing is cleaned up."""


def lost_at_a_revision(said: Progress | str) -> None:
    """A listener whose process ends at the first progress."""
    if isinstance(said, Progress):
        raise WorkerLostError("lost", where="worker", remedy="Retry")


@pytest.fixture
def pods(cluster: ClusterUnderTest, runtimes: VenvRuntime) -> Runtimes:
    """Makes a runtime whose images hold the real releases."""
    if cluster.fake is None:
        pytest.skip("the database of the tests cannot be reached from another machine's pods")

    def make(*releases: str, **options: Any) -> KubernetesRuntime:
        assert cluster.fake is not None
        for each in releases:
            folder = Path(str(runtimes.prepare(each, print))) / "bin"
            cluster.fake.images.programs[IMAGE.replace("{release}", each)] = folder
        given: dict[str, Any] = {"namespace": cluster.namespace, "image": IMAGE, "start_timeout": 20} | options
        return KubernetesRuntime(lambda: Cluster(cluster.api, cluster.namespace), PodOptions(**given))

    return make


@pytest.fixture
def left(cluster: ClusterUnderTest) -> Callable[[], list[str]]:
    """Names of pods and secrets that are there."""

    def names() -> list[str]:
        core = client.CoreV1Api(cluster.admin)
        found = [
            *core.list_namespaced_pod(cluster.namespace).items,
            *core.list_namespaced_secret(cluster.namespace).items,
        ]
        return [each.metadata.name for each in found if each.metadata.deletion_timestamp is None]

    return names


@pytest.fixture
def seen(cluster: ClusterUnderTest) -> Iterator[Callable[[], str]]:
    """Every pod as it was made, and what it printed, as anybody sees it who may read pods and logs."""
    found: dict[str, str] = {}
    done = threading.Event()

    def look() -> None:
        core = client.CoreV1Api(cluster.admin)
        while not done.wait(0.1):
            for pod in core.list_namespaced_pod(cluster.namespace).items:
                try:
                    text = core.read_namespaced_pod_log(pod.metadata.name, cluster.namespace)
                except client.ApiException:
                    continue  # it has not begun, or is gone
                found[pod.metadata.name] = f"{cluster.admin.sanitize_for_serialization(pod)}\n{text}"

    thread = threading.Thread(target=look)
    thread.start()
    yield lambda: "\n".join(found.copy().values())
    done.set()
    thread.join()


def head(address: DatabaseAddress) -> str:
    with address.connect() as session:
        return read_head(session)


def test_a_pod_upgrades_a_database_and_leaves_nothing(
    corpus: Callable[[str], DatabaseAddress],
    pods: Runtimes,
    left: Callable[[], list[str]],
    fernet_key: Secret,
    seen: Callable[[], str],
) -> None:
    address, heard, before = corpus("2.7.3"), Heard(), left()
    runtime = pods("2.11.2")
    result = runtime.upgrade("2.11.2", address, fernet_key, heard)
    assert result.to_head == head(address) == release("2.11.2").head
    assert (result.exit_code, result.from_head) == (0, release("2.7.3").head)
    told = heard.progress
    assert told[-1].done == told[-1].total == len(result.revisions)
    assert 0 < sum(each.seconds for each in result.revisions) <= result.seconds
    again = runtime.upgrade("2.11.2", address, fernet_key, heard)
    assert again.revisions == ()
    output = runtime.run("2.11.2", address, fernet_key, ["connections", "get", "pg_dwh", "-o", "json"])
    assert output.exit_code == 0, output.errors.reveal()
    shown_password = json.loads(output.output.reveal())[0]["password"]
    until(lambda: left() == before)
    shown = seen()
    assert address.password.reveal() not in heard.text
    assert "secretKeyRef" in shown
    for hidden in (address.password.reveal(), fernet_key.reveal(), shown_password, "Running upgrade"):
        assert hidden
        assert hidden not in shown


def test_a_retry_goes_on_with_the_pod_of_a_lost_worker(
    corpus: Callable[[str], DatabaseAddress], pods: Runtimes, left: Callable[[], list[str]], fernet_key: Secret
) -> None:
    address, before = corpus("2.10.5"), left()

    with pytest.raises(WorkerLostError):
        pods("3.3.2").upgrade("3.3.2", address, fernet_key, lost_at_a_revision)
    (name, secret) = [each for each in left() if each not in before]
    assert name == secret
    heard = Heard()
    result = pods("3.3.2").upgrade("3.3.2", address, fernet_key, heard)
    assert "going on with it" in heard.text
    assert result.to_head == head(address) == release("3.3.2").head
    assert result.from_head == release("2.10.5").head
    assert heard.progress[-1].done == len(result.revisions)
    until(lambda: left() == before)


def test_what_a_lost_worker_left_is_removed_for_a_roll_back(
    cluster: ClusterUnderTest,
    corpus: Callable[[str], DatabaseAddress],
    pods: Runtimes,
    left: Callable[[], list[str]],
    fernet_key: Secret,
) -> None:
    address, before = corpus("2.10.5"), left()

    with pytest.raises(WorkerLostError):
        pods("3.3.2").upgrade("3.3.2", address, fernet_key, lost_at_a_revision)
    asked: list[str | None] = []

    def open_cluster(conn_id: str | None) -> client.ApiClient:
        asked.append(conn_id)
        return cluster.api

    deployment = read_deployment(
        where="target",
        host=address.host,
        port=address.port,
        login=address.user,
        password=address.password.reveal(),
        database=address.database,
        extra={"runtime": {"kind": "kubernetes", "conn_id": "c", "namespace": cluster.namespace, "image": IMAGE}},
        open_cluster=open_cluster,
    )
    workshop = Workshop(runtimes_path=Path("/nonexistent"), dumps_path=Path("/nonexistent"), reports_path="")
    runtime = build_runtime(deployment, workshop)
    runtime.clear(address.on("another"), Heard())
    assert len(left()) == len(before) + 2
    runtime.clear(address, Heard())
    assert left() == before
    assert asked == ["c"]


def test_a_cut_connection_costs_no_line(
    cluster: ClusterUnderTest, corpus: Callable[[str], DatabaseAddress], pods: Runtimes, fernet_key: Secret
) -> None:
    address, heard = corpus("2.7.3"), Heard()
    cluster.faults.add(Fault("cut_middle", "get", "pods/log", times=2))
    result = pods("2.11.2").upgrade("2.11.2", address, fernet_key, heard)
    assert result.to_head == head(address)
    lines = [each for each in heard.said if isinstance(each, str) and "Running upgrade" in each]
    assert len(lines) == len(set(lines)) == len(result.revisions)


def test_an_image_that_cannot_be_had_is_named(
    corpus: Callable[[str], DatabaseAddress], pods: Runtimes, left: Callable[[], list[str]], fernet_key: Secret
) -> None:
    address, before = corpus("2.10.5"), left()
    runtime = pods(image="registry.invalid/airflow:{release}", start_timeout=REASON_SECONDS)
    with pytest.raises(ToolError) as caught:
        runtime.prepare("3.3.2", Heard())
    assert "registry.invalid/airflow:3.3.2" in str(caught.value)
    assert "ImagePullBackOff" in str(caught.value)
    with pytest.raises(ToolError):
        runtime.upgrade("3.3.2", address, fernet_key, Heard())
    assert head(address) == release("2.10.5").head
    until(lambda: left() == before)


def test_a_pod_that_no_node_takes_says_why(pods: Runtimes, left: Callable[[], list[str]]) -> None:
    before = left()
    with pytest.raises(ToolError) as caught:
        pods(node_selector={"disk": "none"}, start_timeout=REASON_SECONDS).prepare("3.3.2", Heard())
    assert "Unschedulable" in str(caught.value)
    assert "0/1 nodes" in str(caught.value)
    until(lambda: left() == before)


def test_an_image_of_another_release_is_refused(pods: Runtimes, left: Callable[[], list[str]]) -> None:
    before, heard = left(), Heard()
    assert pods("2.11.2").prepare("2.11.2", heard) == "apache/airflow:2.11.2"
    with pytest.raises(InvalidInputError) as caught:
        pods("2.11.2", image="apache/airflow:2.11.2").prepare("3.3.2", heard)
    assert "2.11.2" in caught.value.problem
    until(lambda: left() == before)


def test_an_account_that_may_not_make_pods_is_told_what_it_lacks(cluster: ClusterUnderTest, pods: Runtimes) -> None:
    rules = client.RbacAuthorizationV1Api(cluster.admin)
    role = rules.read_namespaced_role("airflow-migration", cluster.namespace)
    role.rules = [each for each in role.rules if "pods" not in each.resources]
    rules.replace_namespaced_role("airflow-migration", cluster.namespace, role)
    with pytest.raises(ForbiddenError) as caught:
        pods("2.11.2").prepare("2.11.2", Heard())
    assert "pods" in caught.value.problem
    assert "rbac.yaml" in caught.value.remedy


@pytest.fixture
def restricted(cluster: ClusterUnderTest) -> Iterator[None]:
    """The namespace takes no pod that might run as root."""
    core = client.CoreV1Api(cluster.admin)

    def enforce(standard: str | None) -> None:
        core.patch_namespace(cluster.namespace, {"metadata": {"labels": {ENFORCE: standard}}})

    enforce("restricted")
    yield
    enforce(None)


@pytest.mark.usefixtures("restricted")
def test_a_namespace_that_wants_no_root_is_told_of_and_served(pods: Runtimes, left: Callable[[], list[str]]) -> None:
    before = left()
    with pytest.raises(InvalidInputError) as caught:
        pods("2.11.2").prepare("2.11.2", Heard())
    assert "restricted" in caught.value.problem
    assert "run_as_user" in caught.value.remedy
    assert not isinstance(caught.value, ForbiddenError)
    assert pods("2.11.2", run_as_user=50000).prepare("2.11.2", Heard()) == "apache/airflow:2.11.2"
    until(lambda: left() == before)


def test_a_pod_of_somebody_else_is_left_alone(
    cluster: ClusterUnderTest, corpus: Callable[[str], DatabaseAddress], pods: Runtimes, fernet_key: Secret
) -> None:
    address, core = corpus("2.10.5"), client.CoreV1Api(cluster.admin)
    runtime = pods("3.3.2")
    name = pod_name("upgrade", "3.3.2", database_token(address))
    core.create_namespaced_secret(cluster.namespace, {"metadata": {"name": name}, "data": {}})
    with pytest.raises(OwnershipError):
        runtime.upgrade("3.3.2", address, fernet_key, Heard())
    assert core.read_namespaced_secret(name, cluster.namespace).metadata.labels is None
    assert head(address) == release("2.10.5").head


def test_stop_ends_the_pod_and_what_it_runs(
    corpus: Callable[[str], DatabaseAddress], pods: Runtimes, left: Callable[[], list[str]], fernet_key: Secret
) -> None:
    address, before, runtime = corpus("2.10.5"), left(), pods("3.3.2")

    def stop_at_a_revision(said: Progress | str) -> None:
        if isinstance(said, Progress):
            runtime.stop()

    with pytest.raises(ToolError):
        runtime.upgrade("3.3.2", address, fernet_key, stop_at_a_revision)
    until(lambda: left() == before)
    result = pods("3.3.2").upgrade("3.3.2", address, fernet_key, Heard())
    assert result.to_head == head(address) == release("3.3.2").head
