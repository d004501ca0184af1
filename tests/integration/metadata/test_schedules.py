"""The target's scheduler can go on from what the official upgrades left, and only named columns change."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import jinja2
import pytest

from airflow_migration.metadata.log_templates import OLD_LOG_TEMPLATE
from airflow_migration.metadata.releases import release
from airflow_migration.metadata.schedules import (
    MendResult,
    mend_after_parse,
    mend_before_start,
    read_schedules,
)
from airflow_migration.metadata.timetables import RecordedSchedule
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

NewDatabase = Callable[..., DatabaseAddress]
Corpus = Callable[[str], DatabaseAddress]

LEFT_IN_FLIGHT = """
UPDATE connection SET conn_type = 'generic' WHERE conn_type IS NULL;
UPDATE connection c SET conn_id = conn_id || c.id WHERE EXISTS
    (SELECT FROM connection d WHERE d.conn_id = c.conn_id AND d.id < c.id);
UPDATE dag SET is_paused = true;
INSERT INTO dag (dag_id, is_paused, is_active, is_subdag, schedule_interval) VALUES
    ('minutely', true, true, false, '"* * * * *"'),
    ('new_york', true, true, false, '"0 1 * * *"'),
    ('every_two_hours', true, true, false,
     '{"type": "timedelta", "attrs": {"days": 0, "seconds": 7200, "microseconds": 0}}'),
    ('by_hand', true, true, false, 'null'),
    ('once', true, true, false, '"@once"'),
    ('own "timetable"', true, true, false, '"AfterWorkday"');
INSERT INTO dag_run (dag_id, execution_date, run_id, state, external_trigger)
    SELECT dag_id, at::timestamptz, prefix || '__' || at, state, prefix = 'manual' FROM (VALUES
        ('minutely', '2026-11-20 02:02:00+00', 'scheduled', 'success'),
        ('minutely', '2026-11-20 02:03:00+00', 'scheduled', 'running'),
        ('minutely', '2026-11-20 02:03:07.5+00', 'manual', 'success'),
        ('new_york', '2026-07-01 05:00:00+00', 'scheduled', 'success'),
        ('new_york', '2026-11-20 06:00:00+00', 'scheduled', 'success'),
        ('every_two_hours', '2026-11-20 01:30:00+00', 'scheduled', 'success'),
        ('by_hand', '2026-11-20 03:04:05.25+00', 'manual', 'running'),
        ('once', '2026-11-20 00:00:00+00', 'scheduled', 'success'),
        ('own "timetable"', '2026-11-20 00:00:00+00', 'scheduled', 'success'),
        ('nobody knows me', '2026-11-20 00:00:00+00', 'scheduled', 'success')
    ) AS runs (dag_id, at, prefix, state);
INSERT INTO task_instance (dag_id, task_id, execution_date, pool, pool_slots, try_number, state)
    SELECT r.dag_id, 'task_' || coalesce(s.state, 'none'), r.execution_date, 'default_pool', 1, s.try, s.state
      FROM dag_run r, (VALUES (NULL, 0), ('running', 1), ('queued', 0), ('scheduled', 0), ('scheduled', 1),
                              ('up_for_retry', 1), ('success', 1)) AS s (state, try)
     WHERE r.state = 'running' AND NOT (s.state = 'scheduled' AND s.try = 1 AND r.dag_id = 'by_hand')
        ON CONFLICT DO NOTHING;
INSERT INTO task_instance (dag_id, task_id, execution_date, pool, pool_slots, try_number, state)
    SELECT dag_id, 'killed', execution_date, 'default_pool', 1, 1, 'running'
      FROM dag_run WHERE dag_id = 'once';
"""

PORTED_DAGS = """
import datetime, pendulum
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

START = pendulum.datetime(2026, 11, 1)

def make(dag_id, **arguments):
    with DAG(dag_id, **({"start_date": START, "catchup": True} | arguments)):
        EmptyOperator(task_id="task_none")

