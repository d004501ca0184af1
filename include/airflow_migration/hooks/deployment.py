"""Reach one Airflow deployment: its metadata database and its secrets."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.log import mask_secret

from airflow_migration.deployments.connection_type import CONNECTION_TYPE
from airflow_migration.deployments.control import control_of
from airflow_migration.deployments.deployment import Deployment, read_deployment
from airflow_migration.deployments.kubernetes.control import KubernetesControl
from airflow_migration.exceptions import InvalidInputError, MigrationError
from airflow_migration.get_provider_info import CONNECTION_FIELDS, FIELD_BEHAVIOUR, HOOK_NAME
from airflow_migration.metadata.releases import read_head, releases_at
from airflow_migration.postgres.address import Session
from airflow_migration.progress import amount

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


class DeploymentHook(PostgresHook):
    """A `PostgresHook` whose sessions are read-only unless asked otherwise, and never log a statement.

    :param deployment_conn_id: connection of type ``airflow_deployment``
    :param read_only: open sessions that cannot write
    """

    conn_name_attr = "deployment_conn_id"
    default_conn_name = "airflow_deployment_default"
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(self, *args: Any, read_only: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, log_sql=False, **kwargs)
        self.read_only = read_only

    def deployment(self) -> Deployment:
        """What the connection says, checked; its secrets are masked in logs from here on.

        :raises InvalidInputError: there is no such connection, or it says something that cannot be
        """
        return self._deployment

    def get_conn(self) -> Session:
        """A session in the metadata database."""
        return self._deployment.address.connect(read_only=self.read_only)

    def test_connection(self) -> tuple[bool, str]:  # type: ignore[override]
        """For the button in the UI: release, size and server version, or what is wrong.

        Of a deployment in a cluster also whether all is there that a migration needs, with the rights to it.
        """
        try:
            with self._deployment.address.connect(statement_timeout=20) as session:
                answer = describe(session)
            return True, answer + self._check_cluster()
        except MigrationError as err:
            return False, str(err)
        except psycopg.Error as err:
            return False, f"The database answers: {err.diag.message_primary or type(err).__name__}"
        except Exception as err:
            # Its text is unknown and may hold the connection, which the answer must not.
            self.log.debug("Test of connection %s failed", self.get_conn_id(), exc_info=True)
            return False, f"Unexpected {type(err).__name__}; see the log of the API server at level DEBUG"

    def _check_cluster(self) -> str:
        control = control_of(self._deployment)
        if not isinstance(control, KubernetesControl):
            return ""  # a file may be one of the workers', which the API server does not see
        control.check(self._deployment.address.database)
        return f"; {control} is found"

    @cached_property
    def _deployment(self) -> Deployment:
        where = f'connection "{self.get_conn_id()}"'
        try:
            connection = self.connection
        except AirflowNotFoundException:
            raise InvalidInputError(
                "there is no such connection",
                where=where,
                remedy=f"Create it with type {CONNECTION_TYPE}, or name another one",
            ) from None
        _mask_password(connection.password or "")
        deployment = read_deployment(
            where=where,
            conn_type=connection.conn_type,
            host=connection.host,
            port=connection.port,
            login=connection.login,
            password=connection.password,
            database=connection.schema,
            extra=connection.extra,
            open_cluster=open_cluster,
        )
        _mask_password(deployment.address.password.reveal())  # it may have been read from the deployment's cluster
        for key in deployment.fernet_keys.reveal().split(","):
            if key:
                mask_secret(key)
        return deployment

    # Airflow 3.1 asks the class for the form's fields; later ones read them from the provider info.
    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's fields beside the standard ones."""
        from flask_babel import lazy_gettext
        from wtforms import PasswordField, StringField

        widgets = {}
        for name, each in CONNECTION_FIELDS.items():
            kind = PasswordField if each["schema"].get("format") == "password" else StringField
            default = each["schema"].get("default")
            widgets[name] = kind(lazy_gettext(each["label"]), description=each["description"], default=default)
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """How the form's standard fields are named."""
        return {key.replace("-", "_"): value for key, value in FIELD_BEHAVIOUR.items()}


def open_cluster(conn_id: str | None) -> ApiClient:
    """A client for the cluster of a connection of type ``kubernetes``.

    :param conn_id: None for the cluster in which this Airflow runs, or the one that KUBECONFIG names
    :raises InvalidInputError: there is no such connection, or it names no cluster
    """
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    where = f'connection "{conn_id}"' if conn_id else "cluster of this Airflow"
    try:
        client = KubernetesHook(conn_id=conn_id).get_conn()
    except AirflowNotFoundException:
        problem, remedy = "there is no such connection", "Create it with type kubernetes, or name another one"
    except Exception as err:
        # Of a kubeconfig that is none, YAML's parser and the client tell in many ways, some with the text itself.
        problem, remedy = f"it names no cluster ({type(err).__name__})", "Correct it; its type is kubernetes"
    else:
        for token in client.configuration.api_key.values():
            mask_secret(token.removeprefix("Bearer "))
        return client
    raise InvalidInputError(problem, where=where, remedy=remedy)


def _mask_password(password: str) -> None:
    """Also as a connection string spells it."""
    for spelt in {password, quote(password, safe=""), quote(password)}:
        if spelt:
            mask_secret(spelt)


def describe(session: Session) -> str:
    """One sentence on a metadata database: release, size, server.

    :raises InvalidInputError: it is not one
    """
    head = read_head(session)
    releases = releases_at(head)
    row = session.execute(
        "SELECT current_database(), pg_database_size(current_database()), current_setting('server_version')"
    ).fetchone()
    assert row is not None
    name, size, server = row
    if not releases:
        release = f"of a release that is not known (revision {head})"
    elif len(releases) == 1:
        release = releases[0].version
    else:
        release = f"{releases[0].version} to {releases[-1].version}"
    return f'Airflow {release}; database "{name}" of {amount(int(str(size)), "bytes")}; PostgreSQL {server}'
