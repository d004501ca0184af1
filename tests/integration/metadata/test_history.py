"""Exactly the runs that were asked for travel, with all that hangs on them, and nothing else is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import pytest
from psycopg import sql
from psycopg.rows import dict_row
from tests.integration.metadata.old_runs import OldRun, add_runs, insert

from airflow_migration.metadata.history import (
    count_history,
    filter_history,
    filtered_rows,
    kept_conditions,
    read_cutoff,
)
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.progress import Progress

Corpus = Callable[[str], DatabaseAddress]
Row = dict[str, Any]
Snapshot = dict[str, list[Row]]

CUTOFF = datetime(2020, 6, 1, tzinfo=timezone.utc)
"""The runs of the corpus itself are newer."""
RELEASES = ("1.10.10", "1.10.15", "2.0.2", "2.2.5", "2.7.3", "2.10.5", "3.0.6", "3.1.8", "3.3.2")
STAY = {("busy", "first"), ("busy", "failed"), ("idle", "scheduled__1"), ("idle", "manual__1")}
TRAVEL = {
    ("busy", "before the unfinished"),
    ("busy", "unfinished"),
    ("busy", "last"),
    ("idle", "scheduled__2"),
    ("idle", "manual__2"),
    ("new", "at the cutoff"),
    ("new", "later"),
}
TIMED = {"log": ("dttm",), "job": ("latest_heartbeat", "end_date", "start_date")}


def runs(padding: int) -> list[OldRun]:
    """:param padding: further old runs that stay"""
    return [
        OldRun(dag_id="busy", run_id="first", date="2020-01-01T00:00Z"),
        OldRun(dag_id="busy", run_id="before the unfinished", date="2020-01-02T00:00Z", state="failed"),
        OldRun(dag_id="busy", run_id="unfinished", date="2020-01-03T00:00Z", state="running"),
        OldRun(dag_id="busy", run_id="failed", date="2020-01-04T00:00Z", state="failed"),
        OldRun(dag_id="busy", run_id="last", date="2020-01-05T00:00Z"),
        OldRun(dag_id="idle", run_id="scheduled__1", date="2020-02-01T00:00Z"),
        OldRun(dag_id="idle", run_id="scheduled__2", date="2020-02-02T00:00Z"),
        OldRun(dag_id="idle", run_id="manual__1", date="2020-02-03T00:00Z", kind="manual"),
        OldRun(dag_id="idle", run_id="manual__2", date="2020-02-04T00:00Z", kind="manual"),
        OldRun(dag_id="new", run_id="at the cutoff", date="2020-06-01T00:00Z"),
        OldRun(dag_id="new", run_id="later", date="2020-06-02T00:00Z"),
        *(OldRun(dag_id="idle", run_id=f"padding {n}", date=f"2019-01-01T00:{n:02}Z") for n in range(padding)),
    ]


def stays(run: tuple[str, str]) -> bool:
    return run in STAY or run[1].startswith("padding")


def take(conn: Session) -> Snapshot:
    """Every row of every table."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return {
            table: cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
            for table in read_tables(conn)
        }


def owner(table: str, row: Row, before: Snapshot) -> tuple[str, str] | None:
    """The run to which a row belongs, by reading rather than by SQL."""
    all_runs = before["dag_run"]
    if table == "callback":
        row = next(each for each in before["deadline"] if each["callback_id"] == row["id"])
    if row.get("ti_history_id"):
        tries = before["task_instance_history"]
        row = next(each for each in tries if each["task_instance_id"] == row["ti_history_id"])
    if row.get("ti_id"):
        row = next(each for each in before["task_instance"] if each["id"] == row["ti_id"])
    for column in ("dag_run_id", "dagrun_id"):
        if row.get(column):
            row = next(each for each in all_runs if each["id"] == row[column])
    if row.get("run_id"):
        return row["dag_id"], row["run_id"]
    date = row.get("execution_date") or row.get("logical_date")
    if table in ("connection", "variable", "dag") or not date:
        return None
    found = [
        r for r in all_runs if r["dag_id"] == row["dag_id"] and date in (r.get("execution_date"), r.get("logical_date"))
    ]
    return (found[0]["dag_id"], found[0]["run_id"]) if found else None


