"""A deployment in a cluster is found, given keys, addresses and settings, stopped and started; all is taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from tests.kubernetes.conftest import ClusterUnderTest, api_client
from tests.kubernetes.release import COMPONENTS, KEY, OTHER_KEY, PASSWORD, RELEASE, URI, Release, encode
from tests.listening import Heard
from tests.polling import until

from airflow_migration.deployments.deployment import Deployment, read_deployment
from airflow_migration.deployments.kubernetes.cluster import Cluster, ConflictError, ForbiddenError, NotFoundError
from airflow_migration.deployments.kubernetes.control import KubernetesControl
from airflow_migration.deployments.kubernetes.database import read_metadata
from airflow_migration.deployments.kubernetes.discovery import find_workloads
from airflow_migration.deployments.kubernetes.workloads import NotReadyError
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.process import Client
from airflow_migration.secret import Secret

TOKEN, LATER = "0123456789", "9876543210"
FERNET, METADATA, RESULTS = (f"{RELEASE}-{name}" for name in ("fernet-key", "metadata", "result-backend"))
CRON = "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS"
INI = """[databases]
fresh-metadata = host=db.example dbname=fresh port=5433 pool_size=10
fresh-result-backend = host=db.example dbname=fresh port=5433 pool_size=5

[pgbouncer]
pool_mode = transaction
server_tls_sslmode = prefer
"""
POOLED = "postgresql://air%40flow:never%26shown@fresh-pgbouncer.ns.svc:6543/fresh-metadata?sslmode=disable"


def ignore(_: object) -> None:
    pass


def control_in(cluster: ClusterUnderTest, api: client.ApiClient | None = None, **options: Any) -> KubernetesControl:
    control = {"namespace": cluster.namespace, "release": RELEASE, "ready_timeout": 60} | options
    return KubernetesControl(control, lambda: Cluster(api or cluster.api, cluster.namespace))


def restart(control: KubernetesControl, token: str = TOKEN) -> Any:
    return control.restart(token, Client("restart", {}), ignore)


def restore(control: KubernetesControl, token: str = TOKEN, settings: dict[str, str] | None = None) -> Any:
    return control.restore(token, keys=Secret(OTHER_KEY), database="moved", settings=settings or {})


@pytest.fixture
def release(cluster: ClusterUnderTest, request: pytest.FixtureRequest) -> Release:
    return Release(cluster=cluster, image=str(request.config.getoption("--image")))


@pytest.fixture
def installed(release: Release) -> Release:
    release.install()
    return release


@pytest.fixture
def control(installed: Release) -> KubernetesControl:
    return control_in(installed.cluster)


def test_a_release_is_found_by_the_names_and_labels_of_its_chart(
    control: KubernetesControl, installed: Release
) -> None:
    before = installed.secrets()
    control.check("moved")
    assert control.fernet_keys() == Secret(KEY)
    assert control.settings() == {}
    assert installed.secrets() == before


def test_objects_are_found_by_name(cluster: ClusterUnderTest, release: Release) -> None:
    release.secret("keys", mine=KEY, conn=URI)
    release.workload("scheduler")
    named = {"fernet_from": "keys/mine", "metadata_from": "keys/conn", "workloads": ["deployment/fresh-scheduler"]}
    control = control_in(cluster, **named)
    assert control.fernet_keys() == Secret(KEY)
    with pytest.raises(InvalidInputError, match="fresh-fernet-key/fernet-key"):
        control.check("moved")  # the pods read another secret than the one that would be changed
    assert control.set_fernet_keys(Secret(OTHER_KEY), TOKEN).changed == ("secret keys/mine",)
    assert control.point_to("moved", TOKEN).changed == ("secret keys/conn",)
    assert release.value("keys-before-migration", "mine") == KEY
    restore(control)
    assert (release.value("keys", "mine"), release.value("keys", "conn")) == (KEY, URI)
    assert set(release.secrets()) == {"keys"}


def test_what_is_missing_or_ambiguous_is_named(cluster: ClusterUnderTest, release: Release) -> None:
    control = control_in(cluster)
    with pytest.raises(InvalidInputError, match="no secret fresh-fernet-key"):
        control.fernet_keys()
    release.secret(FERNET, fernet=KEY)
    with pytest.raises(InvalidInputError, match='no key "fernet-key", only fernet'):
        control.fernet_keys()
    release.change(FERNET, "fernet-key", encode(KEY))
    with pytest.raises(InvalidInputError, match="twice"):
        control.fernet_keys()
    release.change(FERNET, "fernet-key", PASSWORD)
    with pytest.raises(InvalidInputError, match="not a fernet key") as caught:
        control.fernet_keys()
    assert PASSWORD not in str(caught.value)
    with pytest.raises(InvalidInputError, match="no secret fresh-airflow-metadata or fresh-metadata"):
        control.point_to("moved", TOKEN)
    release.secret(METADATA, connection=f"mysql://u:{PASSWORD}@h/d")
    with pytest.raises(InvalidInputError, match="no connection string") as caught:
        control.point_to("moved", TOKEN)
    assert PASSWORD not in str(caught.value)
    release.secret(f"{RELEASE}-airflow-metadata", connection=URI)
    with pytest.raises(InvalidInputError, match="two of them"):
        control.point_to("moved", TOKEN)
    with pytest.raises(InvalidInputError, match="component=scheduler"):
        control_in(cluster).settings()
    with pytest.raises(NotFoundError, match="none"):
        control_in(cluster, workloads=["deployment/none"]).settings()
    assert len(release.secrets()) == 3


def test_a_key_is_swapped_once_and_taken_back(control: KubernetesControl, installed: Release) -> None:
    first = control.set_fernet_keys(Secret(OTHER_KEY), TOKEN)
    assert first.changed == (f"secret {FERNET}/fernet-key",)
    assert first.backup == f"secret {FERNET}-before-migration"
    assert installed.value(FERNET, "fernet-key") == OTHER_KEY
    assert installed.value(f"{FERNET}-before-migration", "fernet-key") == KEY
    assert control.set_fernet_keys(Secret(OTHER_KEY), TOKEN).changed == ()
    assert restore(control).changed == (f"secret {FERNET}/fernet-key",)
    assert installed.value(FERNET, "fernet-key") == KEY
    assert restore(control).changed == ()
    assert set(installed.secrets()) == {FERNET, METADATA, RESULTS}


def test_a_kill_after_the_copy_was_made_is_made_good(control: KubernetesControl, installed: Release) -> None:
    control.set_fernet_keys(Secret(OTHER_KEY), TOKEN)
    installed.change(FERNET, "fernet-key", KEY)  # as it was when the copy had just been made
    assert control.set_fernet_keys(Secret(OTHER_KEY), TOKEN).changed
    assert installed.value(FERNET, "fernet-key") == OTHER_KEY
    assert installed.value(f"{FERNET}-before-migration", "fernet-key") == KEY


def test_an_earlier_migrations_copy_is_not_overwritten(control: KubernetesControl, installed: Release) -> None:
    control.set_fernet_keys(Secret(OTHER_KEY), TOKEN)
    control.set_fernet_keys(Secret(KEY), LATER)
    assert installed.value(f"{FERNET}-before-migration", "fernet-key") == KEY
    assert installed.value(f"{FERNET}-before-migration-{LATER}", "fernet-key") == OTHER_KEY
    control.restore(LATER, keys=Secret(KEY), database="moved", settings={})
    assert installed.value(FERNET, "fernet-key") == OTHER_KEY
    restore(control)
    assert installed.value(FERNET, "fernet-key") == KEY


def test_what_somebody_else_has_set_since_stays(control: KubernetesControl, installed: Release) -> None:
    control.set_fernet_keys(Secret(OTHER_KEY), TOKEN)
    theirs = f"{KEY},{OTHER_KEY}"
    installed.change(FERNET, "fernet-key", theirs)
    with pytest.raises(InvalidInputError, match="somebody else"):
        control.set_fernet_keys(Secret(OTHER_KEY), TOKEN)
    left = restore(control)
    assert left.changed == ()
    assert f"{FERNET}-before-migration" in left.instructions[0]
    assert installed.value(FERNET, "fernet-key") == theirs
    assert installed.value(f"{FERNET}-before-migration", "fernet-key") == KEY


class Overtaken(client.ApiClient):  # type: ignore[misc]
    """Somebody else is a moment faster with each change of some kind, as often as it is told."""

    def act_before(self, path: str, act: Callable[[], None], times: int = 1) -> Overtaken:
        self._path, self._act, self._times = path, act, times
        return self

    def call_api(self, resource_path: str, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "PATCH" and resource_path.endswith(self._path) and self._times:
            self._times -= 1
            self._act()
        return super().call_api(resource_path, method, *args, **kwargs)


@pytest.fixture
def overtaken(installed: Release) -> Callable[..., KubernetesControl]:
    def make(path: str, act: Callable[[], None], times: int = 1) -> KubernetesControl:
        api = Overtaken(installed.cluster.api.configuration).act_before(path, act, times)
        return control_in(installed.cluster, api)

    return make


def test_a_conflict_is_retried_from_a_fresh_read(
    overtaken: Callable[..., KubernetesControl], installed: Release
) -> None:
    control = overtaken("/secrets/{name}", lambda: installed.change(FERNET, "beside", "theirs"))
    assert control.set_fernet_keys(Secret(OTHER_KEY), TOKEN).changed
    assert installed.value(FERNET, "fernet-key") == OTHER_KEY
    assert installed.value(FERNET, "beside") == "theirs"


def test_a_value_set_in_between_is_never_overwritten(
    overtaken: Callable[..., KubernetesControl], installed: Release
) -> None:
    theirs = f"{OTHER_KEY},{KEY}"
    control = overtaken("/secrets/{name}", lambda: installed.change(FERNET, "fernet-key", theirs))
    with pytest.raises(InvalidInputError, match="somebody else"):
        control.set_fernet_keys(Secret(OTHER_KEY), TOKEN)
    assert installed.value(FERNET, "fernet-key") == theirs


def test_a_secret_that_changes_all_the_time_is_given_up(
    overtaken: Callable[..., KubernetesControl], installed: Release
) -> None:
    numbers = iter(range(100))
    control = overtaken("/secrets/{name}", lambda: installed.change(FERNET, "beside", str(next(numbers))), 99)
    with pytest.raises(ConflictError):
        control.set_fernet_keys(Secret(OTHER_KEY), TOKEN)
    assert installed.value(FERNET, "fernet-key") == KEY


def test_the_database_is_changed_in_both_secrets_and_back(control: KubernetesControl, installed: Release) -> None:
    result = control.point_to("moved", TOKEN)
    assert result.changed == (f"secret {RESULTS}/connection", f"secret {METADATA}/connection")
    assert "helm" in result.instructions[0]
    moved = URI.replace("/fresh?", "/moved?")
    assert (installed.value(METADATA, "connection"), installed.value(RESULTS, "connection")) == (moved, f"db+{moved}")
    assert control.point_to("moved", TOKEN).changed == ()
    restore(control)
    assert (installed.value(METADATA, "connection"), installed.value(RESULTS, "connection")) == (URI, f"db+{URI}")
    assert set(installed.secrets()) == {FERNET, METADATA, RESULTS}


def test_a_result_backend_elsewhere_stays(cluster: ClusterUnderTest, release: Release) -> None:
    release.install(results="db+postgresql://u:p@other/fresh")
    control = control_in(cluster)
    assert control.point_to("fresh", TOKEN).changed == ()
    assert control.point_to("moved", TOKEN).changed == (f"secret {METADATA}/connection",)


def test_behind_pgbouncer_its_configuration_is_changed(cluster: ClusterUnderTest, release: Release) -> None:
    release.install(uri=POOLED)
    control = control_in(cluster)
    with pytest.raises(InvalidInputError, match="no secret with its configuration"):
        control.check("moved")
    release.secret(f"{RELEASE}-pgbouncer-config", **{"pgbouncer.ini": INI, "users.txt": "never shown"})
    control.check("moved")
    assert control.point_to("moved", TOKEN).changed == (f"secret {RELEASE}-pgbouncer-config/pgbouncer.ini",)
    ini = release.value(f"{RELEASE}-pgbouncer-config", "pgbouncer.ini")
    assert ini == INI.replace("dbname=fresh", "dbname=moved")
    assert release.value(METADATA, "connection") == POOLED
    restore(control)
    assert release.value(f"{RELEASE}-pgbouncer-config", "pgbouncer.ini") == INI


def test_what_leads_past_pgbouncer_is_changed_with_it(cluster: ClusterUnderTest, release: Release) -> None:
    release.secret(FERNET, **{"fernet-key": KEY})
    release.secret(METADATA, connection=POOLED, kedaConnection=URI)
    release.secret(f"{RELEASE}-pgbouncer-config", **{"pgbouncer.ini": INI})
    release.workload("scheduler")
    control = control_in(cluster)
    changed = (f"secret {METADATA}/kedaConnection", f"secret {RELEASE}-pgbouncer-config/pgbouncer.ini")
    assert control.point_to("moved", TOKEN).changed == changed
    assert release.value(METADATA, "kedaConnection") == URI.replace("/fresh?", "/moved?")
    assert release.value(METADATA, "connection") == POOLED
    assert control.point_to("moved", TOKEN).changed == ()
    restore(control)
    assert release.value(METADATA, "kedaConnection") == URI
    assert not any("before-migration" in name for name in release.secrets())


@pytest.mark.parametrize(
    ("connection", "followed"),
    [
        (POOLED.replace("fresh-pgbouncer.ns.svc", "pooler.db"), True),
        (POOLED.replace("fresh-pgbouncer.ns.svc:6543", "pooler.db:5432"), False),
        (POOLED.replace("fresh-pgbouncer.ns.svc", "pooler.db").replace("fresh-metadata", "other"), False),
        (URI, False),
    ],
    ids=["its port and name", "another port", "another name", "the server itself"],
)
def test_pgbouncer_behind_a_service_of_any_name_is_known_by_its_configuration(
    cluster: ClusterUnderTest, release: Release, connection: str, followed: bool
) -> None:
    release.secret(METADATA, connection=connection)
    release.secret(f"{RELEASE}-pgbouncer-config", **{"pgbouncer.ini": f"{INI}listen_port = 6543\n"})
    found = read_metadata(Cluster(cluster.api, cluster.namespace), {"release": RELEASE})
    assert (found.pooler is not None) == followed
    assert (found.direct.host == "db.example") == (followed or connection == URI)


def test_pgbouncer_that_is_named_starts_first(cluster: ClusterUnderTest) -> None:
    named = ["deployment/scheduler", "deployment/my-pgbouncer", "statefulset/worker"]
    found = find_workloads(Cluster(cluster.api, cluster.namespace), {"workloads": named})
    assert [each.name for each in found] == ["my-pgbouncer", "scheduler", "worker"]


def test_who_parses_is_known_by_the_release(control: KubernetesControl, installed: Release) -> None:
    assert control.restarts_parser(separate=False)
    assert not control.restarts_parser(separate=True)
    installed.workload("dag-processor", replicas=0)
    assert not control_in(installed.cluster).restarts_parser(separate=True)
    assert control_in(installed.cluster, workloads=["deployment/fresh-scheduler"]).restarts_parser(separate=True)


def test_a_deployment_whose_rollouts_are_paused_is_named(control: KubernetesControl, installed: Release) -> None:
    control.check("moved")
    installed.apps.patch_namespaced_deployment(
        f"{RELEASE}-webserver", installed.cluster.namespace, {"spec": {"paused": True}}
    )
    with pytest.raises(InvalidInputError, match=f"{RELEASE}-webserver.*rollout resume"):
        control_in(installed.cluster).check("moved")


@pytest.mark.parametrize("pooled", [False, True])
def test_empty_fields_of_the_connection_are_read_from_the_cluster(
    cluster: ClusterUnderTest, release: Release, pooled: bool
) -> None:
    release.install(uri=POOLED if pooled else URI)
    if pooled:
        release.secret(f"{RELEASE}-pgbouncer-config", **{"pgbouncer.ini": INI})

    def read(**fields: Any) -> Deployment:
        empty = dict.fromkeys(("host", "port", "login", "password", "database"))
        extra = {"control": {"kind": "kubernetes", "namespace": cluster.namespace, "release": RELEASE}}
        return read_deployment(where="here", extra=extra, open_cluster=lambda _: cluster.api, **(empty | fields))

    address = read().address
    assert (address.host, address.port, address.user, address.database) == ("db.example", 5433, "air@flow", "fresh")
    assert address.password == Secret(PASSWORD)
    assert address.ssl == {"sslmode": "prefer" if pooled else "require"}
    address = read(host="direct", login="owner", password="own").address
    assert (address.host, address.port, address.user, address.database) == ("direct", 5432, "owner", "fresh")
    assert address.password == Secret("own")
    assert address.ssl == {}
    assert not read(login="owner").address.password


def test_processes_rest_and_come_back_as_many_as_they_were(cluster: ClusterUnderTest, release: Release) -> None:
    release.install(replicas=2)
    release.scale("webserver", 0)
    control = control_in(cluster)
    first = control.quiet(TOKEN, ignore)
    assert set(first.changed) == {
        "deployment fresh-scheduler", "deployment fresh-webserver", "stateful set fresh-worker"
    }  # fmt: skip
    assert control.quiet(TOKEN, ignore).changed == first.changed
    for component in COMPONENTS:
        assert release.look(component).spec.replicas == 0
        assert not release.pods(component)
    restart(control)
    assert [release.look(each).spec.replicas for each in COMPONENTS] == [2, 0, 2]
    assert len(release.pods("scheduler")) == 2
    assert "stopped" not in str(release.look("scheduler").metadata.annotations)


def test_a_later_migration_takes_over_what_another_left_at_rest(control: KubernetesControl, installed: Release) -> None:
    control.quiet(TOKEN, ignore)
    control.quiet(LATER, ignore)
    restart(control, LATER)
    assert installed.look("scheduler").spec.replicas == 1


def test_what_somebody_else_has_scaled_meanwhile_stays(control: KubernetesControl, installed: Release) -> None:
    control.quiet(TOKEN, ignore)
    installed.scale("scheduler", 3)
    remarks = restart(control).instructions
    assert len(remarks) == 1
    assert "fresh-scheduler" in remarks[0]
    assert installed.look("scheduler").spec.replicas == 3


def test_a_conflict_with_a_controller_is_retried(
    overtaken: Callable[..., KubernetesControl], installed: Release
) -> None:
    control = overtaken("/deployments/{name}", lambda: installed.scale("scheduler", 3))
    control.quiet(TOKEN, ignore)
    restart(control)
    assert installed.look("scheduler").spec.replicas == 3


def test_without_a_rest_all_pods_are_replaced(control: KubernetesControl, installed: Release) -> None:
    control.restart(TOKEN, Client("restart", {}), ignore)
    before = {each: installed.pods(each) for each in COMPONENTS}
    assert len(restart(control).changed) == 3
    for component, pods in before.items():
        assert len(installed.pods(component)) == 1
        assert not installed.pods(component) & pods


@pytest.mark.parametrize(
    ("strategy", "changed"),
    [({"type": "OnDelete"}, [True, True]), ({"rollingUpdate": {"partition": 1}}, [False, True])],
)
def test_pods_that_a_stateful_set_does_not_replace_are_deleted(
    cluster: ClusterUnderTest, release: Release, strategy: dict[str, Any], changed: list[bool]
) -> None:
    release.secret(FERNET, **{"fernet-key": KEY})
    release.workload("scheduler")
    release.workload("worker", replicas=2, strategy=strategy)
    control = control_in(cluster)
    restart(control)
    before = release.pods("worker")
    control.set_settings({CRON: "True"}, TOKEN)
    remarks = restart(control).instructions
    assert len(release.pods("worker")) == 2
    assert not release.pods("worker") & before
    pods = release.core.list_namespaced_pod(cluster.namespace, label_selector="component=worker").items
    held = {pod.metadata.name: CRON in {each.name for each in pod.spec.containers[0].env} for pod in pods}
    assert [held[name] for name in sorted(held)] == changed
    assert [f"first {changed.count(False)} pod" in remark for remark in remarks] == [True] * (False in changed)


def test_one_deadline_holds_for_all_that_is_waited_for(control: KubernetesControl, installed: Release) -> None:
    installed.workload("pgbouncer")
    heard = Heard()
    control.restart(TOKEN, Client("restart", {}), heard)
    waits = [each for each in heard.progress if each.what == "deployments that are not ready"]
    assert {each.total for each in waits} == {1, 3}  # PgBouncer, then the others
    assert sorted(waits, key=lambda each: each.seconds) == waits


@pytest.fixture
def restricted(cluster: ClusterUnderTest) -> Callable[[list[dict[str, Any]]], KubernetesControl]:
    """A control whose account has these rights and no others."""
    core, rbac = client.CoreV1Api(cluster.admin), client.RbacAuthorizationV1Api(cluster.admin)
    name = "airflow-migration-restricted"

    def make(rules: list[dict[str, Any]]) -> KubernetesControl:
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}
        core.create_namespaced_service_account(cluster.namespace, {"metadata": {"name": name}})
        rbac.create_namespaced_role(cluster.namespace, {"metadata": {"name": name}, "rules": rules})
        binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
        rbac.create_namespaced_role_binding(cluster.namespace, binding)
        request: dict[str, Any] = {"spec": {"audiences": None, "expirationSeconds": 3600}}
        token = core.create_namespaced_service_account_token(name, cluster.namespace, request).status.token
        return control_in(cluster, api_client(cluster.url, token, cluster.admin.configuration))

    return make


READ = [
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]},
]


@pytest.fixture
def no_accounts_left(cluster: ClusterUnderTest) -> Any:
    yield
    name = "airflow-migration-restricted"
    client.CoreV1Api(cluster.admin).delete_namespaced_service_account(name, cluster.namespace)
    rbac = client.RbacAuthorizationV1Api(cluster.admin)
    rbac.delete_namespaced_role(name, cluster.namespace)
    rbac.delete_namespaced_role_binding(name, cluster.namespace)


@pytest.mark.usefixtures("no_accounts_left")
def test_pods_are_deleted_one_at_a_time_where_nothing_may_be_patched(
    restricted: Callable[..., KubernetesControl], installed: Release
) -> None:
    control = restricted(READ)
    assert len(control.quiet(TOKEN, ignore).instructions) == 3
    before = {each: installed.pods(each) for each in COMPONENTS}
    restart(control)
    for component, pods in before.items():
        assert len(installed.pods(component)) == 1
        assert not installed.pods(component) & pods
    assert control.set_settings({CRON: "True"}, TOKEN).instructions


@pytest.mark.usefixtures("no_accounts_left")
def test_pods_that_fail_until_they_are_replaced_do_not_keep_the_others_waiting(
    restricted: Callable[..., KubernetesControl], release: Release
) -> None:
    fake = release.cluster.fake
    if fake is None:
        pytest.skip("no image of a real cluster gets ready by its pod's replacement alone")
    fake.images.unready.add(release.image)
    release.secret(FERNET, **{"fernet-key": KEY})
    release.workload("scheduler", replicas=2)
    until(lambda: len(release.pods("scheduler")) == 2)
    until(lambda: release.look("scheduler").status.replicas == 2)
    before = release.pods("scheduler")
    fake.images.unready.clear()
    restart(restricted(READ))
    assert len(release.pods("scheduler")) == 2
    assert not release.pods("scheduler") & before


@pytest.mark.usefixtures("no_accounts_left")
def test_the_check_names_every_right_that_is_missing(
    restricted: Callable[..., KubernetesControl], installed: Release
) -> None:
    before = installed.secrets()
    with pytest.raises(ForbiddenError) as caught:
        restricted(READ).check("moved")
    assert all(
        right in str(caught.value)
        for right in ("get secrets", "create secrets", "patch secrets", "delete secrets", "get configmaps")
    )
    assert "pods" not in caught.value.problem
    assert installed.secrets() == before


def test_pods_that_do_not_get_ready_are_named_with_their_reason(cluster: ClusterUnderTest, release: Release) -> None:
    release.install(replicas=0)
    release.workload("triggerer", image="registry.invalid/none:1")
    control = control_in(cluster, ready_timeout=5 if cluster.fake else 60)
    with pytest.raises(NotReadyError, match=r"fresh-triggerer.*(ErrImagePull|ImagePullBackOff)"):
        restart(control)


def test_settings_are_set_in_pod_templates_and_taken_back(control: KubernetesControl, installed: Release) -> None:
    installed.workload("triggerer", env={CRON: "False"})
    control = control_in(installed.cluster)
    assert control.settings() == {CRON: "False"}
    result = control.set_settings({CRON: "True"}, TOKEN)
    assert result.changed == (CRON,)
    assert "helm" in result.instructions[0]
    assert {installed.variables(each)[CRON] for each in ("scheduler", "worker", "triggerer")} == {"True"}
    assert control.settings() == {CRON: "True"}
    assert control.set_settings({CRON: "True"}, TOKEN).changed == ()
    assert len(restore(control, settings={CRON: "True"}).changed) == 4
    assert CRON not in installed.variables("scheduler")
    assert installed.variables("triggerer")[CRON] == "False"
    assert restore(control, settings={CRON: "True"}).changed == ()


def test_a_setting_that_somebody_else_has_changed_stays(control: KubernetesControl, installed: Release) -> None:
    control.set_settings({CRON: "True"}, TOKEN)
    container = {"name": "scheduler", "env": [{"name": CRON, "value": "theirs"}]}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    installed.apps.patch_namespaced_deployment(f"{RELEASE}-scheduler", installed.cluster.namespace, patch)
    left = restore(control, settings={CRON: "True"})
    assert len(left.changed) == 2
    assert len(left.instructions) == 1
    assert installed.variables("scheduler")[CRON] == "theirs"


def test_airflow_cfg_of_the_chart_counts_where_no_variable_does(control: KubernetesControl, installed: Release) -> None:
    cfg = "[core]\nauth_manager = fab.FabAuthManager\n[scheduler]\ncreate_cron_data_intervals = False\n"
    body = {"metadata": {"name": f"{RELEASE}-config"}, "data": {"airflow.cfg": cfg}}
    installed.core.create_namespaced_config_map(installed.cluster.namespace, body)
    try:
        installed.workload("triggerer", env={CRON: "True"})
        seen = control_in(installed.cluster).settings()
        assert seen == {"AIRFLOW__CORE__AUTH_MANAGER": "fab.FabAuthManager", CRON: "True"}
    finally:
        installed.core.delete_namespaced_config_map(f"{RELEASE}-config", installed.cluster.namespace)
