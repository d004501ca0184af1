"""An import error is told apart by what a person has to do about it, whatever release has written it."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_migration.planning.dag_errors import (
    LONGEST,
    imported_at,
    provider_package,
    read_failure,
    stands_at,
)

FILE = Path("/dags/etl/load.py")
TRACEBACK = """Traceback (most recent call last):
  File "/env/lib/python3.12/site-packages/airflow/models/dagbag.py", line 383, in parse
    loader.exec_module(new_module)
  File "/dags/etl/load.py", line 7, in <module>
    something()
{inner}{message}
"""


def traceback(message: str, inner: str = "") -> str:
    return TRACEBACK.format(message=message, inner=inner)


@pytest.mark.parametrize(
    ("message", "trouble", "name"),
    [
        ("ModuleNotFoundError: No module named 'airflow.operators.dummy'", "removed", "airflow.operators.dummy"),
        (
            "ImportError: cannot import name 'chain' from 'airflow.utils.helpers' (/env/lib/airflow/utils/helpers.py)",
            "removed",
            "airflow.utils.helpers.chain",
        ),
        ("AttributeError: module 'airflow' has no attribute 'macros'", "removed", "airflow.macros"),
        ("ModuleNotFoundError: No module named 'airflow.providers.cncf'", "missing_provider", "airflow.providers.cncf"),
        ("ModuleNotFoundError: No module named 'airflow.providers'", "missing_provider", "airflow.providers"),
        ("ModuleNotFoundError: No module named 'airflow_dbt'", "missing_module", "airflow_dbt"),
        ("ImportError: cannot import name 'x' from 'ours.loading' (/dags/ours/loading.py)", "error", ""),
        ("KeyError: 'Variable bucket does not exist.'", "needs_database", ""),
        (
            "airflow.exceptions.AirflowNotFoundException: The conn_id `warehouse` isn't defined",
            "needs_database",
            "",
        ),
        ("TypeError: DAG.__init__() got an unexpected keyword argument 'schedule_interval'", "error", ""),
    ],
)
def test_each_trouble_is_known_by_its_last_line(message: str, trouble: str, name: str) -> None:
    failure = read_failure(traceback(message), FILE)
    assert (failure.trouble, failure.name, failure.line) == (trouble, name, 7)


def test_the_line_is_that_of_the_dag_file_when_the_error_is_raised_deeper() -> None:
    inner = '  File "/env/lib/requests/api.py", line 59, in get\n    return request("get")\n'
    assert read_failure(traceback("ConnectionError: no route", inner), FILE).line == 7


def test_what_follows_the_first_line_of_a_message_is_left_out() -> None:
    failure = read_failure(traceback("ours.errors.BadConfig: not a table\nsecret of the second line"), FILE)
    assert failure.error == "BadConfig: not a table"


def test_a_login_in_an_address_and_the_values_of_a_statement_are_hidden() -> None:
    failure = read_failure(traceback("OSError: cannot reach postgresql://ann:pa55word@db/airflow"), FILE)
    assert "pa55word" not in failure.error
    assert "db/airflow" in failure.error


def test_a_long_message_is_cut() -> None:
    assert len(read_failure(traceback("ValueError: " + "x" * 5000), FILE).error) == LONGEST + 1


@pytest.mark.parametrize(
    ("text", "trouble", "line"),
    [
        ("No module named 'airflow.operators.dummy'", "removed", None),
        ("invalid syntax (load.py, line 12)", "syntax", 12),
        ("(sqlite3.OperationalError) no such table: variable\n[parameters: ('x', 1, 0)]", "needs_database", None),
    ],
)
def test_1_10_tells_the_message_alone(text: str, trouble: str, line: int | None) -> None:
    failure = read_failure(text, FILE)
    assert (failure.trouble, failure.line) == (trouble, line)
    assert "parameters" not in failure.error


def test_a_syntax_error_has_its_line() -> None:
    text = traceback("SyntaxError: '(' was never closed", '  File "/dags/etl/load.py", line 9\n    f(\n     ^\n')
    failure = read_failure(text, FILE)
    assert (failure.trouble, failure.line) == ("syntax", 9)


def test_where_a_file_stands_is_its_innermost_line() -> None:
    frames = ("/lib/socket.py", 3), (FILE, 5), (FILE, 9)
    stack = "".join(f'  File "{file}", line {line} in some_function\n' for file, line in frames)
    assert stands_at(stack, FILE) == 5
    assert stands_at("", FILE) is None


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("airflow.providers.amazon.aws.operators.ecs", "apache-airflow-providers-amazon"),
        ("airflow.providers.cncf.kubernetes.operators.pod", "apache-airflow-providers-cncf-kubernetes"),
        ("airflow.providers.apache.spark.operators", "apache-airflow-providers-apache-spark"),
    ],
)
def test_a_provider_has_a_package(module: str, package: str) -> None:
    assert provider_package(module) == package


def test_an_import_over_several_lines_is_found_from_any_of_them() -> None:
    source = "import os\nfrom airflow.utils.helpers import (\n    chain,\n    cross_downstream,\n)\n"
    names = [("airflow.utils.helpers", "chain"), ("airflow.utils.helpers", "cross_downstream")]
    assert list(imported_at(source, 2)) == list(imported_at(source, 4)) == names
    assert list(imported_at(source, 1)) == [("os", "")]
    assert not list(imported_at(source, 9))
