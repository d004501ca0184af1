"""What Airflow is told about this package when it starts: connection type, settings, modules."""

from __future__ import annotations

from typing import Any

from airflow_migration.deployments.connection_type import CONNECTION_TYPE

HOOK_NAME = "Airflow deployment"
INTEGRATION = "Airflow migration"
TEXT = ["string", "null"]

CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "metadata_schema": {
        "label": "Metadata schema",
        "description": "Postgres schema of Airflow's tables; `airflow` on Astronomer. Source and target may differ.",
        "schema": {"type": TEXT, "default": "public"},
    },
    "secret_fernet_key": {
        "label": "Fernet keys",
        "description": "[core] fernet_key of this deployment; several are separated by commas, newest first. "
        "Empty when it does not encrypt.",
        "schema": {"type": TEXT, "format": "password"},
    },
    "airflow_version": {
        "label": "Airflow release",
        "description": "On a source: checked against the database. On a target: the release to upgrade to. "
        "Empty: detected, or the newest supported.",
        "schema": {"type": TEXT},
    },
    "maintenance_database": {
        "label": "Maintenance database",
        "description": "Database to be connected to for CREATE DATABASE.",
        "schema": {"type": TEXT, "default": "postgres"},
    },
    "control": {
        "label": "Control (JSON)",
        "description": 'Where the deployment keeps its settings: {"kind": "env_file" or "airflow_cfg", "path": "…", '
        '"restart_command": ["…"]}; {"kind": "kubernetes", "conn_id": "…", "namespace": "…", "release": "…"}, with '
        'which server, login and database may stay empty; {"kind": "manual"} has a person do it. A source needs none.',
        "schema": {"type": TEXT, "format": "multiline"},
    },
    "runtime": {
        "label": "Runtime (JSON)",
        "description": "Where another release's `airflow` command runs: "
        '{"kind": "venv", "environments": {"2.11.2": "/path"}, "python": "/path/of/python"}. '
        "Releases without an environment are installed on demand. Or "
        '{"kind": "kubernetes", "conn_id": "…", "namespace": "airflow", "image": "apache/airflow:{release}"}.',
        "schema": {"type": TEXT, "format": "multiline"},
    },
    "dags_folder": {
        "label": "DAGs folder",
        "description": "Where this Airflow can read the deployment's DAG files, if it can.",
        "schema": {"type": TEXT},
    },
    "sslmode": {
        "label": "TLS mode",
        "description": "libpq's sslmode. Its other parameters (sslrootcert, …) go into the extra JSON.",
        "schema": {
            "type": TEXT,
            "enum": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full", None],
        },
    },
}

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": [],
    "relabeling": {"schema": "Metadata database", "login": "Role", "host": "Database server"},
    "placeholders": {"host": "db.example.org", "port": "5432", "schema": "airflow", "login": "airflow"},
}


def get_provider_info() -> dict[str, Any]:
    """What the entry point ``apache_airflow_provider`` answers."""
    return {
        "package-name": "airflow-provider-migration",
        "name": "Airflow Migration",
        "description": "Moves a live Airflow to a newer one: connections, variables, runs and all.",
        "integrations": [{"integration-name": INTEGRATION, "tags": ["software"]}],
        "hooks": [{"integration-name": INTEGRATION, "python-modules": ["airflow_migration.hooks.deployment"]}],
        "bundles": [{"integration-name": INTEGRATION, "python-modules": ["airflow_migration.bundles"]}],
        "extra-links": ["airflow_migration.links.console.ConsoleLink", "airflow_migration.links.report.ReportLink"],
        "notifications": ["airflow_migration.notifications.migration.MigrationNotifier"],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": "airflow_migration.hooks.deployment.DeploymentHook",
                "hook-name": HOOK_NAME,
                "conn-fields": CONNECTION_FIELDS,
                "ui-field-behaviour": FIELD_BEHAVIOUR,
            }
        ],
        "config": {
            "airflow_migration": {
                "description": "Where the control Airflow keeps what a migration needs and leaves.",
                "options": {
                    "runtimes_path": _option(
                        "Folder for the virtual environments of other Airflow releases; they are built once.",
                        "{AIRFLOW_HOME}/migration-runtimes",
                    ),
                    "reports_path": _option(
                        "Folder for report.json and report.html of each migration.",
                        "{AIRFLOW_HOME}/migration-reports",
                    ),
                    "dumps_path": _option(
                        "Folder for the dumps that travel between two servers; needs room for the source.",
                        "{AIRFLOW_HOME}/migration-dumps",
                    ),
                    "postgres_bin_path": _option(
                        "Folder of pg_dump, pg_restore and psql. Empty: found by themselves.", ""
                    ),
                    "rehearsal_schedule": _option(
                        "When rehearse_migration runs by itself once it is unpaused: a cron expression or preset. "
                        "Empty: only when it is triggered.",
                        "@weekly",
                    ),
                    "notify_conn_ids": _option(
                        "Connections of type smtp or slackwebhook by which people are told how a run of the DAGs "
                        "ended, separated by commas. Empty: nobody is.",
                        "",
                    ),
                    "notify_emails": _option(
                        "Addresses for those of type smtp, separated by commas. The sender is the connection's.", ""
                    ),
                },
            }
        },
    }


def _option(description: str, default: str) -> dict[str, Any]:
    return {
        "description": f"{description}\n",
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": default,
    }
