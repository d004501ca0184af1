"""The type of connection that describes a deployment; imports nothing, as Airflow reads it when it starts."""

from __future__ import annotations

CONNECTION_TYPE = "airflow_deployment"
ACCEPTED_TYPES = (CONNECTION_TYPE, "postgres", "postgresql", "", None)
"""A plain Postgres connection says all that is needed of a source that does not encrypt."""
