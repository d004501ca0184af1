"""DAGs that several files define, which 3.0 refuses where 2.x took the file that it parsed last."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_migration.metadata.checks.check import Check, Examination
from airflow_migration.metadata.findings import EXAMPLES, Finding

VERSIONED = "2b47dc6bc8df"
"""3.0.0: a DAG has versions, each of one file; tables serialized_dag and dag_code are keyed by them."""

_SERIALIZED = "SELECT s.dag_id, s.fileloc FROM serialized_dag s"
_CODE = r"""SELECT d.dag_id, c.fileloc FROM dag d JOIN dag_code c
    ON position(d.dag_id IN c.source_code) > 0
   AND c.source_code ~ ('\mDAG\s*\(\s*(dag_id\s*=\s*)?[''"]'
       || regexp_replace(d.dag_id, '([.^$*+?()\[\]{}|\\-])', '\\\1', 'g') || '[''"]')"""
_TWO_FILES = """SELECT dag_id, string_agg(DISTINCT fileloc, ', ' ORDER BY fileloc) AS files
  FROM (SELECT dag_id, fileloc FROM dag WHERE fileloc IS NOT NULL UNION {parts}) f
 GROUP BY dag_id HAVING count(DISTINCT fileloc) > 1 ORDER BY dag_id"""


def _ask(look: Examination) -> Iterator[Finding]:
    parts = []
    if {"dag_id", "fileloc"} <= look.tables.get("serialized_dag", {}).keys():
        parts.append(_SERIALIZED)
    if {"fileloc", "source_code"} <= look.tables.get("dag_code", {}).keys():
        parts.append(_CODE)
    if not parts or "fileloc" not in look.tables.get("dag", {}):
        return
    query = _TWO_FILES.replace("{parts}", "\n UNION ".join(parts))
    rows = look.conn.execute(query).fetchall()
    yield Finding(
        check="dag_in_two_files",
        severity="warning" if rows else "ok",
        summary=f"{len(rows) or 'No'} DAG(s) are recorded with several files; 3.0 refuses an id that two files define",
        count=len(rows),
        evidence=tuple(f"{dag_id}: {paths}" for dag_id, paths in rows[:EXAMPLES]),
        remedy="Leave the DAG in one of the files in the target's DAG folder" if rows else "",
        sql=query + ";",
    )


DAG_CHECKS = (Check(ids=("dag_in_two_files",), revisions=(VERSIONED,), ask=_ask),)