def expected(before: Snapshot) -> Snapshot:
    known = {(run["dag_id"], run["run_id"]) for run in before["dag_run"]}
    after: Snapshot = {}
    for table, rows in before.items():
        after[table] = []
        for row in rows:
            run = owner(table, row, before)
            moments = [row[column] for column in TIMED.get(table, ()) if row[column]]
            if run in known and table != "job":
                keep = not stays(run)
            else:
                keep = not moments or moments[0] >= CUTOFF or row.get("state") == "running"
            after[table] += [row] if keep else []
    return after


def ordered(rows: list[Row]) -> list[str]:
    return sorted(str(sorted(row.items())) for row in rows)


def add_rest(conn: Session) -> None:
    """Rows that belong to no run, old and new."""
    for event, moment in (("old", "2020-05-31"), ("new", "2020-06-02")):
        insert(conn, "log", "(SELECT 1) one", event=f"'{event}'", dttm=f"'{moment}'")
        for state in ("success", "running"):
            insert(conn, "job", "(SELECT 1) one", state=f"'{state}'", latest_heartbeat=f"'{moment}'", start_date="NULL")
    if "execution_date" in read_tables(conn)["xcom"]:
        orphan = {"dag_id": "'no'", "task_id": "'run'", "execution_date": "'2019-01-01'", "key": "'k'"}
        insert(conn, "xcom", "(SELECT 1) one", **orphan)


@pytest.mark.parametrize("padding", [0, 50], ids=["few stay", "most stay"])
@pytest.mark.parametrize("release", RELEASES)
def test_old_runs_stay_whole_and_everything_else_travels(corpus: Corpus, release: str, padding: int) -> None:
    heard: list[Progress | str] = []
    with corpus(release).connect(read_only=False) as conn:
        add_runs(conn, runs(padding))
        add_rest(conn)
        before = take(conn)
        known = {(run["dag_id"], run["run_id"]) for run in before["dag_run"]}
        assert known >= STAY | TRAVEL
        conditions = kept_conditions(conn, CUTOFF)
        counted = count_history(conn, CUTOFF)
        result = filter_history(conn, CUTOFF, "run 1", heard.append)
        after = take(conn)
        wanted = expected(before)
        assert {(run["dag_id"], run["run_id"]) for run in after["dag_run"]} == {r for r in known if not stays(r)}
        for table, rows in wanted.items():
            assert ordered(after[table]) == ordered(rows), table
        gone = {table: len(before[table]) - len(after[table]) for table in before}
        assert filtered_rows(conn, "run 1") == {table: gone[table] for table in conditions}
        assert {table: count.stay for table, count in counted.items()} == filtered_rows(conn, "run 1")
        assert {each.table: each.rows for each in result.tables} == filtered_rows(conn, "run 1")
        assert result.rows == sum(gone.values())
        assert read_cutoff(conn, "run 1") == CUTOFF
        assert set(gone) >= {table for table, rows in gone.items() if rows}
        assert {"dag_run", "task_instance", "xcom", "log", "job"} <= {t for t, rows in gone.items() if rows}
    assert heard


