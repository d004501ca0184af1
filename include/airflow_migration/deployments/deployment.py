"""What a connection says about one Airflow deployment, checked once, before anything uses it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from psycopg.pq import Conninfo

from airflow_migration.deployments.connection_type import ACCEPTED_TYPES, CONNECTION_TYPE
from airflow_migration.deployments.kubernetes import options
from airflow_migration.deployments.kubernetes.cluster import Cluster, OpenCluster, open_from_environment
from airflow_migration.deployments.kubernetes.database import Metadata, read_metadata
from airflow_migration.deployments.pod_options import POD_OPTIONS, check_pod_options
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import NAME_BYTES
from airflow_migration.postgres.schemas import PUBLIC
from airflow_migration.secret import Secret

DEFAULT_PORT = 5432
OWN_EXTRAS = (
    "metadata_schema",
    "secret_fernet_key",
    "airflow_version",
    "maintenance_database",
    "control",
    "runtime",
    "dags_folder",
)
# The connection's own fields and the session's settings, which an extra must not contradict.
SETTLED = {"host", "hostaddr", "port", "user", "password", "dbname", "passfile", "service", "options"}
SETTLED |= {
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "connect_timeout",
    "replication",
}
# Fernet decodes with base64.urlsafe_b64decode, which also takes what `openssl rand -base64 32` prints.
FERNET_KEY = re.compile(r"[A-Za-z0-9_/+-]{43}=")
RELEASE = re.compile(r"\d+\.\d+\.\d+")
SHELL_CHARACTERS = set("|&;<>()$`\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One deployment: where its metadata are, and what else must be known to move it.

    :param address: its metadata database
    :param fernet_keys: newest first, separated by commas; empty when it does not encrypt
    :param airflow_version: release that the connection names
    :param control: where it keeps its settings and processes; None when the connection does not say
    :param runtime: where its release's ``airflow`` command runs
    :param dags_folder: where its DAG files can be read
    :param open_cluster: gives a client for the Kubernetes cluster that a connection id names
    """

    address: DatabaseAddress
    fernet_keys: Secret = field(default_factory=lambda: Secret(""))
    airflow_version: str | None = None
    control: Mapping[str, Any] | None = None
    runtime: Mapping[str, Any]
    dags_folder: str | None = None
    open_cluster: OpenCluster = field(default=open_from_environment, repr=False, compare=False)


