"""A hop goes on in its pod whichever process is killed, and is ended by another."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Event
from typing import Any

import pytest
from tests.kubernetes.conftest import REASON_SECONDS, ClusterUnderTest, api_client
from tests.kubernetes.fake.faults import Fault
from tests.kubernetes.test_runtime import IMAGE, Runtimes, head, left, pods
from tests.listening import Heard
from tests.polling import until

from airflow_migration.deployments.kubernetes.cluster import Cluster
from airflow_migration.exceptions import ServerUnreachableError, ToolError
from airflow_migration.metadata.releases import release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.progress import Progress
from airflow_migration.runtimes.kubernetes import KubernetesRuntime
from airflow_migration.runtimes.pod_spec import PodOptions
from airflow_migration.runtimes.pod_upgrade import PodUpgrade
from airflow_migration.secret import Secret

__all__ = ["left", "pods"]
RELEASE = "2.11.2"
SECONDS = 300.0
"""For the first revisions of a real upgrade, and for all of them."""


def upgrade(url: str, token: str, namespace: str, address: dict[str, Any], key: str, progressed: Event) -> None:
    """What the worker does: all of a hop."""

    def listen(said: Progress | str) -> None:
        if isinstance(said, Progress):
            progressed.set()

    runtime = KubernetesRuntime(
        lambda: Cluster(api_client(url, token), namespace), PodOptions(namespace=namespace, image=IMAGE)
    )
    password = Secret(address.pop("password"))
    runtime.upgrade(RELEASE, DatabaseAddress(**address, password=password), Secret(key), listen)


@pytest.fixture
def killed(cluster: ClusterUnderTest, fernet_key: Secret) -> Callable[..., None]:
    """Begins an upgrade in a process of its own, and kills that at some instant."""
    spawn = multiprocessing.get_context("spawn")

    def go(address: DatabaseAddress, reached: Callable[[Event], Any]) -> None:
        fields = {name: getattr(address, name) for name in ("host", "port", "user", "database")}
        fields["password"] = address.password.reveal()
        progressed = spawn.Event()
        worker = spawn.Process(
            target=upgrade,
            args=(cluster.url, cluster.token, cluster.namespace, fields, fernet_key.reveal(), progressed),
        )
        worker.start()
        try:
            assert reached(progressed)
            assert worker.is_alive()
        finally:
            worker.kill()
            worker.join()

    return go


def test_workers_and_triggerers_are_killed_and_no_line_is_lost_or_told_twice(
    cluster: ClusterUnderTest,
    corpus: Callable[[str], DatabaseAddress],
    pods: Runtimes,
    left: Callable[[], list[str]],
    fernet_key: Secret,
    killed: Callable[..., None],
) -> None:
    address, before, heard = corpus("2.7.3"), left(), Heard()

    def found() -> PodUpgrade:
        return pods(RELEASE).detached_upgrade(RELEASE, address, fernet_key, heard)

    found()  # its image is there from now on
    hung = cluster.faults.add(Fault("hang", "create", "secrets"))
    assert cluster.fake is not None
    calls = cluster.fake.calls
    del calls[:]
    killed(address, lambda _: until(lambda: ("create", "secrets") in calls))
    hung.release.set()
    cluster.faults.clear()
    (without_secret,) = [each for each in left() if each not in before]

    killed(address, lambda progressed: progressed.wait(SECONDS))
    assert sorted(each for each in left() if each not in before) == [without_secret] * 2

    first = found()
    until(lambda: first.look() or heard.progress, seconds=SECONDS)
    second = found()
    until(second.look, seconds=SECONDS)
    cluster.faults.add(Fault("cut_before", "delete", "pods", times=4))
    with pytest.raises(ServerUnreachableError):
        found().finish(patience=0)
    cluster.faults.clear()
    result = found().begin()
    assert result is not None
    assert result.to_head == head(address) == release(RELEASE).head
    lines = [each for each in heard.said if isinstance(each, str) and "Running upgrade" in each]
    assert len(lines) == len(set(lines)) == len(result.revisions)
    assert heard.progress[-1].done == heard.progress[-1].total == len(result.revisions)
    until(lambda: left() == before)


def test_a_pod_that_never_starts_or_is_gone_is_nothing_to_wait_for(
    cluster: ClusterUnderTest, corpus: Callable[[str], DatabaseAddress], pods: Runtimes, left: Callable[[], list[str]]
) -> None:
    address, before, heard = corpus("2.7.3"), left(), Heard()

    def found() -> PodUpgrade:
        runtime = pods(image="registry.invalid/airflow:{release}", start_timeout=REASON_SECONDS)
        return runtime.detached_upgrade(RELEASE, address, Secret(""), heard)

    assert found().begin() is None
    listening = found()
    until(listening.look)
    with pytest.raises(ToolError) as caught:
        found().finish(patience=0)
    assert "ImagePullBackOff" in str(caught.value)
    until(lambda: left() == before)
    with pytest.raises(ToolError):
        listening.look()
    with pytest.raises(ToolError):
        found().finish(patience=0)
    assert head(address) == release("2.7.3").head