@pytest.mark.parametrize("padding", [0, 50], ids=["few stay", "most stay"])
def test_a_kill_in_between_leaves_the_database_whole_and_the_retry_does_it_all(corpus: Corpus, padding: int) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=False) as conn:
        add_runs(conn, runs(padding))
        before = take(conn)

    def die(message: Progress | str) -> None:
        if "xcom" in str(message):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), address.connect(read_only=False) as conn:
        filter_history(conn, CUTOFF, "run 1", die)
    with address.connect(read_only=False) as conn:
        assert take(conn) == before
        assert filtered_rows(conn, "run 1") == {}
        done = filter_history(conn, CUTOFF, "run 1", lambda message: None)
        after = take(conn)
        # Another moment, as if the plan had been made anew: what is done is done.
        again = filter_history(conn, datetime(2030, 1, 1, tzinfo=timezone.utc), "run 1", lambda message: None)
        assert take(conn) == after
    assert (done.reused, again.reused) == (False, True)
    assert (again.cutoff, again.tables) == (done.cutoff, done.tables)


@pytest.mark.parametrize("padding", [0, 50], ids=["few stay", "most stay"])
def test_tables_of_others_that_refer_to_runs_go_with_them(corpus: Corpus, padding: int) -> None:
    with corpus("2.10.5").connect(read_only=False) as conn:
        add_runs(conn, runs(padding))
        conn.execute("CREATE TABLE their_audit (id serial PRIMARY KEY, run int REFERENCES dag_run, note text)")
        conn.execute(
            "CREATE TABLE their_detail (audit int NOT NULL REFERENCES their_audit, run int REFERENCES dag_run,"
            " number int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (audit * 2) STORED)"
        )
        conn.execute("INSERT INTO their_audit (run, note) SELECT id, run_id FROM dag_run")
        conn.execute("INSERT INTO their_audit (note) VALUES ('of no run')")
        conn.execute("INSERT INTO their_detail (audit) SELECT id FROM their_audit ORDER BY id")
        before = take(conn)
        filter_history(conn, CUTOFF, "run 1", lambda message: None)
        after = take(conn)
        kept = {run["id"] for run in after["dag_run"]}
        wanted = [row for row in before["their_audit"] if row["run"] is None or row["run"] in kept]
        assert ordered(after["their_audit"]) == ordered(wanted)
        audits = {row["id"] for row in wanted}
        details = [row for row in before["their_detail"] if row["audit"] in audits]
        assert ordered(after["their_detail"]) == ordered(details)
        assert 0 < len(details) < len(before["their_detail"])
        assert filtered_rows(conn, "run 1")["their_detail"] == len(before["their_detail"]) - len(details)


def test_a_table_in_another_schema_that_refers_to_task_instances_does_not_stop_it(corpus: Corpus) -> None:
    with corpus("2.10.5").connect(read_only=False) as conn:
        add_runs(conn, runs(50))
        conn.execute("CREATE SCHEMA theirs")
        conn.execute("CREATE TABLE theirs.audit (run int REFERENCES dag_run ON DELETE SET NULL)")
        conn.execute("INSERT INTO theirs.audit SELECT id FROM dag_run")
        (count,) = conn.execute("SELECT count(*) FROM theirs.audit").fetchone() or (None,)
        gone = filter_history(conn, CUTOFF, "run 1", lambda message: None)
        left = conn.execute("SELECT count(*), count(*) FILTER (WHERE run IS NULL) FROM theirs.audit").fetchone()
        runs_gone = next(each.rows for each in gone.tables if each.table == "dag_run")
        assert left == (count, runs_gone)
        assert runs_gone > 50


STEMS: Mapping[str, tuple[str, str]] = {"2.10.5": ("dataset", "execution_date"), "3.1.8": ("asset", "logical_date")}


