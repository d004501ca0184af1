"""The params of a rehearsal are those that work."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.planning.rehearsal_options import RehearsalOptions


@pytest.mark.parametrize("value", [0, -1, True, "30"])
def test_a_timeout_is_a_number_of_seconds(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="dag_parse_timeout"):
        RehearsalOptions.from_params({"dag_parse_timeout": value}, given=["dag_parse_timeout"])


@pytest.mark.parametrize("value", [None, 0.5, 30])
def test_a_timeout_may_be_left_to_the_target(value: Any) -> None:
    assert RehearsalOptions.from_params({"dag_parse_timeout": value}, given=[]).dag_parse_timeout == value