make("minutely", schedule="* * * * *")
make("new_york", schedule="0 1 * * *", start_date=pendulum.datetime(2026, 1, 1, tz="America/New_York"))
make("every_two_hours", schedule=datetime.timedelta(hours=2))
make("by_hand", schedule=None)
make("once", schedule="@once")
"""

NEXT_RUNS = (
    "SELECT dag_id, to_char(next_dagrun AT TIME ZONE 'UTC', 'MM-DD HH24:MI') FROM dag"
    " WHERE dag_id IN ('minutely', 'every_two_hours', 'once', 'by_hand')"
)
INTERVALS = (
    "SELECT dag_id || ' ' || to_char(logical_date AT TIME ZONE 'UTC', 'MM-DD HH24:MI:SS'),"
    " extract(epoch FROM data_interval_start - logical_date)::int,"
    " extract(epoch FROM data_interval_end - logical_date)::float,"
    " extract(epoch FROM run_after - logical_date)::float"
    " FROM dag_run WHERE logical_date > '2026-01-01'"
)


class Migration:
    """A database that 1.10.15 wrote, before and after Airflow's own upgrades."""

    def __init__(self, source: DatabaseAddress, working: DatabaseAddress, head: str) -> None:
        self.source, self.working, self.head = source, working, head

    def recorded(self) -> dict[str, RecordedSchedule]:
        with self.source.connect() as session:
            return read_schedules(session)

    def before_start(self, migration_id: str = "m 1") -> MendResult:
        with self.working.connect(read_only=False) as session:
            return mend_before_start(
                session,
                source_head=self.head,
                recorded=self.recorded(),
                migration_id=migration_id,
                listener=lambda _: None,
            )

    def after_parse(self) -> MendResult:
        with self.working.connect(read_only=False) as session:
            return mend_after_parse(
                session,
                source_head=self.head,
                recorded=self.recorded(),
                migration_id="m 1",
                listener=lambda _: None,
            )

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with self.working.connect() as session:
            return session.execute(statement.encode()).fetchall()

    def pairs(self, statement: str) -> dict[object, object]:
        return {row[0]: row[1] for row in self.rows(statement)}


@pytest.fixture(scope="module")
def source_1_10(corpus: Corpus) -> DatabaseAddress:
    address = corpus("1.10.15")
    with address.connect(read_only=False) as session:
        session.execute(LEFT_IN_FLIGHT.encode())
    return address


@pytest.fixture(scope="module")
def upgraded(
    source_1_10: DatabaseAddress, new_database: NewDatabase, runtimes: VenvRuntime, fernet_key: Secret
) -> DatabaseAddress:
    """By the official commands of 2.11.2 and 3.3.2, and by nothing else."""
    working = new_database(template=source_1_10.database)
    for hop in ("2.11.2", "3.3.2"):
        runtimes.upgrade(hop, working, fernet_key, lambda _: None)
    return working


@pytest.fixture
def migration(source_1_10: DatabaseAddress, upgraded: DatabaseAddress, new_database: NewDatabase) -> Migration:
    return Migration(source_1_10, new_database(template=upgraded.database), release("1.10.15").head)


@pytest.fixture
def parse(runtimes: VenvRuntime, fernet_key: Secret, tmp_path: Path) -> Callable[[Migration], None]:
    """What the target's DAG processor does at its first parse, by the target's own command."""
    (tmp_path / "ported.py").write_text(PORTED_DAGS)
    settings = {"AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True"}

    def run(migration: Migration) -> None:
        command = ["dags", "reserialize"]
        done = runtimes.run("3.3.2", migration.working, fernet_key, command, settings, tmp_path)
        assert done.exit_code == 0, done.output.reveal()

    return run


def test_old_runs_get_the_interval_of_the_recorded_schedule(migration: Migration) -> None:
    result = migration.before_start()
    found = {row[0]: row[1:] for row in migration.rows(INTERVALS)}
    assert found == {
        "minutely 11-20 02:02:00": (0, 60, 60),
        "minutely 11-20 02:03:00": (0, 60, 60),
        "minutely 11-20 02:03:07": (0, 52.5, 0),  # a manual run may start at once
        "new_york 07-01 05:00:00": (None, None, 0),
        "new_york 11-20 06:00:00": (None, None, 0),
        "every_two_hours 11-20 01:30:00": (0, 7200, 7200),
        "by_hand 11-20 03:04:05": (0, 0, 0),
        "once 11-20 00:00:00": (0, 0, 0),
        'own "timetable" 11-20 00:00:00': (None, None, 0),
        "nobody knows me 11-20 00:00:00": (None, None, 0),
    }
    assert result.intervals == 9 + 6
    assert (result.not_computed_runs, result.not_computed_dags) == (4, 3)
    reasons = {entry.dag_id: (entry.runs, entry.reason) for entry in result.not_computed}
    assert reasons.keys() == {"new_york", 'own "timetable"', "nobody knows me"}
    assert reasons["new_york"][0] == 2
    assert "AfterWorkday" in reasons['own "timetable"'][1]
    assert result.warnings