@pytest.mark.parametrize("padding", [0, 50], ids=["few stay", "most stay"])
@pytest.mark.parametrize("release", sorted(STEMS))
def test_events_travel_with_their_maker_their_consumer_or_while_they_wait(
    corpus: Corpus, release: str, padding: int
) -> None:
    stem, _ = STEMS[release]
    with corpus(release).connect(read_only=False) as conn:
        for queue in (f"{stem}_event", f"dagrun_{stem}_event", f"{stem}_dag_run_queue"):
            conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(queue)))
        add_runs(
            conn,
            [*runs(padding), OldRun(dag_id="eater", run_id="ate", date="2020-03-01T00:00Z", kind=f"{stem}_triggered")],
        )
        insert(conn, stem, "generate_series(901, 902) n", id="n", uri="'s3://' || n", name="'name ' || n")
        insert(
            conn,
            "dag",
            "(SELECT 1) one",
            dag_id="'eater'",
            bundle_name="(SELECT min(bundle_name) FROM dag)" if stem == "asset" else "NULL",
        )
        insert(conn, f"{stem}_dag_run_queue", "(SELECT 1) one", **{f"{stem}_id": "902", "target_dag_id": "'eater'"})
        # name, asset, moment, making run, consuming run, travels
        cases = [
            ("by an old run", 901, "2020-01-01", ("busy", "first"), None, False),
            ("by a run that travels", 901, "2020-01-05", ("busy", "last"), None, True),
            ("by an old run for a run that travels", 901, "2020-01-04", ("busy", "failed"), ("eater", "ate"), True),
            ("by an old run for an old run", 901, "2020-01-04", ("busy", "failed"), ("idle", "manual__1"), False),
            ("by hand, old", 901, "2020-05-31", None, None, False),
            ("by hand, new", 901, "2020-06-01", None, None, True),
            ("eaten long ago", 902, "2020-02-28", None, None, False),
            ("waiting", 902, "2020-03-02", None, None, True),
        ]
        for name, asset, moment, maker, eater, _ in cases:
            dag_id, run_id = maker or (None, None)
            (event,) = conn.execute(
                sql.SQL(
                    "INSERT INTO {} ({}, extra, timestamp, source_dag_id, source_run_id, source_map_index)"
                    " VALUES (%s, to_json(%s::text), %s, %s, %s, -1) RETURNING id"
                ).format(sql.Identifier(f"{stem}_event"), sql.Identifier(f"{stem}_id")),
                (asset, name, f"{moment}T00:00Z", dag_id, run_id),
            ).fetchone() or (None,)
            if eater:
                conn.execute(
                    sql.SQL("INSERT INTO {} SELECT id, %s FROM dag_run WHERE (dag_id, run_id) = (%s, %s)").format(
                        sql.Identifier(f"dagrun_{stem}_event")
                    ),
                    (event, *eater),
                )
        filter_history(conn, CUTOFF, "run 1", lambda message: None)
        left = conn.execute(sql.SQL("SELECT extra #>> '{{}}' FROM {}").format(sql.Identifier(f"{stem}_event")))
        assert {row[0] for row in left} == {name for name, *_, travels in cases if travels}
        eaten = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(f"dagrun_{stem}_event")))
        assert eaten.fetchone() == (1,)


def test_a_backfill_travels_while_it_goes_on_or_with_a_run(corpus: Corpus) -> None:
    with corpus("3.1.8").connect(read_only=False) as conn:
        add_runs(conn, runs(0))
        for number, completed in ((1, "'2020-01-01'"), (2, "'2020-01-01'"), (3, "NULL")):
            insert(conn, "backfill", "(SELECT 1) one", id=str(900 + number), completed_at=completed)
        for number, run in enumerate(("first", "last", "failed"), 901):
            conn.execute("UPDATE dag_run SET backfill_id = %s WHERE (dag_id, run_id) = ('busy', %s)", (number, run))
            source = f"dag_run WHERE backfill_id = {number}"
            insert(conn, "backfill_dag_run", source, backfill_id="backfill_id", dag_run_id="id", id=str(number))
        filter_history(conn, CUTOFF, "run 1", lambda message: None)
        left = conn.execute("SELECT id FROM backfill WHERE id > 900 ORDER BY id").fetchall()
        its = conn.execute("SELECT id FROM backfill_dag_run WHERE id > 900").fetchall()
    assert left == [(902,), (903,)]
    assert its == [(902,)]
