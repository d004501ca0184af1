"""A hop in a pod: the worker is free while it runs, whoever listens may be lost, and nothing is left of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
from airflow.sdk.execution_time.supervisor import set_supervisor_comms
from kubernetes import client
from tests.integration.hooks.test_deployment_in_a_cluster import kubeconfig
from tests.integration.operators.conftest import Run
from tests.kubernetes.conftest import ClusterUnderTest, api_client, apply_manifest, token_of_account
from tests.kubernetes.fake.cluster import FakeCluster
from tests.kubernetes.fake.faults import Fault

from airflow_migration.metadata.releases import read_head, release
from airflow_migration.operators.upgrade import UpgradeOperator
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret
from airflow_migration.triggers.upgrade_pod import UpgradePodTrigger

NAMESPACE, GOAL = "pods", "2.11.2"
REAL, IDLE = "apache/airflow:{release}", "idle:{release}"
"""Images with the release, and with a process that does nothing."""
HOP = "upgrade_1"
DEADLINE = 300


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterUnderTest]:
    """A cluster to which a connection leads, with the account of ``docs/kubernetes/rbac.yaml``."""
    fake = FakeCluster().start()
    fake.add_namespace(NAMESPACE)
    admin = api_client(fake.url, fake.admin_token)
    apply_manifest(admin, NAMESPACE)
    token = token_of_account(admin, NAMESPACE)
    made = ClusterUnderTest(admin=admin, api=admin, url=fake.url, token=token, namespace=NAMESPACE, fake=fake)
    connection = {"conn_type": "kubernetes", "extra": {"kube_config": kubeconfig(made)}}
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps(connection))
    yield made
    fake.stop()
    assert fake.errors == []


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Everything that was logged so far."""
    seen: list[str] = []

    def read() -> str:
        captured = capsys.readouterr()
        seen.extend((captured.out, captured.err))
        return "".join(seen)

    return read


@pytest.fixture
def begun(
    new_run: Callable[..., Run],
    connect: Callable[..., None],
    plan_for: Any,
    deployment: Any,
    corpus: Callable[[str], DatabaseAddress],
    fernet_key: Secret,
) -> Callable[[str], tuple[Run, DatabaseAddress]]:
    """A run whose working database waits for its only hop, by pods of an image."""

    def make(image: str) -> tuple[Run, DatabaseAddress]:
        source, working, run = corpus("2.7.3"), corpus("2.7.3"), new_run()
        connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
        runtime = {"kind": "kubernetes", "conn_id": "cluster", "namespace": NAMESPACE, "image": image}
        connect("migration_target", source.on("moved"), airflow_version=GOAL, runtime=runtime)
        there = deployment(source.on("moved"), airflow_version=GOAL)
        plan = plan_for(deployment(source, fernet_keys=fernet_key), there)
        assert len(plan.hops) == 1
        plan = replace(plan, working_database=working.database)
        run.task.xcoms["preflight", "return_value"] = json.loads(json.dumps({"result": plan.to_json()}))
        return run, working

    return make


def defer(run: Run, operator: UpgradeOperator) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        run.execute(operator)
    return deferred.value


def taken_over(deferred: TaskDeferred) -> UpgradePodTrigger:
    """The trigger as another triggerer makes it from what the database of the control Airflow holds."""
    path, arguments = deferred.trigger.serialize()
    assert path == "airflow_migration.triggers.upgrade_pod.UpgradePodTrigger"
    return UpgradePodTrigger(**json.loads(json.dumps(arguments)))


async def fired(trigger: UpgradePodTrigger) -> dict[str, Any]:
    async for event in trigger.run():
        return dict(event.payload)
    raise AssertionError


def event_of(trigger: UpgradePodTrigger) -> dict[str, Any]:
    return asyncio.run(asyncio.wait_for(fired(trigger), DEADLINE))


def resume(run: Run, operator: UpgradeOperator, deferred: TaskDeferred, event: dict[str, Any]) -> dict[str, Any]:
    """What another worker does with the event."""
    result = getattr(operator, deferred.method_name)({"ti": run.task}, event=json.loads(json.dumps(event)))
    return dict(json.loads(json.dumps(result)))


class States:
    """Answers for the control Airflow, which has the task in some state."""

    def __init__(self, state: str) -> None:
        self._state = state

    def send(self, asked: object) -> TaskStatesResult:
        assert isinstance(asked, GetTaskStates)
        return TaskStatesResult(task_states={"r": {HOP: self._state}})