def test_only_null_intervals_are_filled(migration: Migration) -> None:
    with migration.working.connect(read_only=False) as session:
        session.execute(
            "UPDATE dag_run SET data_interval_start = '2000-01-01', data_interval_end = '2000-01-02'"
            " WHERE dag_id = 'once'"
        )
        session.execute(
            "UPDATE dag_run SET data_interval_start = logical_date, run_after = logical_date,"
            " data_interval_end = logical_date + interval '5 h' WHERE dag_id = 'every_two_hours'"
        )
    result = migration.before_start()
    assert (result.intervals, result.run_after) == (9 + 4, 1)
    assert migration.rows("SELECT extract(year FROM data_interval_end) FROM dag_run WHERE dag_id = 'once'") == [(2000,)]
    moved = "SELECT extract(hour FROM run_after - logical_date) FROM dag_run WHERE dag_id = 'every_two_hours'"
    assert migration.rows(moved) == [(5,)]


def test_task_instances_of_unfinished_runs_run_again_and_their_state_is_kept(migration: Migration) -> None:
    result = migration.before_start()
    states = "SELECT dag_id || '.' || task_id, state FROM task_instance WHERE dag_id IN ('by_hand', 'once')"
    assert migration.pairs(states) == {
        "by_hand.task_none": None,
        "by_hand.task_running": None,
        "by_hand.task_queued": None,
        "by_hand.task_scheduled": None,
        "by_hand.task_up_for_retry": "up_for_retry",
        "by_hand.task_success": "success",
        "once.killed": "running",
    }
    assert (result.cleared, result.left) == (6, 1)
    kept = "SELECT dag_id || '.' || task_id, old_state, cleared FROM airflow_migration.mended_task_instance"
    assert {row[0]: row[1:] for row in migration.rows(kept + " WHERE dag_id <> 'minutely'")} == {
        "by_hand.task_running": ("running", True),
        "by_hand.task_queued": ("queued", True),
        "by_hand.task_scheduled": ("scheduled", True),
        "once.killed": ("running", False),
    }
    assert any("once.killed" in text for text in result.task_instances)


def test_old_logs_are_looked_for_where_they_were_written(migration: Migration) -> None:
    result = migration.before_start()
    templates = migration.rows("SELECT id, filename, elasticsearch_id FROM log_template ORDER BY id")
    assert OLD_LOG_TEMPLATE in str(templates[0][1])
    assert templates[0][2] == "{dag_id}-{task_id}-{logical_date}-{try_number}"
    assert len(templates) == 2
    assert result.old_logs == migration.rows("SELECT count(*) FROM dag_run")[0][0]
    # New runs take the highest id, which must stay Airflow's own.
    assert "run_id=" in str(templates[1][1])


def test_a_second_try_changes_nothing_and_reports_the_same(migration: Migration) -> None:
    first = migration.before_start()
    rows = migration.rows("SELECT r::text FROM dag_run r UNION ALL SELECT t::text FROM task_instance t ORDER BY 1")
    assert migration.before_start() == first
    assert (
        migration.rows("SELECT r::text FROM dag_run r UNION ALL SELECT t::text FROM task_instance t ORDER BY 1") == rows
    )
    assert len(migration.rows("SELECT id FROM log_template")) == 2


def test_a_try_that_is_cut_off_leaves_nothing_behind(migration: Migration) -> None:
    before = migration.rows("SELECT r::text FROM dag_run r ORDER BY 1")
    with migration.working.connect(read_only=False) as session:
        mend_before_start(
            session,
            source_head=migration.head,
            recorded=migration.recorded(),
            migration_id="m 1",
            listener=lambda _: None,
        )
        session.rollback()
    assert migration.rows("SELECT r::text FROM dag_run r ORDER BY 1") == before
    assert migration.rows("SELECT to_regclass('airflow_migration.mended_task_instance')") == [(None,)]
    assert migration.before_start().intervals == 15


