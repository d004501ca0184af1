"""The figures of a rehearsal that other DAGs and the console read, without opening its report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_migration.planning.report_page.verdict import count_of


def event_of(report: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Extra of the asset's event.

    ``run_id``, ``verified``; ``downtime_seconds``, ``downtime_low`` and ``downtime_high`` as predicted, None where no
    prediction could be made; ``findings`` by severity; ``source_bytes``; ``seconds`` that the rehearsal took;
    ``report``, its path.

    :param report: of a rehearsal
    :param path: of its ``report.json``
    """
    begun, ended = (datetime.fromisoformat(report[name]) for name in ("started", "finished"))
    predicted = report.get("prediction") or {}
    return {
        "run_id": report["run_id"],
        "verified": report["verified"],
        **{f"downtime_{name}": predicted.get(name) for name in ("seconds", "low", "high")},
        "findings": {severity: count_of(report, severity) for severity in ("blocker", "warning", "info")},
        "source_bytes": (report["plan"] or {}).get("source_size"),
        "seconds": round((ended - begun).total_seconds(), 3),
        "report": path,
    }
