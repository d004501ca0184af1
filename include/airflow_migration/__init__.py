"""Move a live Apache Airflow to a newer one: connections, variables, runs and all."""

from __future__ import annotations

__version__ = "0.1.0"
