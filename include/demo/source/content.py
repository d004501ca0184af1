"""What a person typed into the demo's old deployment: connections, variables, pools, users and manual runs.

Every secret begins with ``demo-secret-`` so that a search of logs and reports finds a leak.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

#: For the demo alone; never use it elsewhere.
FERNET_KEY = "KNpB8u7FRTzfuTiYJJOxSOliS0ui0cYIgVVsW1FHT7E="


def secret(name: str) -> str:
    """A value that occurs nowhere else and is the same in every making."""
    return f"demo-secret-{name.replace('_', '-')}-{sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A row of ``connection`` as it is in the finished database.

    :param made_as: the id it is made with, where two rows end with one id
    :param encrypted: whether a fernet key was configured when it was made
    """

    conn_id: str
    conn_type: str | None
    host: str | None = None
    login: str | None = None
    password: str | None = None
    schema: str | None = None
    port: int | None = None
    extra: str | None = None
    encrypted: bool = True
    made_as: str | None = None

    def argv(self) -> list[str]:
        """The command of 1.10 that makes it; a type is required there."""
        argv = ["connections", "add", self.made_as or self.conn_id, "--conn-type", self.conn_type or "http"]
        for option in ("host", "login", "password", "schema", "port", "extra"):
            value = getattr(self, option)
            if value is not None:
                argv.append(f"--conn-{option}={value}")
        return argv

    def facts(self) -> dict[str, object]:
        """Plain values for facts.json."""
        return {name: value for name, value in asdict(self).items() if name != "made_as"}


def _service(conn_id: str, conn_type: str, port: int | None, **extra: object) -> Connection:
    """A server with login, password and perhaps an extra."""
    name = conn_id.replace("_", "-")
    return Connection(
        conn_id=conn_id,
        conn_type=conn_type,
        host=f"{name}.example.com",
        login=f"svc_{conn_id}",
        password=secret(conn_id),
        schema=conn_id if port else None,
        port=port,
        extra=json.dumps(extra) if extra else None,
    )


def _keyed(conn_id: str, conn_type: str, **extra: object) -> Connection:
    """A cloud account: its secret is in the extra."""
    return Connection(conn_id=conn_id, conn_type=conn_type, extra=json.dumps(extra))


GOOGLE = "extra__google_cloud_platform__"

CONNECTIONS = (
    *(_service(i, "postgres", 5432) for i in ("dwh", "dwh_staging", "orders_db", "billing_db", "identity_db")),
    _service("ledger_db", "postgres", 5433, sslmode="require", options="-c search_path=ledger"),
    *(_service(i, "mysql", 3306) for i in ("web_shop", "cms", "loyalty")),
    _service("erp", "oracle", 1521, thick_mode=True, wallet_password=secret("erp_wallet")),
    _service("mainframe", "mssql", 1433),
    *(_service(i, "http", 443) for i in ("fx_rates_api", "carrier_api", "weather_api", "nps_api")),
    _service("support_desk", "http", 443, api_key=secret("support_desk_key")),
    *(_service(i, "sftp", 22) for i in ("bank_sftp", "vendor_sftp", "customs_sftp")),
    _service("vendor_ssh", "ssh", 22, private_key_passphrase=secret("vendor_ssh_key"), no_host_key_check=True),
    _service("fax_archive", "ftp", 21),
    _service("events", "hive_cli", 10000),
    _service("lake", "presto", 8080, protocol="https"),
    _service("search", "elasticsearch", 9200),
    _service("cache", "redis", 6379),
    _service("clickstream", "cassandra", 9042),
    _service("documents", "mongo", 27017, srv=False, authSource="admin"),
    _service("snow", "snowflake", None, account="demo", warehouse="BI", token=secret("snow_token")),
    _keyed("aws_prod", "aws", aws_access_key_id="AKIADEMO", aws_secret_access_key=secret("aws_prod")),
    _keyed("aws_archive", "s3", aws_access_key_id="AKIAARCH", aws_secret_access_key=secret("aws_archive")),
    _keyed("azure_blob", "wasb", sas_token=secret("azure_blob")),
    _keyed(
        "gcp_prod",
        "google_cloud_platform",
        **{
            f"{GOOGLE}project": "demo-prod",
            f"{GOOGLE}keyfile_dict": json.dumps({"private_key": secret("gcp_prod")}),
        },
    ),
    Connection(
        conn_id="slack_alerts", conn_type="http", host="https://hooks.example.com", password=secret("slack/alerts")
    ),
    Connection(
        conn_id="special_characters",
        conn_type="postgres",
        host="db.example.com",
        login="o'brien",
        password=secret("special") + " é%@:/'\"\\$",
        schema="Größe",
        port=5432,
    ),
    Connection(conn_id="local_files", conn_type="fs", extra=json.dumps({"path": "/data/in"})),
    Connection(conn_id="public_api", conn_type="http", host="https://api.example.com"),
    # Made while no key was configured: readable by whoever reads the database.
    Connection(
        conn_id="intranet_plain",
        conn_type="http",
        host="intranet.example.com",
        login="reader",
        password=secret("intranet_plain"),
        encrypted=False,
    ),
    # Two without a type: one whose extra tells it, one where nothing does.
    Connection(
        conn_id="bigquery_reports",
        conn_type=None,
        extra=json.dumps(
            {
                f"{GOOGLE}project": "demo-reports",
                f"{GOOGLE}keyfile_dict": json.dumps({"private_key": secret("bigquery")}),
            }
        ),
    ),
    Connection(
        conn_id="partner_drop",
        conn_type=None,
        host="drop.example.com",
        login="partner",
        password=secret("partner_drop"),
    ),
    # One id, two rows: 1.10 took one of them at random.
    _service("reporting_replica", "postgres", 5432),
    Connection(
        conn_id="reporting_replica",
        conn_type="postgres",
        host="reporting-replica-b.example.com",
        login="svc_reporting_replica",
        password=secret("reporting_replica_b"),
        schema="reporting_replica",
        port=5432,
        made_as="reporting_replica_b",
    ),
)

