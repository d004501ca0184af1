"""Every answer of an API server, and every lack of one, becomes an error that says what to do and repeats nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.kubernetes.conftest import ClusterUnderTest, api_client
from tests.kubernetes.fake.faults import Fault, Kind
from tests.kubernetes.fake.resources import RESOURCES, ApiError, conflict, gone, too_many_requests
from tests.kubernetes.release import encode

from airflow_migration.deployments.kubernetes.cluster import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    PODS,
    SECRETS,
    AlreadyExistsError,
    Cluster,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    JsonObject,
    NotFoundError,
)
from airflow_migration.exceptions import InvalidInputError, MigrationError, ServerUnreachableError

SHOWN = "never-shown"


def secret(name: str = "one", **data: str) -> JsonObject:
    return {"metadata": {"name": name, "labels": {"kept": "yes"}}, "data": {"a": encode(SHOWN)} | data}


@pytest.fixture
def reached(cluster: ClusterUnderTest) -> Cluster:
    return Cluster(cluster.api, cluster.namespace, timeout=10)


def test_objects_are_made_read_found_changed_and_removed(reached: Cluster) -> None:
    made = reached.create(SECRETS, secret())
    assert reached.get(SECRETS, "one")["metadata"]["uid"] == made["metadata"]["uid"]
    version = {"resourceVersion": made["metadata"]["resourceVersion"]}
    changed = reached.patch(SECRETS, "one", {"metadata": version, "data": {"b": encode("2")}})
    assert changed["data"] == {"a": encode(SHOWN), "b": encode("2")}
    assert reached.patch(SECRETS, "one", {"data": {"b": None}})["data"] == {"a": encode(SHOWN)}
    with pytest.raises(ConflictError):
        reached.patch(SECRETS, "one", {"metadata": version, "data": {"b": encode("3")}})
    with pytest.raises(ConflictError):
        reached.delete(SECRETS, "one", uid="00000000-0000-0000-0000-000000000000")
    reached.delete(SECRETS, "one", uid=made["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        reached.delete(SECRETS, "one")
    assert reached.find(DEPLOYMENTS, "release=none,component in (a,b)") == []


def test_what_a_server_refuses_is_told_apart(reached: Cluster) -> None:
    reached.create(SECRETS, secret())
    with pytest.raises(AlreadyExistsError):
        reached.create(SECRETS, secret())
    refusals: list[Callable[[], object]] = [
        lambda: reached.create(SECRETS, secret("Not a name")),
        lambda: reached.create(SECRETS, secret("two", a=f"{SHOWN}$")),
        lambda: reached.patch(SECRETS, "one", {"data": {"a": f"{SHOWN}$"}}),
    ]
    for refused in refusals:
        with pytest.raises(InvalidInputError) as caught:
            refused()
        assert SHOWN not in str(caught.value)
        assert not caught.value.retryable
    with pytest.raises(NotFoundError, match=f'secret "none" in namespace {reached.namespace}'):
        reached.get(SECRETS, "none")
    with pytest.raises(ForbiddenError, match=r"may not list configmaps.*rbac\.yaml"):
        reached.find(CONFIG_MAPS)
    with pytest.raises(ForbiddenError, match="create deployments of API group apps"):
        reached.create(DEPLOYMENTS, {"metadata": {"name": "one"}})


def test_rights_are_asked_for_without_being_used(reached: Cluster) -> None:
    assert reached.may("patch", SECRETS)
    assert reached.may("list", PODS)
    assert not reached.may("delete", DEPLOYMENTS)


def test_a_token_that_nobody_knows_is_named(cluster: ClusterUnderTest) -> None:
    api = api_client(cluster.url, "nobody's", cluster.admin.configuration)
    with pytest.raises(InvalidInputError, match="token"):
        Cluster(api, cluster.namespace).get(SECRETS, "one")


def test_a_server_that_is_not_there_may_come_back(namespace: str) -> None:
    with pytest.raises(ServerUnreachableError) as caught:
        Cluster(api_client("http://127.0.0.1:1", "any"), namespace, timeout=1).get(SECRETS, "one")
    assert caught.value.retryable


def test_a_busy_server_is_asked_again_when_it_says(cluster: ClusterUnderTest, reached: Cluster) -> None:
    reached.create(SECRETS, secret())
    cluster.faults.too_many_requests(1, verb="patch", resource="secrets")
    begun = time.monotonic()
    reached.patch(SECRETS, "one", {"data": {"b": encode("2")}})
    assert time.monotonic() - begun >= 1
    cluster.faults.add(Fault("status", "patch", "secrets", too_many_requests(3600)))
    with pytest.raises(ServerUnreachableError, match="429"):
        reached.patch(SECRETS, "one", {"data": {"b": encode("3")}})


SECRET = RESOURCES["", "secrets"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (conflict(SECRET, "one"), ConflictError),
        (gone(1, 2), ExpiredError),
        (ApiError(500, "InternalError", SHOWN), ServerUnreachableError),
        (ApiError(503, "ServiceUnavailable", SHOWN), ServerUnreachableError),
        (ApiError(422, "Invalid", SHOWN, {"causes": [{"field": "data[a]", "message": SHOWN}]}), InvalidInputError),
    ],
)
def test_answers_that_pass_by_themselves_are_retryable(
    cluster: ClusterUnderTest, reached: Cluster, answer: ApiError, error: type[MigrationError]
) -> None:
    reached.create(SECRETS, secret())
    cluster.faults.add(Fault("status", "patch", "secrets", answer))
    with pytest.raises(error) as caught:
        reached.patch(SECRETS, "one", {"data": {"b": encode(SHOWN)}})
    assert SHOWN not in str(caught.value)
    assert caught.value.retryable == (error is not InvalidInputError)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", ["hang", "cut_before", "cut_middle", "cut_after"])
def test_a_connection_that_is_cut_or_silent_is_retryable(
    cluster: ClusterUnderTest, reached: Cluster, kind: Kind
) -> None:
    reached.create(SECRETS, secret())
    fault = cluster.faults.add(Fault(kind, "patch", "secrets"))
    with pytest.raises(ServerUnreachableError) as caught:
        Cluster(cluster.api, cluster.namespace, timeout=1).patch(SECRETS, "one", {"data": {"b": encode(SHOWN)}})
    assert caught.value.retryable
    assert SHOWN not in str(caught.value)
    fault.release.set()


def test_a_read_that_finds_no_answer_is_repeated(cluster: ClusterUnderTest, reached: Cluster) -> None:
    reached.create(SECRETS, secret())
    cluster.faults.add(Fault("cut_before", "get", "secrets"))
    assert reached.get(SECRETS, "one")["data"] == {"a": encode(SHOWN)}


def test_half_an_answer_is_none(cluster: ClusterUnderTest, reached: Cluster) -> None:
    reached.create(SECRETS, secret())
    cluster.faults.add(Fault("cut_middle", "get", "secrets"))
    with pytest.raises(ServerUnreachableError):
        reached.get(SECRETS, "one")
