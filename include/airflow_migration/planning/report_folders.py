"""Where the report of a run is kept, for those who write it and those who show it."""

from __future__ import annotations

MIGRATE, REHEARSE, ROLL_BACK = "migrate_airflow", "rehearse_migration", "roll_back_migration"
DAG_IDS = (MIGRATE, REHEARSE, ROLL_BACK)
REHEARSALS = "rehearsals"
"""Folder of all their reports, below the reports' path."""


def folder_name(run_id: str) -> str:
    """A run id may hold what a file name cannot, and may not name a folder above."""
    name = "".join(char if char.isalnum() or char in "-_.+" else "_" for char in run_id)
    return name if name.strip(".") else "_" * len(name)


def folder_pattern(dag_id: str, run_id: str) -> str:
    """Glob pattern, below the reports' path, of the only folder with a run's report.

    :param dag_id: one of `DAG_IDS`
    """
    name = folder_name(run_id)
    return {
        MIGRATE: name,
        REHEARSE: f"{REHEARSALS}/{name}",
        # Beside the report of the migration that it took back.
        ROLL_BACK: f"*/{ROLL_BACK.removesuffix('_migration')}_{name}",
    }[dag_id]
