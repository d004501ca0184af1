"""What type a connection without one must be, where something about it says so with certainty."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Ids that Airflow's own initdb gives (airflow/utils/db.py of 1.10.15 and 3.3.2), where SERVICES does not
# say the same.
DEFAULT_CONNECTIONS = {
    "airflow_db": "mysql",
    "azure_container_instances_default": "azure_container_instances",
    "bigquery_default": "google_cloud_platform",
    "dingding_default": "http",
    "drill_default": "drill",
    "druid_broker_default": "druid",
    "druid_ingest_default": "druid",
    "emr_default": "emr",
    "facebook_default": "facebook_social",
    "fs_default": "fs",
    "google_cloud_default": "google_cloud_platform",
    "local_mysql": "mysql",
    "metastore_default": "hive_metastore",
    "opsgenie_default": "http",
    "oss_default": "oss",
    "pinot_admin_default": "pinot",
    "pinot_broker_default": "pinot",
    "segment_default": "segment",
    "webhdfs_default": "hdfs",
}

# Names under which people know one service and nothing else → the type of its hook. Longest first where one
# holds another.
SERVICES = {
    "google_cloud_platform": "google_cloud_platform",
    "google_cloud": "google_cloud_platform",
    "azure_data_explorer": "azure_data_explorer",
    "azure_container_instances": "azure_container_instances",
    "azure_data_lake": "azure_data_lake",
    "azure_cosmos": "azure_cosmos",
    "azure_batch": "azure_batch",
    "hive_metastore": "hive_metastore",
    "hive_cli": "hive_cli",
    "pig_cli": "pig_cli",
    "hiveserver2": "hiveserver2",
    "elasticsearch": "elasticsearch",
    "yandexcloud": "yandexcloud",
    "gcpcloudsql": "gcpcloudsql",
    "postgresql": "postgres",
    "databricks": "databricks",
    "kubernetes": "kubernetes",
    "salesforce": "salesforce",
    "snowflake": "snowflake",
    "cassandra": "cassandra",
    "bigquery": "google_cloud_platform",
    "postgres": "postgres",
    "beeline": "beeline",
    "jenkins": "jenkins",
    "leveldb": "leveldb",
    "mongodb": "mongo",
    "tableau": "tableau",
    "vertica": "vertica",
    "webhdfs": "hdfs",
    "athena": "athena",
    "docker": "docker",
    "gremlin": "gremlin",
    "impala": "impala",
    "oracle": "oracle",
    "presto": "presto",
    "qubole": "qubole",
    "sqlite": "sqlite",
    "druid": "druid",
    "https": "http",
    "kafka": "kafka",
    "kylin": "kylin",
    "mongo": "mongo",
    "mssql": "mssql",
    "mysql": "mysql",
    "pinot": "pinot",
    "redis": "redis",
    "samba": "samba",
    "spark": "spark",
    "sqoop": "sqoop",
    "trino": "trino",
    "grpc": "grpc",
    "hdfs": "hdfs",
    "http": "http",
    "imap": "imap",
    "jdbc": "jdbc",
    "jira": "jira",
    "livy": "livy",
    "sftp": "sftp",
    "wasb": "wasb",
    "aws": "aws",
    "ftp": "ftp",
    "gcp": "google_cloud_platform",
    "ssh": "ssh",
}

_SERVICE = re.compile(rf"(?<![a-z0-9])(?:{'|'.join(SERVICES)})(?![a-z0-9])")
_SEPARATORS = re.compile(r"[^a-z0-9]+")
_URL = re.compile(r"https?://", re.IGNORECASE)
_EXTRA = re.compile(r"extra__(.+?)__.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A type and what it rests on."""

    conn_type: str
    why: str


def guess_type(conn_id: str, host: str, extra_keys: frozenset[str]) -> Guess:
    """The type that extra, id or host name beyond doubt, else ``generic``.

    :param extra_keys: keys of the extra that have a value
    """
    # The form's fields are called extra__<type>__<field> (1.10's www/views.py, 2.x' hook widgets).
    prefixes = {match[1] for key in extra_keys if (match := _EXTRA.match(key))}
    if len(prefixes) == 1 and not {"database_type", "instance"} <= extra_keys:
        return Guess(conn_type=prefixes.pop(), why="from the names in its extra")
    name = conn_id.lower()
    if name in DEFAULT_CONNECTIONS:
        return Guess(conn_type=DEFAULT_CONNECTIONS[name], why="from its id, one of Airflow's own defaults")
    name = _SEPARATORS.sub("_", name).strip("_")
    matches = list(_SERVICE.finditer(name))
    named = {SERVICES[match[0]] for match in matches}
    if len(named) == 1 and (matches[0].start() == 0 or matches[-1].end() == len(name)):
        return Guess(conn_type=named.pop(), why="from its id")
    if not named and _URL.match(host):
        return Guess(conn_type="http", why="from its host, a URL")
    return Guess(conn_type="generic", why="nothing names its type with certainty")
