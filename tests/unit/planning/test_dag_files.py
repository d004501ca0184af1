"""What the parser in the runtime has answered becomes files and findings, the slow ones first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_migration.metadata.releases import release
from airflow_migration.planning.dag_file_findings import MOST_FILES, findings_of, in_order
from airflow_migration.planning.dag_files import DagFile, judge_file

FOLDER = Path("/dags")
TARGET = release("3.3.2")


def judged(timeout: float = 30.0, **answer: Any) -> DagFile:
    return judge_file({"path": "/dags/etl/a.py", "ended": "read"} | answer, FOLDER, timeout)


def checks(*files: DagFile, limit: float = 30.0) -> dict[str, str]:
    found = findings_of(files, (), target=TARGET, import_timeout=limit)
    return {finding.check: finding.severity for finding in found}


def test_a_file_that_was_read_has_no_trouble() -> None:
    file = judged(seconds=1.23456, cpu_seconds=1.0, dag_ids=["x"], errors=[])
    assert file == DagFile(path="etl/a.py", dag_ids=("x",), seconds=1.235, cpu_seconds=1.0)
    assert checks(file) == {"dag_files": "ok"}


@pytest.mark.parametrize(
    ("answer", "trouble", "told"),
    [
        ({"ended": "died", "status": -9, "seconds": 2.0}, "died", "signal 9"),
        ({"ended": "died", "status": 3, "seconds": 2.0}, "died", "exited with 3"),
        ({"ended": "not reached"}, "not_reached", ""),
        ({"ended": "timed out", "seconds": 31.0, "stands": ""}, "timed_out", "30 s"),
        ({"seconds": 30.5, "errors": []}, "timed_out", "30.5 s"),
        ({"seconds": 1.0, "errors": ["No module named 'airflow.x'"]}, "removed", "airflow.x"),
    ],
)
def test_each_end_is_a_trouble(answer: dict[str, Any], trouble: str, told: str) -> None:
    file = judged(**answer)
    assert file.trouble == trouble
    assert told in file.error


def test_what_a_file_is_called_or_says_can_be_kept_in_every_database() -> None:
    file = judged(path="/dags/caf\udce9.py", errors=["Exception: a\0b \udc80"], dag_ids=["\udc80"])
    assert (file.path, file.error, file.dag_ids) == ("caf�.py", "Exception: a�b �", ("�",))


def test_the_package_of_a_missing_provider_is_named_where_the_error_tells_it() -> None:
    assert judged(errors=["No module named 'airflow.providers.amazon'"]).remedy.endswith("providers-amazon")
    assert judged(errors=["No module named 'airflow.providers'"]).remedy == ""


def test_a_file_that_comes_near_to_the_targets_own_timeout_is_told() -> None:
    near = judged(timeout=120, seconds=16.0, cpu_seconds=1.0)
    beyond = judged(timeout=120, seconds=31.0, cpu_seconds=1.0)
    assert checks(near) == {"dag_files_slow": "info", "dag_files": "ok"}
    assert checks(near, beyond) == {"dag_files_slow": "warning", "dag_files": "ok"}
    assert checks(beyond, limit=0) == {"dag_files": "ok"}


def test_what_has_trouble_comes_first_and_the_slowest_of_the_rest_after_it() -> None:
    good = [DagFile(path=f"{number}.py", seconds=float(number)) for number in range(MOST_FILES + 10)]
    bad = [DagFile(path="b.py", trouble="error"), DagFile(path="a.py", trouble="timed_out")]
    ordered = in_order([*good, *bad])
    assert [each.path for each in ordered[:3]] == ["a.py", "b.py", f"{MOST_FILES + 9}.py"]
    assert len(ordered) == MOST_FILES + 2


def test_a_dag_that_nobody_expected_is_no_finding_and_one_that_is_gone_is() -> None:
    file = judged(seconds=1.0, dag_ids=["x"], errors=[])
    (absent, _) = findings_of([file], (), target=TARGET, import_timeout=30.0, expected=["x", "y"])
    assert (absent.check, absent.evidence) == ("dag_ids_absent", ("y",))