def test_no_other_column_of_any_row_changes(migration: Migration) -> None:
    statements = (
        "SELECT to_jsonb(r) - '{data_interval_start,data_interval_end,run_after}'::text[] FROM dag_run r ORDER BY id",
        "SELECT to_jsonb(t) - '{state,priority_weight,queue}'::text[] || jsonb_build_object("
        " 'p', coalesce(priority_weight, 1), 'q', coalesce(queue, 'default')) FROM task_instance t ORDER BY id",
        "SELECT to_jsonb(d) FROM dag d ORDER BY dag_id",
        "SELECT to_jsonb(x) FROM xcom x ORDER BY to_jsonb(x)::text",
    )
    before = [migration.rows(statement) for statement in statements]
    migration.before_start()
    assert [migration.rows(statement) for statement in statements] == before


def test_without_mending_the_next_run_is_one_that_exists(
    migration: Migration, parse: Callable[[Migration], None]
) -> None:
    parse(migration)
    assert migration.pairs(NEXT_RUNS) == {
        "minutely": "11-20 02:03",
        "every_two_hours": "11-20 01:30",
        "once": None,
        "by_hand": None,
    }


def test_the_next_run_follows_the_last_and_what_waits_has_a_version(
    migration: Migration, parse: Callable[[Migration], None]
) -> None:
    migration.before_start()
    parse(migration)
    assert migration.pairs(NEXT_RUNS) == {
        "minutely": "11-20 02:04",
        "every_two_hours": "11-20 03:30",
        "once": None,
        "by_hand": None,
    }
    result = migration.after_parse()
    without = (
        "SELECT DISTINCT dag_id, coalesce(state, 'none') FROM task_instance"
        " WHERE dag_version_id IS NULL AND dag_id IN ('by_hand', 'minutely', 'once')"
    )
    assert set(migration.rows(without)) == {
        ("by_hand", "success"),
        ("minutely", "success"),
        ("once", "running"),  # of a finished run
    }
    assert (result.dag_versions, result.not_parsed) == (10, ())
    versions = "SELECT DISTINCT v.dag_id FROM task_instance t JOIN dag_version v ON v.id = t.dag_version_id"
    assert sorted(migration.rows(versions)) == [("by_hand",), ("minutely",)]
    assert migration.after_parse() == result


def test_a_timezone_that_only_the_target_knows_completes_the_intervals(
    migration: Migration, parse: Callable[[Migration], None]
) -> None:
    migration.before_start()
    parse(migration)
    next_run = "SELECT next_dagrun_create_after IS NULL FROM dag WHERE dag_id = 'new_york'"
    assert migration.rows(next_run) == [(False,)]
    result = migration.after_parse()
    hours = (
        "SELECT extract(epoch FROM data_interval_end - data_interval_start)::int / 3600,"
        " run_after = data_interval_end FROM dag_run WHERE dag_id = 'new_york'"
    )
    assert migration.rows(hours) == [(24, True), (24, True)]
    assert (result.intervals, result.not_computed_runs) == (2, 2)
    assert migration.rows(next_run) == [(True,)]
    parse(migration)
    following = "SELECT to_char(next_dagrun AT TIME ZONE 'UTC', 'MM-DD HH24:MI') FROM dag WHERE dag_id = 'new_york'"
    assert migration.rows(following) == [("11-21 06:00",)]


def test_dags_that_the_target_has_not_parsed_are_named(migration: Migration) -> None:
    migration.before_start()
    result = migration.after_parse()
    assert result.dag_versions == 0
    assert result.not_parsed == ("by_hand", "minutely")
    assert any("not parsed" in text for text in result.warnings)


def test_a_source_with_intervals_keeps_them(
    corpus: Corpus, new_database: NewDatabase, runtimes: VenvRuntime, fernet_key: Secret
) -> None:
    source = corpus("2.10.5")
    working = new_database(template=source.database)
    runtimes.upgrade("3.3.2", working, fernet_key, lambda _: None)
    migration = Migration(source, working, release("2.10.5").head)
    rows = migration.rows("SELECT r::text FROM dag_run r ORDER BY 1")
    templates = migration.rows("SELECT id, filename FROM log_template ORDER BY id")
    assert migration.before_start() == MendResult()
    assert migration.rows("SELECT r::text FROM dag_run r ORDER BY 1") == rows
    assert migration.rows("SELECT id, filename FROM log_template ORDER BY id") == templates


