"""Whatever the instant at which a step is killed, its retry ends as if nothing had been."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client
from tests.kubernetes.conftest import ClusterUnderTest
from tests.kubernetes.release import COMPONENTS, KEY, OTHER_KEY, URI, Release
from tests.kubernetes.test_control import CRON, FERNET, METADATA, RESULTS, TOKEN, control_in, ignore, restart, restore

from airflow_migration.deployments.kubernetes.control import KubernetesControl
from airflow_migration.secret import Secret

Step = Callable[[KubernetesControl], object]


class KilledError(BaseException):
    """As a signal: nothing handles it."""


class Mortal(client.ApiClient):  # type: ignore[misc]
    """Dies before its write of that number, or right after it."""

    def dying_at(self, write: int, *, after: bool) -> Mortal:
        self._left, self._after, self.died = write, after, False
        return self

    def call_api(self, resource_path: str, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "GET" or "review" in resource_path:
            return super().call_api(resource_path, method, *args, **kwargs)
        self._left -= 1
        if self._left != 0:
            return super().call_api(resource_path, method, *args, **kwargs)
        self.died = True
        if self._after:
            super().call_api(resource_path, method, *args, **kwargs)
        raise KilledError


def deaths(cluster: ClusterUnderTest, step: Step, **options: Any) -> Iterator[None]:
    """Kill the step at each of its writes in turn; what it is given is a control of its own each time."""
    for number, after in ((number, after) for number in itertools.count(1) for after in (False, True)):
        api = Mortal(cluster.api.configuration).dying_at(number, after=after)
        try:
            step(control_in(cluster, api, **options))
        except KilledError:
            yield
        else:
            assert not api.died
            return


@pytest.fixture
def release(cluster: ClusterUnderTest, request: pytest.FixtureRequest) -> Release:
    made = Release(cluster=cluster, image=str(request.config.getoption("--image")))
    made.install()
    return made


def change(control: KubernetesControl) -> None:
    control.set_fernet_keys(Secret(OTHER_KEY), TOKEN)
    control.point_to("moved", TOKEN)
    control.set_settings({CRON: "True"}, TOKEN)


def take_back(control: KubernetesControl) -> None:
    restore(control, settings={CRON: "True"})


def test_settings_are_changed_and_taken_back_by_the_retry(cluster: ClusterUnderTest, release: Release) -> None:
    for _ in deaths(cluster, change):
        change(control_in(cluster))
        assert release.value(FERNET, "fernet-key") == OTHER_KEY
        moved = URI.replace("/fresh?", "/moved?")
        assert (release.value(METADATA, "connection"), release.value(RESULTS, "connection")) == (moved, f"db+{moved}")
        assert release.variables("worker")[CRON] == "True"
        for _ in deaths(cluster, take_back):
            break
        take_back(control_in(cluster))
        assert set(release.secrets()) == {FERNET, METADATA, RESULTS}
        assert release.value(FERNET, "fernet-key") == KEY
        assert (release.value(METADATA, "connection"), release.value(RESULTS, "connection")) == (URI, f"db+{URI}")
        assert not any(CRON in release.variables(each) for each in COMPONENTS)


def test_an_undo_is_finished_by_the_retry(cluster: ClusterUnderTest, release: Release) -> None:
    change(control_in(cluster))
    died = 0
    for _ in deaths(cluster, take_back):
        died += 1
        take_back(control_in(cluster))
        assert set(release.secrets()) == {FERNET, METADATA, RESULTS}
        assert release.value(FERNET, "fernet-key") == KEY
        assert not any(CRON in release.variables(each) for each in COMPONENTS)
        change(control_in(cluster))
    assert died >= 9 * 2


def test_replicas_come_back_whenever_the_step_was_killed(cluster: ClusterUnderTest, release: Release) -> None:
    release.scale("scheduler", 2)
    two: dict[str, Any] = {"workloads": ["deployment/fresh-scheduler", "statefulset/fresh-worker"]}

    def rest(control: KubernetesControl) -> None:
        control.quiet(TOKEN, ignore)

    for _ in deaths(cluster, rest, **two):
        rest(control_in(cluster, **two))
        assert not release.pods("scheduler") | release.pods("worker")
        restart(control_in(cluster, **two))
        assert [release.look(each).spec.replicas for each in ("scheduler", "worker")] == [2, 1]
    died = 0
    for _ in deaths(cluster, restart, **two):
        died += 1
        restart(control_in(cluster, **two))
        assert [release.look(each).spec.replicas for each in ("scheduler", "worker")] == [2, 1]
        assert "stopped" not in str(release.look("worker").metadata.annotations)
        rest(control_in(cluster, **two))
    assert died == 4 * 2
