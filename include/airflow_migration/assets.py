"""What other DAGs can wait for."""

from __future__ import annotations

from airflow.sdk import Asset

REHEARSAL = Asset("airflow_migration/rehearsal", group="migration")
"""Updated by each rehearsal in which all went well; its event's extra has the figures (`rehearsal_event`)."""
