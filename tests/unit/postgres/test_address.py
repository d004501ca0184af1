"""What a client program is told of a database, beyond where it is."""

from __future__ import annotations

from airflow_migration.postgres.address import DatabaseAddress, libpq_option

ADDRESS = DatabaseAddress(host="db", user="me", database="airflow", schema='a"b c\\d')


def test_a_schema_reaches_libpq_whole() -> None:
    assert libpq_option("search_path", '"a""b c\\d"') == '-c search_path="a""b\\ c\\\\d"'
    assert '-c search_path="a""b\\ c\\\\d" -c ' in ADDRESS.environment()["PGOPTIONS"]


def test_further_schemas_come_after_it_and_once() -> None:
    assert ADDRESS.seeing(None, "fab").seeing("fab", "public", ADDRESS.schema).further_schemas == ("fab", "public")
    assert ADDRESS.seeing("fab").search_path == '"a""b c\\d", "fab"'
