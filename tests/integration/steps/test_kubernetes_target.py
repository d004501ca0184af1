"""A target in a cluster gets key and database by the steps of a migration, and back by those of a roll back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from tests.kubernetes.conftest import ClusterUnderTest, api_client
from tests.kubernetes.fake.cluster import FakeCluster
from tests.kubernetes.release import COMPONENTS, KEY, RELEASE, Release

from airflow_migration.metadata import journal
from airflow_migration.planning.roll_back import RollBackOptions, make_roll_back_plan
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, cutover, quiesce, roll_back, unpausing, upgrade
from airflow_migration.steps.migration import Migration

NAMESPACE = "target"
CONTROL = {"kind": "kubernetes", "namespace": NAMESPACE, "release": RELEASE}
URI = "postgresql://u:p@db.example:5433/before?sslmode=require"


def ignore(_: object) -> None:
    pass


@pytest.fixture
def release() -> Iterator[Release]:
    """Two replicas of everything in a cluster of its own."""
    fake = FakeCluster().start()
    fake.add_namespace(NAMESPACE)
    api = api_client(fake.url, fake.admin_token)
    cluster = ClusterUnderTest(admin=api, api=api, url=fake.url, token=fake.admin_token, namespace=NAMESPACE, fake=fake)
    made = Release(cluster=cluster, image="pause")
    made.install(replicas=2, uri=URI)
    yield made
    fake.stop()
    assert fake.errors == []


@pytest.fixture
def begun(migration: Callable[..., Migration], release: Release) -> Migration:
    """Its target's processes run, and its working database waits."""
    made = migration(
        control=CONTROL,
        open_cluster=lambda _: release.cluster.api,
        backup=False,
        migration_id=uuid.uuid4().hex,
        unpause="none",
    )
    quiesce.pause_dags(made, ignore)
    copy.clone_source(made, ignore)
    copy.make_working_database(made, ignore)
    return made


def take_back(migration: Migration) -> None:
    options = RollBackOptions(migration_id=migration.id)
    plan = make_roll_back_plan(options=options, source=migration.source, target=migration.target, listener=ignore)
    going_back = roll_back.RollBack(
        plan=plan, source=migration.source, target=migration.target, workshop=migration.workshop
    )
    roll_back.pause_target(going_back, ignore)
    roll_back.restore_target_settings(going_back, ignore)
    roll_back.put_back_target_database(going_back, ignore)
    roll_back.restart_target(going_back, ignore)
    roll_back.lift_fence(going_back, ignore)
    roll_back.resume_source(going_back, ignore)
    roll_back.drop_created(going_back, ignore)
    roll_back.close_journal(going_back, ignore)


def replicas(release: Release) -> list[int]:
    return [release.look(each).spec.replicas for each in COMPONENTS]


def test_a_target_is_pointed_at_its_new_database_and_back(
    begun: Migration, release: Release, fernet_key: Secret
) -> None:
    swapped = upgrade.swap_fernet_key(begun, ignore)
    assert swapped.control is not None
    assert release.value(f"{RELEASE}-fernet-key", "fernet-key") == fernet_key.reveal()
    pointed = cutover.point_target(begun, ignore)
    assert replicas(release) == [0, 0, 0]
    moved = URI.replace("/before?", f"/{begun.final.database}?")
    assert release.value(f"{RELEASE}-metadata", "connection") == moved
    assert release.value(f"{RELEASE}-result-backend", "connection") == f"db+{moved}"
    assert all(release.variables("scheduler")[name] == value for name, value in begun.plan.settings.items())
    assert begun.plan.settings
    cutover.restart_target(begun, ignore)
    assert replicas(release) == [2, 2, 2]
    for told in (str(swapped), str(pointed)):
        assert fernet_key.reveal() not in told
        assert KEY not in told
    take_back(begun)
    assert release.value(f"{RELEASE}-fernet-key", "fernet-key") == KEY
    assert release.value(f"{RELEASE}-metadata", "connection") == URI
    assert release.value(f"{RELEASE}-result-backend", "connection") == f"db+{URI}"
    assert not set(begun.plan.settings) & set(release.variables("scheduler"))
    assert replicas(release) == [2, 2, 2]
    assert len(release.secrets()) == 3


def test_a_target_that_a_failure_left_at_rest_comes_back(begun: Migration, release: Release) -> None:
    cutover.quiet_target(begun, ignore)
    assert replicas(release) == [0, 0, 0]
    with begun.source.address.connect() as conn:
        assert journal.read_act(conn, begun.id, journal.QUIET) is not None
    take_back(begun)
    assert replicas(release) == [2, 2, 2]


@pytest.mark.parametrize("running", [True, False])
def test_a_dag_processor_that_has_just_been_started_is_waited_for(
    begun: Migration, release: Release, running: bool
) -> None:
    release.workload("dag-processor", replicas=int(running))
    release.scale("scheduler", 0)
    cutover.point_target(begun, ignore)
    cutover.restart_target(begun, ignore)

    def beat(_: object) -> None:
        with begun.final.connect(read_only=False) as conn:
            conn.execute(
                "INSERT INTO job (job_type, state, latest_heartbeat) VALUES ('DagProcessorJob', 'running', now())"
            )

    assert unpausing.unpause_dags(begun, beat).parsed == running
