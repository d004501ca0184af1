"""The cluster of the tests answers the official clients as a real one does."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_asyncio
import pytest
from kubernetes import client, watch
from tests.kubernetes.conftest import ClusterUnderTest, api_client
from tests.polling import SECONDS, until

from airflow_migration.deployments.kubernetes.cluster import Cluster

IMAGE = "registry.k8s.io/pause:3.10"


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def workload(name: str, *, replicas: int = 1, image: str = IMAGE, **env: str) -> dict[str, Any]:
    labels = {"component": name}
    variables = [{"name": key, "value": value} for key, value in env.items()]
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image, "env": variables}]},
            },
        },
    }


def secret(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {key: encode(value) for key, value in data.items()}}


def status_of(call: Callable[[], Any]) -> client.ApiException:
    with pytest.raises(client.ApiException) as caught:
        call()
    return caught.value


def test_a_stale_write_meets_a_conflict(cluster: ClusterUnderTest, namespace: str) -> None:
    core = client.CoreV1Api(cluster.api)
    first = core.create_namespaced_secret(namespace, secret("keys", one="1"))
    second = core.patch_namespaced_secret("keys", namespace, {"data": {"one": encode("2")}})
    assert second.metadata.resource_version != first.metadata.resource_version
    stale = {"metadata": {"resourceVersion": first.metadata.resource_version}, "data": {"one": encode("3")}}
    err = status_of(lambda: core.patch_namespaced_secret("keys", namespace, stale))
    assert err.status == 409
    assert "the object has been modified" in err.body
    same = core.patch_namespaced_secret("keys", namespace, {"data": {"one": encode("2")}})
    assert same.metadata.resource_version == second.metadata.resource_version


def test_what_is_missing_exists_already_or_is_malformed_is_said(cluster: ClusterUnderTest, namespace: str) -> None:
    core = client.CoreV1Api(cluster.api)
    assert status_of(lambda: core.read_namespaced_secret("none", namespace)).status == 404
    core.create_namespaced_secret(namespace, secret("keys", one="1"))
    assert status_of(lambda: core.create_namespaced_secret(namespace, secret("keys"))).status == 409
    assert status_of(lambda: core.create_namespaced_secret(namespace, secret("Keys_"))).status == 422
    labelled = secret("labelled") | {"metadata": {"name": "labelled", "labels": {"run": "manual__2026-11-26T10:00+0"}}}
    assert status_of(lambda: core.create_namespaced_secret(namespace, labelled)).status == 422
    bad = {"data": {"one": "never$shown"}}
    assert status_of(lambda: core.patch_namespaced_secret("keys", namespace, bad)).status == 422
    assert status_of(lambda: core.create_namespaced_secret(namespace, secret("bad") | bad)).status == 400


def test_a_token_without_the_right_is_refused_by_name(cluster: ClusterUnderTest, namespace: str) -> None:
    core, apps = client.CoreV1Api(cluster.api), client.AppsV1Api(cluster.api)
    err = status_of(lambda: core.list_namespaced_config_map(namespace))
    assert (err.status, "cannot list resource" in err.body, "configmaps" in err.body) == (403, True, True)
    assert status_of(lambda: apps.delete_namespaced_deployment("any", namespace)).status == 403
    nobody = client.CoreV1Api(api_client(cluster.url, "no-token", cluster.admin.configuration))
    assert status_of(lambda: nobody.list_namespaced_pod(namespace)).status == 401


def test_a_deployment_is_scaled_and_rolled(cluster: ClusterUnderTest, namespace: str) -> None:
    apps, core = client.AppsV1Api(cluster.admin), client.CoreV1Api(cluster.api)
    apps.create_namespaced_deployment(namespace, workload("scheduler", replicas=2, A="1"))

    def rolled(replicas: int) -> Any:
        found = apps.read_namespaced_deployment("scheduler", namespace)
        status = found.status
        done = status.observed_generation == found.metadata.generation
        counts = (status.replicas or 0, status.updated_replicas or 0, status.ready_replicas or 0)
        return done and counts == (replicas,) * 3 and found

    before = until(lambda: rolled(2))
    names = {pod.metadata.name for pod in core.list_namespaced_pod(namespace).items}
    change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "B", "value": "2"}]}]}}}}
    apps.patch_namespaced_deployment("scheduler", namespace, change)
    after = until(lambda: rolled(2))
    assert after.metadata.generation == before.metadata.generation + 1
    assert {each.name for each in after.spec.template.spec.containers[0].env} == {"A", "B"}
    until(lambda: not names & {pod.metadata.name for pod in core.list_namespaced_pod(namespace).items})
    apps.patch_namespaced_deployment_scale("scheduler", namespace, {"spec": {"replicas": 0}})
    until(lambda: rolled(0))
    assert apps.read_namespaced_deployment_scale("scheduler", namespace).spec.replicas is None
    until(lambda: not core.list_namespaced_pod(namespace, label_selector="component=scheduler").items)


def test_a_stateful_set_is_scaled_and_rolled(cluster: ClusterUnderTest, namespace: str) -> None:
    apps, core = client.AppsV1Api(cluster.admin), client.CoreV1Api(cluster.api)
    content = workload("worker", replicas=2)
    content["spec"]["serviceName"] = "worker"
    apps.create_namespaced_stateful_set(namespace, content)

    def ready() -> set[str]:
        found = core.list_namespaced_pod(namespace, label_selector="component in (worker)").items
        return {
            each.metadata.name
            for each in found
            if any(
                condition.type == "Ready" and condition.status == "True" for condition in each.status.conditions or []
            )
        }

    until(lambda: ready() == {"worker-0", "worker-1"})
    annotated = {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}}
    apps.patch_namespaced_stateful_set("worker", namespace, annotated)

    def rolled() -> bool:
        found = apps.read_namespaced_stateful_set("worker", namespace)
        counts = (found.status.updated_replicas, found.status.ready_replicas)
        return (found.status.observed_generation, counts) == (found.metadata.generation, (2, 2))

    until(rolled)
    apps.patch_namespaced_stateful_set_scale("worker", namespace, {"spec": {"replicas": 0}})
    until(lambda: not core.list_namespaced_pod(namespace, label_selector="component=worker").items)


def test_a_stateful_set_keeps_pods_as_its_strategy_says(cluster: ClusterUnderTest, namespace: str) -> None:
    apps, core = client.AppsV1Api(cluster.admin), client.CoreV1Api(cluster.api)
    strategies = {"kept": {"type": "OnDelete"}, "parted": {"rollingUpdate": {"partition": 1}}}
    for name, strategy in strategies.items():
        content = workload(name, replicas=2)
        content["spec"] |= {"serviceName": name, "updateStrategy": strategy}
        apps.create_namespaced_stateful_set(namespace, content)

    def counts(name: str) -> tuple[int, int, int]:
        found = apps.read_namespaced_stateful_set(name, namespace)
        seen = found.status.observed_generation == found.metadata.generation
        return (seen, found.status.updated_replicas or 0, found.status.ready_replicas or 0)

    def uids(name: str) -> list[str]:
        found = core.list_namespaced_pod(namespace, label_selector=f"component={name}").items
        return [each.metadata.uid for each in sorted(found, key=lambda pod: str(pod.metadata.name))]

    def delete_first(name: str) -> None:
        before = uids(name)[0]
        core.delete_namespaced_pod(f"{name}-0", namespace)
        until(lambda: before not in uids(name) and counts(name)[2] == 2)

    for name in strategies:
        until(lambda name=name: counts(name) == (True, 2, 2))  # type: ignore[misc]
    before = {name: uids(name) for name in strategies}
    for name in strategies:
        annotated = {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}}
        apps.patch_namespaced_stateful_set(name, namespace, annotated)
    until(lambda: counts("parted") == (True, 1, 2))
    until(lambda: counts("kept") == (True, 0, 2))
    assert uids("kept") == before["kept"]
    assert uids("parted")[0] == before["parted"][0] != uids("parted")[1] != before["parted"][1]
    for name in strategies:
        delete_first(name)
    until(lambda: counts("kept") == counts("parted") == (True, 1, 2))


def test_a_watch_tells_what_happens_and_meets_a_410(cluster: ClusterUnderTest, namespace: str) -> None:
    core = client.CoreV1Api(cluster.admin)
    version = core.list_namespaced_secret(namespace).metadata.resource_version
    core.create_namespaced_secret(namespace, secret("seen"))
    core.delete_namespaced_secret("seen", namespace)
    started = time.monotonic()
    events = [
        (event["type"], event["object"].metadata.name)
        for event in watch.Watch().stream(
            core.list_namespaced_secret, namespace, resource_version=version, timeout_seconds=1
        )
    ]
    assert ("ADDED", "seen") in events
    assert ("DELETED", "seen") in events
    assert time.monotonic() - started < SECONDS
    if cluster.fake is not None:
        cluster.fake.compact()
    with pytest.raises(client.ApiException) as caught:
        list(watch.Watch().stream(core.list_namespaced_secret, namespace, resource_version="1", timeout_seconds=5))
    assert caught.value.status == 410


@pytest.fixture
def shell(cluster: ClusterUnderTest) -> str:
    """An image that has a shell."""
    image = "busybox:1.36"
    if cluster.fake is not None:
        cluster.fake.images.programs[image] = Path("/bin")
    return image


def pod(name: str, image: str, script: str, **container: Any) -> dict[str, Any]:
    command = {"name": "base", "image": image, "command": ["sh", "-c", script]}
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [command | container]}}


def test_a_pod_runs_a_command_with_a_secret(cluster: ClusterUnderTest, namespace: str, shell: str) -> None:
    core = client.CoreV1Api(cluster.api)
    core.create_namespaced_secret(namespace, secret("keys", word="xyzzy"))
    env = [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "word"}}}]
    core.create_namespaced_pod(namespace, pod("speaker", shell, "echo first; echo $WORD; sleep 1; exit 3", env=env))
    until(lambda: core.read_namespaced_pod("speaker", namespace).status.container_statuses)
    until(lambda: core.read_namespaced_pod("speaker", namespace).status.phase != "Pending")
    text = core.read_namespaced_pod_log("speaker", namespace, follow=True, _preload_content=False).data.decode()
    assert text.splitlines() == ["first", "xyzzy"]
    reached, heard = Cluster(cluster.api, namespace), list[str]()
    for since in (None, int(time.time()) + 3600):
        heard += (line.partition(" ")[2] for line in reached.read_log("speaker", "base", follow=False, since=since))
    assert heard == ["first", "xyzzy"]
    ended = until(lambda: (each := core.read_namespaced_pod("speaker", namespace)).status.phase == "Failed" and each)
    assert ended.status.container_statuses[0].state.terminated.exit_code == 3
    core.delete_namespaced_pod("speaker", namespace, grace_period_seconds=0)
    until(lambda: not core.list_namespaced_pod(namespace, field_selector="metadata.name=speaker").items)


def test_a_pod_that_cannot_start_says_why(cluster: ClusterUnderTest, namespace: str, shell: str) -> None:
    core = client.CoreV1Api(cluster.api)
    core.create_namespaced_pod(namespace, pod("no-image", "registry.invalid/none:1", "true"))
    env = [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "none", "key": "word"}}}]
    core.create_namespaced_pod(namespace, pod("no-secret", shell, "true", env=env))
    lost = pod("no-node", shell, "true")
    lost["spec"]["nodeSelector"] = {"nowhere": "true"}
    core.create_namespaced_pod(namespace, lost)

    def waiting(name: str) -> Any:
        found = core.read_namespaced_pod(name, namespace).status.container_statuses
        return found and found[0].state.waiting and found[0].state.waiting.reason

    assert until(lambda: waiting("no-image")) in ("ErrImagePull", "ImagePullBackOff", "ContainerCreating")
    until(lambda: waiting("no-secret") == "CreateContainerConfigError")
    until(
        lambda: any(
            each.type == "PodScheduled" and each.reason == "Unschedulable"
            for each in core.read_namespaced_pod("no-node", namespace).status.conditions or []
        )
    )
    events = until(lambda: core.list_namespaced_event(namespace, field_selector="involvedObject.name=no-node").items)
    assert events[0].reason == "FailedScheduling"


def test_the_asynchronous_client_is_answered_too(cluster: ClusterUnderTest, namespace: str, shell: str) -> None:
    client.CoreV1Api(cluster.api).create_namespaced_pod(namespace, pod("speaker", shell, "echo spoken"))
    until(lambda: client.CoreV1Api(cluster.api).read_namespaced_pod("speaker", namespace).status.phase == "Succeeded")

    async def read() -> tuple[list[str], str]:
        configuration = kubernetes_asyncio.client.Configuration(host=cluster.url)
        configuration.ssl_ca_cert = cluster.admin.configuration.ssl_ca_cert
        configuration.api_key = {"BearerToken": f"Bearer {cluster.token}"}
        async with kubernetes_asyncio.client.ApiClient(configuration) as api:
            core = kubernetes_asyncio.client.CoreV1Api(api)
            pods = await core.list_namespaced_pod(namespace, field_selector="status.phase=Succeeded")
            return [each.metadata.name for each in pods.items], await core.read_namespaced_pod_log("speaker", namespace)

    assert asyncio.run(read()) == (["speaker"], "spoken\n")


def test_preconditions_of_a_delete_are_kept(cluster: ClusterUnderTest, namespace: str) -> None:
    core = client.CoreV1Api(cluster.admin)
    made = core.create_namespaced_secret(namespace, secret("keys"))
    other = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="0e9f3bd8-0000-0000-0000-000000000000"))
    assert status_of(lambda: core.delete_namespaced_secret("keys", namespace, body=other)).status == 409
    own = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=made.metadata.uid))
    core.delete_namespaced_secret("keys", namespace, body=own)
    assert status_of(lambda: core.read_namespaced_secret("keys", namespace)).status == 404


def test_an_access_review_answers_for_the_token(cluster: ClusterUnderTest, namespace: str) -> None:
    def allowed(verb: str, resource: str) -> bool:
        attributes = client.V1ResourceAttributes(namespace=namespace, verb=verb, resource=resource)
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        answer = client.AuthorizationV1Api(cluster.api).create_self_subject_access_review(review)
        return bool(answer.status.allowed)

    assert allowed("get", "secrets")
    assert not allowed("delete", "configmaps")


def test_faults_reach_the_client(cluster: ClusterUnderTest, namespace: str) -> None:
    core = client.CoreV1Api(cluster.api)
    cluster.faults.too_many_requests(7, verb="create", resource="secrets")
    err = status_of(lambda: core.create_namespaced_secret(namespace, secret("keys")))
    assert (err.status, err.headers["Retry-After"]) == (429, "7")
    core.create_namespaced_secret(namespace, secret("keys"))
