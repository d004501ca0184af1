"""The forecast says what the target's scheduler will do, and names every way in which it is not the source's."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_migration.metadata.forecast import DagForecast, Forecast, count_due, forecast
from airflow_migration.postgres.address import DatabaseAddress

Corpus = Callable[[str], DatabaseAddress]
NewDatabase = Callable[..., DatabaseAddress]

NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=timezone.utc)
DAY = timedelta(days=1)
TODAY = NOW.replace(hour=0, minute=0, second=0)
INTERVAL = "airflow.timetables.interval.CronDataIntervalTimetable"
TRIGGER = "airflow.timetables.trigger.CronTriggerTimetable"


def serialized(timetable: str = INTERVAL, cron: str = "0 0 * * *", **dag: Any) -> str:
    """A DAG as 2.10 stores it."""
    content = {"expression": cron, "timezone": "UTC"}
    if timetable == TRIGGER:
        content |= {"interval": 0.0}  # type: ignore[dict-item]
    body = {"timetable": {"__type": timetable, "__var": content}, "timezone": "UTC", "catchup": True, "tasks": []}
    return json.dumps({"__version": 1, "dag": body | {"start_date": (TODAY - 300 * DAY).timestamp()} | dag})


class Side:
    """A database of 2.10.5 with one more DAG whose last run covered the day before yesterday."""

    def __init__(self, address: DatabaseAddress) -> None:
        self.address = address

    def add(
        self,
        dag_id: str,
        content: str | None = None,
        *,
        last: datetime | None = TODAY - 2 * DAY,
        noted: datetime | None = None,
        schedule: str = '"0 0 * * *"',
        active: bool = True,
    ) -> None:
        with self.address.connect(read_only=False) as session:
            session.execute(
                "INSERT INTO dag (dag_id, is_paused, is_active, is_subdag, schedule_interval, max_active_tasks,"
                " max_active_runs, has_task_concurrency_limits, max_consecutive_failed_dag_runs, next_dagrun,"
                " next_dagrun_create_after) VALUES (%s, false, %s, false, %s, 16, 4, false, 0, %s, %s)",
                (dag_id, active, schedule, noted, noted and noted + DAY),
            )
            if content is not None:
                session.execute(
                    "INSERT INTO serialized_dag (dag_id, fileloc, fileloc_hash, data, last_updated, dag_hash)"
                    " VALUES (%s, 'x', 0, %s, now(), 'x')",
                    (dag_id, content),
                )
            for at in () if last is None else (last - DAY, last):
                session.execute(
                    "INSERT INTO dag_run (dag_id, run_id, execution_date, state, run_type, clear_number,"
                    " data_interval_start, data_interval_end)"
                    " VALUES (%s, %s, %s, 'success', 'scheduled', 0, %s, %s)",
                    (dag_id, f"scheduled__{at.isoformat()}", at, at, at + DAY),
                )

    def run(self, statement: str, *values: object) -> None:
        with self.address.connect(read_only=False) as session:
            session.execute(statement.encode(), values)


class Sides:
    """Source and target."""

    def __init__(self, source: Side, target: Side) -> None:
        self.source, self.target = source, target

    def add(self, dag_id: str, content: str | None, **more: Any) -> None:
        self.source.add(dag_id, content, **more)
        self.target.add(dag_id, content, **more)

    def forecast(self, *dag_ids: str, **more: Any) -> Forecast:
        asked: dict[str, Any] = {"paused_at": NOW, "named_by_start": False, "parse_is_done": True, "now": NOW}
        with self.source.address.connect() as frozen, self.target.address.connect() as target:
            return forecast(frozen, target, dag_ids, **(asked | more))

    def of(self, dag_id: str, **more: Any) -> DagForecast:
        (dag,) = self.forecast(dag_id, **more).dags
        return dag


@pytest.fixture(scope="module")
def template(corpus: Corpus) -> DatabaseAddress:
    return corpus("2.10.5")


@pytest.fixture
def sides(template: DatabaseAddress, new_database: NewDatabase) -> Sides:
    return Sides(*(Side(new_database(template=template.database)) for _ in range(2)))


def kinds(dag: DagForecast) -> list[str]:
    return [difference.kind for difference in dag.differences]


def test_what_goes_on_as_before_has_no_difference(sides: Sides) -> None:
    sides.add("a 'DAG'", serialized(), noted=TODAY - DAY)
    dag = sides.of("a 'DAG'")
    assert dag.source_next == dag.target_next == (TODAY - DAY).isoformat()
    assert dag.starts == TODAY.isoformat()
    assert (dag.at_once, dag.max_active_runs, dag.last) == (1, 4, (TODAY - 2 * DAY).isoformat())
    assert dag.differences == ()
    assert sides.forecast("a 'DAG'").warnings == ()


def test_what_catches_up_is_counted_and_no_difference(sides: Sides) -> None:
    sides.add("late", serialized(), last=TODAY - 10 * DAY, noted=TODAY - 9 * DAY)
    dag = sides.of("late")
    assert (dag.at_once, kinds(dag)) == (9, [])
    assert sides.forecast("late").runs_at_once == 9


def test_a_next_run_that_exists_already_is_named(sides: Sides) -> None:
    sides.add("stall", serialized(), noted=TODAY - 2 * DAY)
    found = kinds(sides.of("stall"))
    assert found[0] == "stalled"
    assert "repeated" in found
    assert any("stall" in warning for warning in sides.forecast("stall").warnings)


def test_intervals_that_are_left_out_are_counted(sides: Sides) -> None:
    sides.source.add("quiet", serialized(), last=TODAY - 5 * DAY)
    sides.target.add("quiet", serialized(catchup=False), last=TODAY - 5 * DAY, noted=TODAY - DAY)
    dag = sides.of("quiet")
    assert kinds(dag) == ["skipped"]
    assert dag.differences[0].text.startswith(f"3 from {(TODAY - 4 * DAY).isoformat()}")
    assert "any more" in dag.differences[0].text


def test_what_did_not_catch_up_before_misses_only_what_passed_in_the_meantime(sides: Sides) -> None:
    sides.add("quiet", serialized(catchup=False), last=TODAY - 5 * DAY, noted=TODAY - DAY)
    assert kinds(sides.of("quiet")) == []
    dag = sides.of("quiet", paused_at=NOW - DAY)
    assert kinds(dag) == ["skipped"]
    assert dag.differences[0].text.startswith("1 from")


def test_another_naming_is_told_with_the_date_that_never_comes(sides: Sides) -> None:
    sides.source.add("named", serialized())
    sides.target.add("named", serialized(TRIGGER), noted=TODAY)
    sides.target.run("UPDATE dag SET next_dagrun_create_after = next_dagrun WHERE dag_id = 'named'")
    dag = sides.of("named")
    assert (kinds(dag), dag.target_next, dag.at_once) == (["renamed"], TODAY.isoformat(), 1)
    assert f"none is named {(TODAY - DAY).isoformat()}" in dag.differences[0].text


def test_a_moment_at_which_the_source_ran_is_named_when_it_comes_again(sides: Sides) -> None:
    sides.source.add("named", serialized())
    sides.target.add("named", serialized(TRIGGER), noted=TODAY - DAY)
    sides.target.run("UPDATE dag SET next_dagrun_create_after = next_dagrun WHERE dag_id = 'named'")
    assert "repeated" in kinds(sides.of("named"))


def test_another_schedule_is_named(sides: Sides) -> None:
    sides.source.add("moved", serialized())
    sides.target.add("moved", serialized(cron="0 1 * * *"), noted=TODAY - 2 * DAY + timedelta(hours=1))
    assert "rescheduled" in kinds(sides.of("moved"))


def test_a_dag_that_ends_is_named(sides: Sides) -> None:
    sides.source.add("ends", serialized())
    sides.target.add("ends", serialized(end_date=(TODAY - 5 * DAY).timestamp()))
    dag = sides.of("ends")
    assert (kinds(dag), dag.target_next, dag.at_once) == (["ends"], None, 0)


def test_a_noted_run_that_does_not_follow_is_named(sides: Sides) -> None:
    sides.add("odd", serialized(), noted=TODAY - DAY + timedelta(hours=3))
    assert "contradiction" in kinds(sides.of("odd"))


def test_without_a_parse_the_recorded_schedule_counts(sides: Sides) -> None:
    sides.source.add("unparsed", serialized(max_active_runs=2))
    sides.target.add("unparsed", None)
    dag = sides.of("unparsed", parse_is_done=False)
    assert (dag.parsed, dag.target_next, dag.at_once, kinds(dag)) == (False, (TODAY - DAY).isoformat(), 1, [])
    named = sides.of("unparsed", parse_is_done=False, named_by_start=True)
    assert (named.target_next, kinds(named)) == (TODAY.isoformat(), ["renamed"])
    gone = sides.of("unparsed")
    assert (gone.target_next, gone.at_once, kinds(gone)) == (None, 0, ["not parsed"])


def test_a_timetable_of_its_own_is_compared_by_what_both_noted(sides: Sides) -> None:
    own = serialized("plugins.AfterWorkday")
    sides.source.add("own", own, noted=TODAY - DAY)
    sides.target.add("own", own, noted=TODAY - DAY)
    assert kinds(sides.of("own")) == []
    sides.target.run("UPDATE dag SET next_dagrun = %s WHERE dag_id = 'own'", TODAY)
    assert kinds(sides.of("own")) == ["skipped"]
    sides.target.run("UPDATE dag SET next_dagrun = %s WHERE dag_id = 'own'", TODAY - 5 * DAY)
    assert kinds(sides.of("own")) == ["repeated"]
    sides.target.run("UPDATE dag SET next_dagrun_create_after = NULL WHERE dag_id = 'own'")
    assert kinds(sides.of("own")) == ["not computed"]


def test_what_nothing_schedules_is_counted_and_not_listed(sides: Sides) -> None:
    none = json.dumps({"dag": {"timetable": {"__type": "airflow.timetables.simple.NullTimetable", "__var": {}}}})
    sides.add("by hand", none, schedule="null")
    sides.add("gone", None, active=False)
    found = sides.forecast("by hand", "gone", "nobody knows me")
    assert (found.without_schedule, found.dags, found.differing) == (2, (), 0)


def test_runs_without_an_interval_get_it_from_the_schedule(sides: Sides) -> None:
    sides.add("old", serialized())
    for side in (sides.source, sides.target):
        side.run("UPDATE dag_run SET data_interval_start = NULL, data_interval_end = NULL WHERE dag_id = 'old'")
    assert sides.of("old").target_next == (TODAY - DAY).isoformat()


@pytest.mark.parametrize("release", ["1.10.15", "2.2.5", "2.10.5"])
def test_every_release_is_read(corpus: Corpus, release: str) -> None:
    address = corpus(release)
    with address.connect(read_only=False) as session:
        session.execute("UPDATE dag SET is_subdag = true WHERE dag_id = 'fails_daily'")
        due = count_due(session, ["etl_daily", "hourly", "fails_daily", "nobody"], named_by_start=False, now=NOW)
    assert due["etl_daily"].due == 1  # it does not catch up
    assert "fails_daily" not in due
