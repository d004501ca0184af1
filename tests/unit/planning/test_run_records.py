"""Of each run a little is kept, and only the newest of it is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from tests.unit.planning.rehearsed import GAP, MB, ODD, migration, plan_of, record, rehearsal

from airflow_migration.operators.records import ObjectStorageShelf
from airflow_migration.planning.record_report import record_of
from airflow_migration.planning.run_records import Pair, RunRecord, read_records


class Shelf(dict[str, str]):
    """Records by name, and how often one was read."""

    def __init__(self, *records: RunRecord) -> None:
        super().__init__({each.name: each.to_text() for each in records})
        self.reads: list[str] = []

    def names(self) -> list[str]:
        return [*self, "a file of somebody else.txt"]

    def read(self, name: str) -> str:
        self.reads.append(name)
        return self[name]


def ids(shelf: Shelf, pair: Pair | None = None, but: str | None = None) -> list[str]:
    said: list[object] = []
    found = read_records(shelf, limit=3, listener=said.append, pair=pair, but=but)
    assert said == []
    return [each.run_id for each in found]


def test_a_rehearsal_keeps_what_it_has_measured() -> None:
    kept = record(rehearsal())
    assert (kept.kind, kept.run_id, kept.status, kept.verified) == ("rehearsal", "week 1", "success", True)
    assert (kept.source, kept.target) == ("db:5432/airflow", "db:5432/airflow_3")
    assert kept.steps["upgrade_2"] == 50.0
    assert "repair_3" not in kept.steps, "it was skipped"
    assert {each.release for each in kept.revisions} == {"2.11.2", "3.3.2"}
    assert (kept.template_bytes, kept.template_seconds) == (1000 * MB, 8.0)
    # Nine tasks follow the first, two of them skipped: their time is the control Airflow's as well.
    assert kept.between == pytest.approx(GAP)
    assert kept.counts() == {"info": 0, "warning": 1, "blocker": 0}
    assert kept.downtime is None


def test_a_migration_keeps_its_downtime_and_its_own_clone() -> None:
    kept = record(migration())
    assert kept.template_seconds == pytest.approx(12.0 * 0.8)
    assert kept.between == pytest.approx(GAP)
    assert kept.downtime is not None
    assert kept.downtime == pytest.approx(sum(kept.steps.values()) - 100.0 + 18 * GAP)


def test_findings_of_one_check_are_one_and_those_in_order_are_none() -> None:
    found = (ODD, replace(ODD, severity="blocker", count=3), replace(ODD, check="fine", severity="ok"))
    (kept,) = record(rehearsal(plan=plan_of(findings=found))).findings
    assert (kept.check, kept.severity, kept.count) == ("connection_id", "blocker", 5)


def test_a_run_that_tells_nothing_leaves_no_record_and_takes_no_other_s_place() -> None:
    assert record_of(rehearsal() | {"plan": None}) is None
    assert record_of(migration() | {"downtime": None}) is None, "rejected, or failed"


def test_only_the_newest_are_read_however_many_there_are() -> None:
    first = record(rehearsal())
    weeks = [record(rehearsal(number)) for number in range(1, 6)]
    old = [replace(first, run_id=f"old {n}", started=f"20{n:02}-01-01T00:00:00+00:00") for n in range(10, 25)]
    shelf = Shelf(*weeks, *old)
    assert ids(shelf) == ["week 5", "week 4", "week 3"]
    assert len(shelf.reads) == 3


def test_those_of_another_pair_and_of_the_run_itself_are_not_even_read() -> None:
    weeks = [record(rehearsal(number)) for number in (1, 2, 3)]
    elsewhere = replace(weeks[2], run_id="elsewhere", source="other:5432/airflow")
    shelf = Shelf(*weeks, elsewhere)
    pair = Pair(source="db:5432/airflow", target="db:5432/airflow_3")
    assert ids(shelf, pair=pair, but="week 3") == ["week 2", "week 1"]
    assert len(shelf.reads) == 2


def test_a_record_that_is_written_again_replaces_itself() -> None:
    report = rehearsal()
    assert record(report | {"finished": "2026-11-21T00:00:00+00:00"}).name == record(report).name


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"findings": [{"nonsense": 1}], "revisions": []}', "null"])
def test_a_broken_record_is_told_and_left_out(text: str) -> None:
    good = record(rehearsal())
    shelf = Shelf(good)
    shelf[record(rehearsal(2)).name] = text
    said: list[object] = []
    assert [each.run_id for each in read_records(shelf, limit=5, listener=said.append)] == ["week 1"]
    assert len(said) == 1


@pytest.mark.parametrize(
    "damage", [{"steps": None}, {"steps": {"verify": "long"}}, {"options": []}, {"finished": ""}, {"predicted": "soon"}]
)
def test_a_record_with_a_part_that_is_none_is_told_and_left_out(damage: dict[str, Any]) -> None:
    text = json.dumps(json.loads(record(rehearsal()).to_text()) | damage)
    with pytest.raises(ValueError):
        RunRecord.from_text(text)


def test_a_record_that_is_removed_meanwhile_is_told_and_left_out(tmp_path: Path) -> None:
    shelf = ObjectStorageShelf(ObjectStoragePath(tmp_path))
    shelf.keep(record(rehearsal()))
    (tmp_path / record(rehearsal(2)).name).symlink_to("gone")
    said: list[object] = []
    assert [each.run_id for each in read_records(shelf, limit=5, listener=said.append)] == ["week 1"]
    assert len(said) == 1


def test_a_record_of_a_later_release_of_ours_is_read() -> None:
    later = record(rehearsal()).to_text().replace('"kind"', '"not_known_yet": 1, "kind"', 1)
    assert RunRecord.from_text(later) == record(rehearsal())
