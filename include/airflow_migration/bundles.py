"""Offers the DAGs of this package without copying them anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle


class MigrationDagBundle(LocalDagBundle):
    """The DAGs that came with the installed package, for ``[dag_processor] dag_bundle_config_list``.

    One entry beside the ones that are there, of any name::

        {"name": "migration", "classpath": "airflow_migration.bundles.MigrationDagBundle", "kwargs": {}}
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(path=str(dags_folder()), **kwargs)


def dags_folder() -> Path:
    """The DAGs in the installed package, or in the checkout of an editable install."""
    package = Path(__file__).parent
    packaged = package / "dags"
    return packaged if packaged.is_dir() else package.parent.parent / "dags"
