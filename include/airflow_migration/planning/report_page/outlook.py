"""How the DAGs go on at the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_migration.planning.report_page.figures import moment, several
from airflow_migration.planning.report_page.markup import NOTHING, Html, Node, joined, more, section, table, tag

NAMES = ("DAG", "Schedule", "Next run", "Due at once", "Other than on the source")


def forecast(made: Mapping[str, Any] | None) -> Html:
    """The section of the forecast: DAGs that go on otherwise than on the source are always shown."""
    if not made:
        return NOTHING
    differing = [dag for dag in made["dags"] if dag["differences"]]
    same = [dag for dag in made["dags"] if not dag["differences"]]
    sentence = f"{several(made['runs_at_once'], 'run')} due at once when the DAGs were unpaused"
    return section(
        "forecast",
        "How the DAGs go on",
        tag("p", f"{sentence}; {made['without_schedule']:,} of the DAGs have no schedule."),
        table("DAGs that do not go on as on the source", NAMES, map(_dag, differing)),
        more(
            f"{several(len(same), 'DAG')} going on as on the source",
            table("DAGs that go on as on the source", NAMES[:4], (_dag(dag)[:4] for dag in same)),
        ),
    )


def _dag(dag: Mapping[str, Any]) -> tuple[Node, ...]:
    differences = joined((difference["text"] for difference in dag["differences"]), "<br>")
    return dag["dag_id"], dag["schedule"], moment(dag["target_next"]) or "none", dag["at_once"], differences
