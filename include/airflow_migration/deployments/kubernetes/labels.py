"""How what a migration makes or marks in a cluster is told from everything else."""

from __future__ import annotations

PREFIX = "airflow-provider-migration"
"""Of every label and annotation of ours."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "airflow-migration"}
"""Label of pods and of their secrets; NetworkPolicies may select by it."""