def read_deployment(  # noqa: PLR0913  as many as a connection has fields
    *,
    where: str,
    host: str | None,
    port: int | None,
    login: str | None,
    password: str | None,
    database: str | None,
    extra: str | Mapping[str, Any] | None,
    conn_type: str | None = None,
    open_cluster: OpenCluster = open_from_environment,
) -> Deployment:
    """Check the fields of a connection and put them in order.

    :param where: names the connection in errors
    :param conn_type: the type that the connection says it has, if any
    :param extra: JSON object or its text; empty values count as absent. Fields that are empty beside a control of
        kind kubernetes are read from the cluster
    :param open_cluster: gives a client for the Kubernetes cluster that a connection id names
    :raises InvalidInputError: something is missing, unknown or malformed
    """
    reader = _Reader(where)
    if conn_type not in ACCEPTED_TYPES:
        reader.refuse(f"its type is {conn_type}", f"Give it the type {CONNECTION_TYPE}")
    extras = reader.extras(extra)
    keys = reader.fernet_keys(extras.get("secret_fernet_key"))
    control = reader.control(extras)
    typed = _Typed(host=host, port=port, login=login, password=password, database=database, ssl=reader.libpq(extras))
    if control and control["kind"] == options.KIND and not (host and login and database):
        typed = typed.completed(
            read_metadata(Cluster(open_cluster(control.get("conn_id")), control["namespace"]), control)
        )
    address = DatabaseAddress(
        host=reader.required("host", typed.host),
        port=typed.port or DEFAULT_PORT,
        user=reader.required("login", typed.login),
        password=Secret(typed.password or ""),
        database=reader.required("schema (the name of the metadata database)", typed.database),
        maintenance_database=reader.text(extras, "maintenance_database") or "postgres",
        schema=reader.schema(extras),
        ssl=typed.ssl,
    )
    return Deployment(
        address=address,
        fernet_keys=keys,
        airflow_version=reader.release(extras),
        control=control,
        runtime=reader.runtime(extras),
        dags_folder=reader.text(extras, "dags_folder"),
        open_cluster=open_cluster,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Typed:
    """What the fields of a connection say of the database."""

    host: str | None
    port: int | None
    login: str | None
    password: str | None = field(repr=False)
    database: str | None
    ssl: Mapping[str, str]

    def completed(self, metadata: Metadata) -> _Typed:
        """What is empty is taken from the cluster; password and port only with the login and host they belong to."""
        direct = metadata.direct
        theirs = not self.login or self.login == direct.user
        known = {option.keyword.decode() for option in Conninfo.get_defaults()} - SETTLED
        params = {name: value for name, value in direct.params.items() if name in known}
        return _Typed(
            host=self.host or direct.host,
            port=self.port or (None if self.host else direct.port),
            login=self.login or direct.user,
            password=self.password or (direct.password.reveal() if theirs else None),
            database=self.database or direct.database,
            ssl=dict(self.ssl) if self.host else params | dict(self.ssl),
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    where: str

    def refuse(self, problem: str, remedy: str) -> NoReturn:
        raise InvalidInputError(problem, where=self.where, remedy=remedy)

    def required(self, name: str, value: str | None) -> str:
        return value or self.refuse(f"the connection has no {name}", "Fill it in")

    def extras(self, extra: str | Mapping[str, Any] | None) -> dict[str, Any]:
        content = self.json_object("extra", extra) if extra else {}
        return {name: value for name, value in content.items() if value not in (None, "")}

    def json_object(self, name: str, value: object) -> dict[str, Any]:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as err:
                place = f"line {err.lineno} column {err.colno}" if isinstance(err, json.JSONDecodeError) else "it"
                self.refuse(f"{name} is not JSON, at {place}", "Write it as a JSON object")
        if not isinstance(value, Mapping):
            self.refuse(f"{name} is not a JSON object", "Write it as a JSON object, e.g. {…}")
        return dict(value)

    def text(self, extras: Mapping[str, Any], name: str) -> str | None:
        value = extras.get(name)
        if value is not None and not isinstance(value, str):
            self.refuse(f"extra {name} is not text", "Write it in quotes")
        return value

    def schema(self, extras: Mapping[str, Any]) -> str:
        name = self.text(extras, "metadata_schema") or PUBLIC
        if len(name.encode()) > NAME_BYTES:
            self.refuse(
                f"extra metadata_schema is longer than {NAME_BYTES} bytes", "Name the schema as Postgres lists it"
            )
        if name == "airflow_migration" or name.startswith("pg_") or name == "information_schema":
            self.refuse(f'extra metadata_schema is "{name}", which is not for Airflow\'s tables', "Name another schema")
        return name

    def fernet_keys(self, value: object) -> Secret:
        if value is None:
            return Secret("")
        if not isinstance(value, str):
            self.refuse("extra secret_fernet_key is not text", "Write the keys in quotes, newest first, with commas")
        keys = [key.strip() for key in value.split(",") if key.strip()]
        for number, key in enumerate(keys, 1):
            if not FERNET_KEY.fullmatch(key):
                self.refuse(
                    f"extra secret_fernet_key: key {number} of {len(keys)} is not a fernet key "
                    f"(44 characters of base64 for 32 bytes; it has {len(key)} characters)",
                    "Copy [core] fernet_key of that deployment, newest key first, separated by commas",
                )
        return Secret(",".join(keys))

    def release(self, extras: Mapping[str, Any]) -> str | None:
        release = self.text(extras, "airflow_version")
        if release and not RELEASE.fullmatch(release):
            self.refuse(f"extra airflow_version is {release!r}, which names no release", "Write it like 2.10.5")
        return release

    def control(self, extras: Mapping[str, Any]) -> dict[str, Any] | None:
        if "control" not in extras:
            return None
        file = {"path", "restart_command"}
        kinds = {"env_file": file, "airflow_cfg": file, options.KIND: options.OPTIONS, "manual": set()}
        control = self.kind("control", extras["control"], kinds)
        if control["kind"] == "manual":
            return control
        if control["kind"] == options.KIND:
            for problem, remedy in options.faults(control):
                self.refuse(f"control: {problem}", remedy)
            return control
        self.text_of("control", control, "path", required=True)
        command = control.get("restart_command")
        if isinstance(command, str):
            command = self.split(command)
        if command is not None:
            if not isinstance(command, list) or not all(isinstance(part, str) for part in command) or not command:
                self.refuse("control: restart_command is no list of words", 'Write it like ["docker", "restart", "a"]')
            control["restart_command"] = command
        return control

    def split(self, command: str) -> list[str]:
        if SHELL_CHARACTERS & set(command):
            self.refuse(
                "control: restart_command needs a shell, and none is used",
                'Write it as a list, e.g. ["/bin/sh", "-c", "…"]',
            )
        try:
            return shlex.split(command)
        except ValueError:
            self.refuse("control: restart_command has an open quote", "Write it as a list of words")

    def runtime(self, extras: Mapping[str, Any]) -> dict[str, Any]:
        kinds = {"venv": {"environments", "python"}, "kubernetes": POD_OPTIONS}
        runtime = self.kind("runtime", extras.get("runtime", {"kind": "venv"}), kinds)
        if runtime["kind"] == "kubernetes":
            check_pod_options(runtime, self.refuse)
            if extras.get("dags_folder"):
                self.refuse(
                    "extra dags_folder: pods of runtime kubernetes do not see that folder",
                    "Leave it out: the target's DAG processor is waited for instead",
                )
            return runtime
        self.text_of("runtime", runtime, "python")
        environments = self.json_object("runtime: environments", runtime.get("environments", {}))
        for release, path in environments.items():
            if not RELEASE.fullmatch(release) or not isinstance(path, str) or not path:
                self.refuse(
                    f"runtime: environments has no path for {release!r}",
                    'Write it like {"2.11.2": "/path/of/a/virtual/environment"}',
                )
        runtime["environments"] = environments
        return runtime

    def kind(self, name: str, value: object, known: Mapping[str, set[str]]) -> dict[str, Any]:
        content = self.json_object(f"extra {name}", value)
        kind = content.get("kind")
        listed = " or ".join(f'"{each}"' for each in known)
        if not isinstance(kind, str) or kind not in known:
            seen = f'kind "{kind}" is not supported yet' if kind else "kind is missing"
            leave = " or leave control out" if name == "control" else ""
            self.refuse(f"extra {name}: {seen}", f'Use {{"kind": {listed}, …}}{leave}')
        unknown = sorted(set(content) - known[kind] - {"kind"})
        if unknown:
            self.refuse(
                f"extra {name}: kind {kind} knows no {', '.join(unknown)}",
                f"It takes {', '.join(sorted(known[kind]))}",
            )
        return {key: part for key, part in content.items() if part not in (None, "")}

    def text_of(self, name: str, content: Mapping[str, Any], key: str, *, required: bool = False) -> None:
        value = content.get(key)
        if value is None and not required:
            return
        if not isinstance(value, str):
            self.refuse(f"extra {name}: {key} is missing or not text", f"Give {key} as text")

    def libpq(self, extras: Mapping[str, Any]) -> dict[str, str]:
        """What is not ours must be a connection parameter of libpq (its own list, so also future ones)."""
        theirs = {option.keyword.decode() for option in Conninfo.get_defaults()} - SETTLED
        rest = {name: value for name, value in extras.items() if name not in OWN_EXTRAS}
        unknown = sorted(set(rest) - theirs)
        if unknown:
            self.refuse(
                f"unknown extra {', '.join(unknown)}",
                f"Remove it; known are {', '.join(OWN_EXTRAS)} and libpq's parameters (sslmode, …)",
            )
        for name, value in rest.items():
            if not isinstance(value, str | int):
                self.refuse(f"extra {name} is neither text nor a number", "Write it as libpq's documentation says")
        return {name: str(int(value)) if isinstance(value, bool) else str(value) for name, value in rest.items()}