def left(cluster: ClusterUnderTest) -> list[str]:
    core = client.CoreV1Api(cluster.admin)
    found = [*core.list_namespaced_pod(NAMESPACE).items, *core.list_namespaced_secret(NAMESPACE).items]
    return [each.metadata.name for each in found if each.metadata.deletion_timestamp is None]


def test_a_hop_is_begun_followed_and_judged_by_different_processes(
    cluster: ClusterUnderTest,
    begun: Callable[[str], tuple[Run, DatabaseAddress]],
    runtimes: VenvRuntime,
    fernet_key: Secret,
    told: Callable[[], str],
) -> None:
    assert cluster.fake is not None
    cluster.fake.images.programs[REAL.format(release=GOAL)] = Path(runtimes.prepare(GOAL, lambda _: None)) / "bin"
    run, working = begun(REAL)
    operator = UpgradeOperator(task_id=HOP, hop=1, poll_interval=0.1, execution_timeout=timedelta(hours=1))
    deferred = defer(run, operator)
    assert deferred.timeout is not None
    assert timedelta(minutes=59) < deferred.timeout < timedelta(hours=2)
    kept = json.dumps(deferred.trigger.serialize())
    for hidden in (working.password.reveal(), fernet_key.reveal(), cluster.token):
        assert hidden
        assert hidden not in kept
    # A worker that was lost before it could defer: the retry finds the pod, and no other is made.
    (name,) = {*left(cluster)}
    deferred = defer(run, operator)
    assert {*left(cluster)} == {name}

    async def die() -> None:
        listening = asyncio.ensure_future(fired(taken_over(deferred)))
        while "Running upgrade" not in told():
            assert not listening.done()
            await asyncio.sleep(0.05)
        listening.cancel()

    asyncio.run(asyncio.wait_for(die(), DEADLINE))
    cluster.faults.add(Fault("cut_before", "get", "pods", times=5))
    event = event_of(taken_over(deferred))
    assert event["timed_out"] is False
    done = resume(run, operator, deferred, event)
    assert done["result"]["to_head"] == release(GOAL).head
    assert done["started"] == event["started"]
    with working.connect() as session:
        assert read_head(session) == release(GOAL).head
    lines = re.findall(r"Running upgrade \w+ -> \w+", told())
    assert len(lines) == len(set(lines)) == len(done["result"]["revisions"])
    assert f"{len(lines)} revisions of {len(lines)} revisions (100%)" in told()
    assert "does not answer" in told()
    assert not run.execute(operator)["result"]["revisions"]
    for hidden in (working.password.reveal(), fernet_key.reveal(), cluster.token):
        assert hidden not in told()
    assert left(cluster) == []


def test_a_hop_that_is_out_of_time_or_given_up_by_a_person_leaves_no_pod(
    cluster: ClusterUnderTest, begun: Callable[[str], tuple[Run, DatabaseAddress]]
) -> None:
    run, working = begun(IDLE)
    hurried = UpgradeOperator(task_id=HOP, hop=1, poll_interval=0.1, execution_timeout=timedelta(microseconds=1))
    deferred = defer(run, hurried)
    assert len(left(cluster)) == 2
    event = event_of(taken_over(deferred))
    assert event["timed_out"] is True
    with pytest.raises(AirflowException):
        resume(run, hurried, deferred, event)
    assert "execution_timeout" in run.error(HOP)["remedy"]
    assert left(cluster) == []

    operator = UpgradeOperator(task_id=HOP, hop=1, poll_interval=0.1)
    deferred = defer(run, operator)
    assert deferred.timeout is None
    assert len(left(cluster)) == 2
    for state, remaining in (("deferred", 2), ("failed", 0)):
        trigger = taken_over(deferred)
        trigger.task_instance = SimpleNamespace(dag_id="d", task_id=HOP, run_id="r", map_index=-1)  # type: ignore[assignment]
        with set_supervisor_comms(States(state)):
            asyncio.run(trigger.on_kill())
        assert len(left(cluster)) == remaining
    event = event_of(taken_over(deferred))
    with pytest.raises(AirflowException):
        resume(run, operator, deferred, event)
    assert "deleted" in run.error(HOP)["problem"]
    with working.connect() as session:
        assert read_head(session) == release("2.7.3").head
