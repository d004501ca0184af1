"""What every step is given: the plan, both deployments, and where this machine keeps its things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from airflow_migration.deployments.control import control_of
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.deployments.kubernetes.cluster import Cluster
from airflow_migration.exceptions import MigrationError
from airflow_migration.planning.keys import Keys, keys_in_use, keys_of
from airflow_migration.planning.plan import Plan, dump_name
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.process import Client
from airflow_migration.runtimes.kubernetes import KubernetesRuntime
from airflow_migration.runtimes.pod_spec import PodOptions
from airflow_migration.runtimes.runtime import Runtime
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Paths of the machine that runs the steps.

    :param bin_path: where Postgres's client programs are looked for first; None looks in the usual places
    """

    runtimes_path: Path
    dumps_path: Path
    reports_path: str
    bin_path: str | None = None


@dataclass(slots=True)
class Running:
    """The child processes of a step, so that a killed task leaves none behind."""

    _stops: list[Callable[[], None]] = field(default_factory=list)

    def add(self, stop: Callable[[], None]) -> None:
        self._stops.append(stop)

    def stop(self) -> None:
        for stop in self._stops:
            stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One migration under way, or a rehearsal of one.

    :param scratch: of a rehearsal, the server on which both of its databases are; None for a migration
    """

    plan: Plan
    source: Deployment
    target: Deployment
    workshop: Workshop
    running: Running = field(default_factory=Running)
    scratch: DatabaseAddress | None = None

    @property
    def id(self) -> str:
        return self.plan.migration_id

    @property
    def frozen(self) -> DatabaseAddress:
        server = self._scratch_with(self.source.address.schema) or self.source.address
        return server.on(self.plan.frozen_database).seeing(self.plan.users_schema)

    @property
    def working(self) -> DatabaseAddress:
        server = self._scratch_with(self.target.address.schema) or self.target.address
        return server.on(self.plan.working_database)

    def _scratch_with(self, schema: str) -> DatabaseAddress | None:
        return None if self.scratch is None else replace(self.scratch, schema=schema)

    @property
    def final(self) -> DatabaseAddress:
        return self.target.address.on(self.plan.target_database)

    @property
    def keys(self) -> Keys:
        """Which fernet keys read what; read anew each time, as a person may have changed them."""
        return keys_of(self.source, self.target, self.plan.fernet)

    @property
    def keys_in_use(self) -> Secret:
        """The keys that the target will use: of a migration by what its control says now, as the key is swapped."""
        return self.keys.working if self.scratch is not None else keys_in_use(self.keys, self.target)

    @property
    def target_settings(self) -> Mapping[str, str]:
        """The target's settings that decide what its own commands do to a database.

        A rehearsal goes on without them where they cannot be read, which is a finding of its own.
        """
        try:
            return control_of(self.target).settings()
        except MigrationError:
            if self.scratch is None:
                raise
            return {}

    @property
    def dump_path(self) -> Path:
        return self.workshop.dumps_path / dump_name(self.plan.token)

    def client(self, step: str, address: DatabaseAddress) -> Client:
        """A client program's process at a database, which the task's end takes with it."""
        client = Client(step, address.environment())
        self.running.add(client.stop)
        return client

    def runtime(self) -> Runtime:
        """Where the releases' own `airflow` runs."""
        runtime = build_runtime(self.target, self.workshop)
        self.running.add(runtime.stop)
        return runtime


def build_runtime(target: Deployment, workshop: Workshop) -> Runtime:
    """The runtime that the target's connection asks for."""
    runtime = dict(target.runtime)
    if runtime.pop("kind") == "kubernetes":
        conn_id, options = runtime.pop("conn_id", None), PodOptions(**runtime)
        return KubernetesRuntime(lambda: Cluster(target.open_cluster(conn_id), options.namespace), options)
    return VenvRuntime(
        root=workshop.runtimes_path,
        environments=runtime.get("environments", {}),
        python=runtime.get("python"),
    )