@pytest.mark.parametrize("number", ["1.10.15", "2.2.5", "2.10.5"])
def test_the_same_release_needs_no_mending_of_what_it_does_not_have(corpus: Corpus, number: str) -> None:
    address = corpus(number)
    migration = Migration(address, address, release(number).head)
    recorded = migration.recorded()
    assert recorded["etl_daily"] == RecordedSchedule(kind="cron", cron="0 0 * * *", timezone="UTC")
    assert migration.before_start() == MendResult()
    assert migration.after_parse() == MendResult()


def test_task_instances_of_1_10_are_found_by_their_date(
    source_1_10: DatabaseAddress, new_database: NewDatabase
) -> None:
    working = new_database(template=source_1_10.database)
    result = Migration(source_1_10, working, release("1.10.15").head).before_start()
    assert (result.cleared, result.left) == (6, 1)


def test_tables_in_another_schema_are_found(migration: Migration) -> None:
    with migration.working.connect(read_only=False) as session:
        session.execute('ALTER SCHEMA public RENAME TO "Air flow"')
    there = DatabaseAddress(
        host=migration.working.host,
        port=migration.working.port,
        user=migration.working.user,
        password=migration.working.password,
        database=migration.working.database,
        schema="Air flow",
    )
    assert Migration(migration.source, there, migration.head).before_start().intervals == 15


def test_compressed_dags_of_the_source_are_read(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=False) as session:
        set_serialized(session, "etl_daily", b'{"dag": {"timezone": "Europe/Amsterdam"}}')
        set_serialized(session, "fails_daily", b"no JSON")
    with address.connect() as session:
        recorded: Mapping[str, RecordedSchedule] = read_schedules(session)
    assert recorded["etl_daily"].timezone == "Europe/Amsterdam"
    assert recorded["fails_daily"].needs_timezone


def set_serialized(session: Session, dag_id: str, content: bytes) -> None:
    """As `[core] compress_serialized_dags` stores a DAG."""
    session.execute(
        "UPDATE serialized_dag SET data = NULL, data_compressed = %s WHERE dag_id = %s",
        (zlib.compress(content), dag_id),
    )


def test_a_dag_that_is_parsed_later_gives_its_version_to_what_waits(
    migration: Migration, parse: Callable[[Migration], None]
) -> None:
    migration.before_start()
    triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'dag_version'::regclass AND NOT tgisinternal"
    assert migration.after_parse().not_parsed == ("by_hand", "minutely")
    assert len(migration.rows(triggers)) == 1
    assert migration.after_parse().not_parsed == ("by_hand", "minutely")
    parse(migration)
    waiting = (
        "SELECT count(*), count(dag_version_id) FROM task_instance t JOIN dag_run r USING (dag_id, run_id)"
        " WHERE r.state = 'running' AND (t.state IS NULL OR t.state = 'up_for_retry')"
        " AND t.dag_id IN ('by_hand', 'minutely')"
    )
    assert migration.rows(waiting) == [(10, 10)]
    finished = "SELECT count(dag_version_id) FROM task_instance WHERE state = 'success'"
    assert migration.rows(finished) == [(0,)]
    assert migration.after_parse().not_parsed == ()
    assert migration.rows(triggers) == []
    assert migration.rows("SELECT to_regproc('airflow_migration.give_dag_version')") == [(None,)]


def test_a_failure_of_the_late_mending_does_not_fail_the_parse(migration: Migration) -> None:
    migration.before_start()
    migration.after_parse()
    with migration.working.connect(read_only=False) as session:
        session.execute("ALTER TABLE dag_run RENAME COLUMN state TO former_state")
        session.execute(
            "INSERT INTO dag_version (id, dag_id, version_number, created_at, last_updated)"
            " VALUES (gen_random_uuid(), 'by_hand', 1, now(), now())"
        )
    assert migration.rows("SELECT count(*) FROM dag_version") == [(1,)]


