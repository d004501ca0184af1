"""One migration's calls are those that the manifest allows: all of them, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kubernetes.calls import RecordingClient
from tests.kubernetes.conftest import CALLS, REASON_SECONDS, ClusterUnderTest, manifest
from tests.kubernetes.release import KEY, OTHER_KEY, Release

from airflow_migration.deployments.kubernetes.cluster import Cluster
from airflow_migration.deployments.kubernetes.control import KubernetesControl
from airflow_migration.exceptions import InvalidInputError, ToolError
from airflow_migration.postgres.process import Client
from airflow_migration.runtimes.kubernetes import KubernetesRuntime
from airflow_migration.runtimes.pod_spec import PodOptions
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret

TOKEN, SETTINGS = "0123456789", {"AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True"}
EVERYBODY = "create selfsubjectaccessreviews"
"""Every account may ask what it may (cluster role ``system:basic-user``)."""


def allowed() -> set[str]:
    """Verbs and resources of the manifest's role."""
    (role,) = (each for each in manifest() if each["kind"] == "Role")
    return {
        f"{verb} {qualified(resource, group)}"
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def qualified(resource: str, group: str) -> str:
    plural, _, sub = resource.partition("/")
    return "/".join(filter(None, (f"{plural}.{group}" if group else plural, sub)))


def ignore(_: object) -> None:
    pass


def test_a_migration_makes_exactly_the_calls_of_the_manifest(
    cluster: ClusterUnderTest, request: pytest.FixtureRequest, runtimes: VenvRuntime, calls: set[str]
) -> None:
    release = Release(cluster=cluster, image=str(request.config.getoption("--image")))
    release.install()
    api = RecordingClient(cluster.api.configuration, calls)

    def opened() -> Cluster:
        return Cluster(api, cluster.namespace)

    control = KubernetesControl({"namespace": cluster.namespace, "release": "fresh", "ready_timeout": 120}, opened)
    control.check("moved")
    assert control.settings() == {}
    assert control.set_fernet_keys(Secret(OTHER_KEY), TOKEN).changed
    control.quiet(TOKEN, ignore)
    control.point_to("moved", TOKEN)
    control.set_settings(SETTINGS, TOKEN)
    control.restart(TOKEN, Client("restart", {}), ignore)
    control.restore(TOKEN, keys=Secret(OTHER_KEY), database="moved", settings=SETTINGS)
    control.restart(TOKEN, Client("restart", {}), ignore)
    assert release.value("fresh-fernet-key", "fernet-key") == KEY

    image = release.image
    if cluster.fake is not None:
        image = "apache/airflow:2.11.2"
        cluster.fake.images.programs[image] = Path(str(runtimes.prepare("2.11.2", print))) / "bin"
    with pytest.raises(InvalidInputError):  # it holds another release, or none
        KubernetesRuntime(opened, PodOptions(namespace=cluster.namespace, image=image)).prepare("3.3.2", ignore)
    unknown = PodOptions(
        namespace=cluster.namespace, image="registry.invalid/airflow:3.3.2", start_timeout=REASON_SECONDS
    )
    runtime = KubernetesRuntime(opened, unknown)
    with pytest.raises(ToolError, match=r"registry\.invalid"):
        runtime.prepare("3.3.2", ignore)

    assert calls - {EVERYBODY} == allowed()


@pytest.fixture
def calls(request: pytest.FixtureRequest) -> set[str]:
    """Printed at the end of the suite."""
    return request.config.stash.setdefault(CALLS, set())