ENCRYPTED_VARIABLES = {
    **{
        f"{team}_api_token": secret(f"{team}_api_token")
        for team in ("finance", "marketing", "sales", "supply", "science")
    },
    **{
        f"{name}_webhook": f"https://hooks.example.com/{secret(f'{name}_webhook')}"
        for name in ("oncall", "deploy", "audit")
    },
    "smtp_settings": json.dumps({"host": "smtp.example.com", "user": "mailer", "password": secret("smtp_settings")}),
    "pgp_private_key": "-----BEGIN KEY-----\n" + secret("pgp_private_key") + "\n-----END KEY-----",
    "umlauts": "Größenordnung " + secret("umlauts"),
    "feature_flags": json.dumps({"new_ledger": True, "limits": [10, 20, None], "note": secret("feature_flags")}),
    "environment": "production",
    "run_owner_mail": "airflow@example.com",
}

PLAIN_VARIABLES = {
    "plain_batch_size": "5000",
    "plain_regions": json.dumps(["north", "south", "Übersee"]),
    "plain_calendar": "demo-plain-calendar-2026",
    "plain_threshold": "0.995",
    "plain_password_hint": secret("plain_password_hint"),
}

POOLS = {"warehouse": 32, "gpu": 8, "sensors": 16, "api_calls": 4}

USERS = (
    ("admin", "Admin", "Ada", "Admin"),
    ("olga", "Op", "Olga", "Operator"),
    ("victor", "Viewer", "Victor", "Viewer"),
    ("uma", "User", "Uma", "User"),
)

#: DAG, run id, conf
MANUAL_RUNS: tuple[tuple[str, str, object], ...] = (
    ("platform_reindex_search", "rerun after outage", {"index": "customers", "shards": [1, 2, 3]}),
    ("platform_reindex_search", "manual__small", None),
    ("platform_backfill_table", "manual__orders_2024", {"table": "orders", "from": "2024-01-01", "dry_run": False}),
    (
        "platform_backfill_table",
        "manual__lines_2024",
        {"table": "order_lines", "where": "note = 'O''Neil'", "limit": None},
    ),
    ("platform_backfill_table", "ticket-4711", {"nested": {"deep": [{"a": 1.5}, {"b": []}]}, "Größe": "Übersee"}),
    ("platform_replay_events", "manual__replay_1", {"topic": "clicks", "offsets": {"0": 12, "1": 99}}),
    ("platform_replay_events", "manual__replay_2", {}),
    ("science_retrain_on_demand", "manual__retrain", {"model": "churn", "token": secret("run_conf")}),
    ("science_retrain_on_demand", "manual__retrain_again", None),
    ("finance_general_ledger", "manual__correction", {"correction": True, "approved_by": "olga"}),
)
