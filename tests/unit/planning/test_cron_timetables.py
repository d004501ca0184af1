"""What a logical date means on the target is decided by the source and the person, never by an unseen default."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import release
from airflow_migration.planning.cron_timetables import (
    CRON_SETTING,
    DELTA_SETTING,
    Naming,
    check,
    decide,
    missing_settings,
)

SET = {CRON_SETTING: "True", DELTA_SETTING: "True"}
UNSET = {CRON_SETTING: "False", DELTA_SETTING: "False"}


@pytest.mark.parametrize(
    ("choice", "naming", "target", "wanted"),
    [
        ("data_interval", "start of interval", "3.3.2", True),
        ("data_interval", "start of interval", "3.0.6", True),
        ("trigger", "start of interval", "3.3.2", False),
        ("data_interval", "moment of start", "3.3.2", False),
        ("trigger", "moment of start", "3.3.2", False),
        ("data_interval", "both", "3.3.2", None),
        ("data_interval", "unknown", "3.3.2", None),
        ("data_interval", "start of interval", "2.11.2", None),
        ("data_interval", "start of interval", "2.0.2", None),
    ],
)
def test_the_setting_follows_the_choice_and_the_source(
    choice: str, naming: Naming, target: str, wanted: bool | None
) -> None:
    assert decide(choice, naming, release(target)) is wanted


def test_a_target_that_has_no_such_timetable_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"2\.11\.2"):
        decide("trigger", "start of interval", release("2.11.2"))


@pytest.mark.parametrize(
    ("wanted", "present", "missing"),
    [
        (True, {}, SET),
        (True, SET, {}),
        (True, {CRON_SETTING: "t", DELTA_SETTING: " TRUE "}, {}),
        (True, {CRON_SETTING: "1"}, {DELTA_SETTING: "True"}),
        (True, UNSET, SET),
        (False, {}, {}),
        (False, UNSET, {}),
        (False, SET, UNSET),
        (None, SET, {}),
        (None, {}, {}),
    ],
)
def test_only_what_is_missing_is_set(
    wanted: bool | None, present: Mapping[str, str], missing: Mapping[str, str]
) -> None:
    assert missing_settings(wanted, present) == missing


def found(naming: Naming, wanted: bool | None, missing: Mapping[str, str], *, by_hand: bool) -> list[Finding]:
    return list(check(naming, wanted, missing, by_hand=by_hand))


def test_a_person_is_told_what_only_a_person_can_set() -> None:
    (finding,) = found("start of interval", True, SET, by_hand=True)
    assert finding.severity == "warning"
    assert "create_cron_data_intervals = True" in finding.summary
    assert finding.remedy


def test_a_setting_that_says_otherwise_is_a_warning_and_one_that_fits_is_not() -> None:
    assert [one.severity for one in found("start of interval", True, SET, by_hand=False)] == ["warning"]
    assert [one.severity for one in found("start of interval", True, {}, by_hand=False)] == ["ok"]
    assert [one.severity for one in found("start of interval", False, UNSET, by_hand=False)] == ["warning"]
    assert [one.severity for one in found("moment of start", False, {}, by_hand=False)] == ["ok"]


def test_a_source_with_both_kinds_is_told_and_left_alone() -> None:
    (finding,) = found("both", None, {}, by_hand=False)
    assert (finding.severity, bool(finding.remedy)) == ("warning", True)
    assert found("unknown", None, {}, by_hand=True) == []
