"""Which repairs may run, and what becomes of a finding whose repair may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.repairs.faults import OTHER_FAULTS, history_faults
from airflow_migration.metadata.repairs.registry import QUARANTINE, REPAIRS, SAFE_REPAIRS
from airflow_migration.planning.repairs import allowed, hold_to

DOCS = Path(__file__).parents[3] / "docs"
FOUND = Finding(check="pools", severity="warning", summary="s", count=2, remedy="mended", repair="connection_id")


def test_safe_is_all_but_what_clears_values() -> None:
    assert allowed("safe") == SAFE_REPAIRS == frozenset(REPAIRS) - {QUARANTINE}
    assert allowed("all") == frozenset(REPAIRS)


@pytest.mark.parametrize("ids", [(), ("connection_id",), (QUARANTINE, "connection_id")])
def test_a_list_is_these_and_no_other(ids: tuple[str, ...]) -> None:
    assert allowed(ids) == frozenset(ids)


@pytest.mark.parametrize("chosen", ["none", "", "connection_id", None, 1, ("connection_id", "no_such"), ("all",), (1,)])
def test_what_is_no_repair_is_refused_and_named(chosen: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        allowed(chosen)  # type: ignore[arg-type]
    assert repr(chosen[-1] if isinstance(chosen, tuple) else chosen) in caught.value.problem
    assert "safe" in caught.value.remedy


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_what_may_not_be_repaired_is_a_blocker_that_says_how_to_allow_it(severity: str) -> None:
    finding = Finding(check="c", severity=severity, summary="s", count=2, repair="connection_id")  # type: ignore[arg-type]
    (held,) = hold_to([finding], ["connection_type"])
    assert (held.severity, held.count, held.repair) == ("blocker", 2, "connection_id")
    assert "connection_id" in held.remedy
    assert "source" in held.remedy


def test_the_others_stay_as_they_are() -> None:
    others = [
        FOUND,
        Finding(check="b", severity="info", summary="s"),
        Finding(check="b", severity="blocker", summary="s"),
    ]
    assert hold_to(others, SAFE_REPAIRS) == others


def test_the_guide_says_of_each_repair_what_it_does_and_of_no_other() -> None:
    lines = (DOCS / "repairs.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == [f"| `{each.id}` | {each.does} | {'yes' if each.safe else 'no'} |" for each in REPAIRS.values()]


def test_every_check_whose_repair_has_its_id_is_known() -> None:
    faults = {fault.id for fault in (*history_faults({}), *OTHER_FAULTS) if fault.movable}
    text = (DOCS / "checks.md").read_text(encoding="utf-8")
    assert faults <= REPAIRS.keys()
    assert [each for each in REPAIRS if f"`{each}`" not in text] == []