def test_what_ends_a_scheduler_is_completed(migration: Migration) -> None:
    with migration.working.connect(read_only=False) as session:
        session.execute("UPDATE task_instance SET priority_weight = 7, queue = 'q' WHERE dag_id = 'by_hand'")
        session.execute("UPDATE task_instance SET queue = NULL WHERE dag_id = 'by_hand' AND task_id = 'task_queued'")
    lacking = "SELECT count(*) FROM task_instance WHERE priority_weight IS NULL OR queue IS NULL"
    ((before,),) = migration.rows(lacking)
    result = migration.before_start()
    assert result.completed == before
    assert migration.rows(lacking) == [(0,)]
    assert migration.rows(
        "SELECT DISTINCT priority_weight, queue FROM task_instance WHERE dag_id = 'by_hand' ORDER BY 2"
    ) == [(7, "default"), (7, "q")]
    assert migration.before_start() == result


def test_later_tries_of_old_runs_have_the_logs_of_the_new_template(migration: Migration) -> None:
    migration.before_start()
    (old, new) = (str(name) for (name,) in migration.rows("SELECT filename FROM log_template ORDER BY id"))
    template = jinja2.Template(old)
    before, after = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2126, 1, 1, tzinfo=timezone.utc)

    def path(started: datetime | None) -> str:
        ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, start_date=started)
        return str(template.render(ti=ti, ts="2026-01-01T00:00:00+00:00", try_number=3))

    assert path(before) == "d/t/2026-01-01T00:00:00+00:00/3.log"
    assert path(after) == path(None) == "dag_id=d/run_id=r/task_id=t/attempt=3.log"
    assert "run_id=" in new


def test_a_template_of_before_that_differs_gets_both_paths(
    corpus: Corpus,
    new_database: NewDatabase,
    runtimes: VenvRuntime,
    fernet_key: Secret,
    parse: Callable[[Migration], None],
) -> None:
    source = corpus("2.10.5")
    with source.connect(read_only=False) as session:
        session.execute("UPDATE log_template SET filename = '{{ ti.dag_id }}/own/{{ try_number }}.log'")
    working = new_database(template=source.database)
    runtimes.upgrade("3.3.2", working, fernet_key, lambda _: None)
    migration = Migration(source, working, release("2.10.5").head)
    migration.before_start()
    parse(migration)
    migration.after_parse()
    names = [str(name) for (name,) in migration.rows("SELECT filename FROM log_template ORDER BY id")]
    assert "own" in names[0]
    assert "start_date" in names[0]
    assert "start_date" not in names[-1]
    migration.after_parse()
    assert [str(name) for (name,) in migration.rows("SELECT filename FROM log_template ORDER BY id")] == names


def test_a_deferred_task_without_its_trigger_runs_again(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=False) as session:
        session.execute("UPDATE dag_run SET state = 'running'")
        session.execute("UPDATE task_instance SET state = 'deferred' WHERE dag_id = 'etl_daily'")
        session.execute(
            "INSERT INTO trigger (id, classpath, kwargs, created_date) VALUES (7, 'a.Trigger', '{}', now())"
        )
        session.execute("UPDATE task_instance SET trigger_id = 7 WHERE dag_id = 'etl_daily' AND task_id = 'bash'")
    migration = Migration(address, address, release("2.10.5").head)
    result = migration.before_start()
    states = migration.rows("SELECT task_id, state FROM task_instance WHERE dag_id = 'etl_daily'")
    assert {state for task, state in states if task == "bash"} == {"deferred"}
    assert {state for task, state in states if task != "bash"} == {None}
    assert result.cleared == sum(task != "bash" for task, _ in states)


@pytest.mark.parametrize(("number", "kept"), [("2.10.5", True), ("2.2.5", False)])
def test_what_another_release_serialized_is_forgotten(
    corpus: Corpus, new_database: NewDatabase, runtimes: VenvRuntime, fernet_key: Secret, number: str, kept: bool
) -> None:
    source = corpus(number)
    working = new_database(template=source.database)
    runtimes.upgrade("2.11.2", working, fernet_key, lambda _: None)
    migration = Migration(source, working, release(number).head)
    migration.before_start()
    noted = "SELECT count(*) > 0 FROM dag WHERE next_dagrun_create_after IS NOT NULL"
    assert migration.rows(noted) == [(kept,)]
    assert migration.rows("SELECT count(*) > 0 FROM serialized_dag") == [(kept,)]
