"""A migration is taken back: after every task of it, after success, twice, and after a kill anywhere on the way."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from psycopg import sql

from airflow_migration.exceptions import ServerUnreachableError
from airflow_migration.metadata import journal, pausing
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.clone import block_connections
from airflow_migration.postgres.databases import rename_database
from airflow_migration.secret import Secret
from airflow_migration.steps.migration import Workshop

DAGS = Path(__file__).parents[3] / "dags"
TARGET = "the new $ 'Airflow'"
# Without verify, which takes most of the time and changes nothing; the whole migration below has it.
STEPS = (
    "pause_dags",
    "drain_running_tasks",
    "clone_database",
    "dump_database",
    "restore_database",
    "swap_fernet_key",
    "mend_schedules",
    "fence_source",
    "point_target",
    "restart_target",
    "unpause_dags",
    "migration_complete",
)
UNDO = (
    "allow_connections",
    "preflight_roll_back",
    "pause_target",
    "restore_target_settings",
    "put_back_target_database",
    "restart_target",
    "lift_fence",
    "resume_source",
    "drop_created",
    "roll_back_complete",
)


def ignore(_: object) -> None:
    pass


def load(name: str) -> Any:
    """A DAG file as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_dag", DAGS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tasks() -> dict[str, dict[str, Any]]:
    """The tasks of both DAGs."""
    return {name: dict(load(name).dag.task_dict) for name in ("migrate_airflow", "roll_back_migration")}


@pytest.fixture
def runs(new_run: Any, new_roll_back: Any) -> dict[str, Callable[..., Any]]:
    """Makes runs of both DAGs."""
    return {"migrate_airflow": new_run, "roll_back_migration": new_roll_back}


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dumps and reports of each test in a folder of its own."""
    place = Workshop(
        runtimes_path=tmp_path / "runtimes", dumps_path=tmp_path / "dumps", reports_path=str(tmp_path / "reports")
    )
    for module in ("hooks.migration", "operators.preflight", "operators.report", "operators.roll_back"):
        monkeypatch.setattr(f"airflow_migration.{module}.settings", lambda: place)


@dataclass
class Place:
    """A source, a target that was fresh, its settings and everything that can be seen of them."""

    server: DatabaseAddress
    source: DatabaseAddress
    target: DatabaseAddress
    env: Path
    restarts: Path
    runs: dict[str, Callable[..., Any]]
    tasks: dict[str, dict[str, Any]]
    connect_target: Callable[..., None]
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1, 99)))

    def migrate(self, *names: str, **conf: Any) -> Any:
        """Run a migration up to the last of the named tasks.

        :returns: the run; `run.run_id` is the migration's id
        """
        self.connect_target()
        run = self.runs["migrate_airflow"](run_id=f"manual__{next(self.ids)}", **conf)
        for name in ("preflight", *names):
            execute(run, self.tasks["migrate_airflow"][name])
        return run

    def roll_back(self, run: Any, *names: str, **conf: Any) -> dict[str, Any]:
        """Run the tasks of a roll back of a migration, all of them or the named ones.

        :returns: task id → result
        """
        # Only here, as unpause_dags would wait for the DAG processor of a target that it has restarted.
        self.connect_target(restart_command=["/bin/sh", "-c", 'cat "$0" >> "$1"', str(self.env), str(self.restarts)])
        undo = self.runs["roll_back_migration"](migration_id=run.run_id, **conf)
        return {
            name: execute(undo, self.tasks["roll_back_migration"][name])
            for name in names or (*UNDO, "report_roll_back")
        }

    def look(self) -> dict[str, Any]:
        """All that a roll back has to bring back."""
        with self.server.connect() as conn:
            databases = conn.execute(
                "SELECT datname::text, pg_get_userbyid(datdba)::text, datallowconn, (SELECT setconfig FROM"
                " pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0) FROM pg_database d"
                " WHERE split_part(datname, '__', 1) = ANY(%s) ORDER BY 1",
                ([self.source.database, self.target.database],),
            ).fetchall()
        return {
            "databases": databases,
            "flags": rows(self.source, "SELECT dag_id, is_paused FROM dag ORDER BY 1"),
            "source": digests(self.source),
            "target": digests(self.target),
            "settings": {path.name: path.read_text() for path in self.env.parent.glob("*.env*")},
        }

    def state(self, run: Any) -> str | None:
        with self.source.connect() as conn:
            entry = journal.read_entry(conn, run.run_id)
        return entry.state if entry else None


def execute(run: Any, task: Any) -> Any:
    try:
        result = run.execute(task)
    except AirflowSkipException:
        return None
    return result.get("result", result)


def rows(address: DatabaseAddress, query: str) -> list[Any]:
    with address.connect() as conn:
        return conn.execute(query).fetchall()


def digests(address: DatabaseAddress) -> dict[str, str]:
    """Of every table of Airflow's."""
    found = {}
    with address.connect() as conn:
        tables = conn.execute("SELECT relname::text FROM pg_stat_user_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            row = conn.execute(
                sql.SQL("SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t").format(
                    sql.Identifier(str(table))
                )
            ).fetchone()
            assert row
            found[str(table)] = str(row[0])
    return found


def without_backup(seen: dict[str, Any]) -> dict[str, Any]:
    """A look that leaves out the frozen clones, which a roll back keeps."""
    return seen | {"databases": [each for each in seen["databases"] if "__frozen_" not in each[0]]}


@pytest.fixture
def place(
    runs: dict[str, Callable[..., Any]],
    tasks: dict[str, dict[str, Any]],
    connect: Any,
    new_database: Any,
    corpus: Callable[[str], DatabaseAddress],
    fernet_key: Secret,
    runtimes: Any,
    tmp_path: Path,
) -> Iterator[Place]:
    """A 2.10.5 that becomes a 2.11.2, which has the same schema, in place of a fresh one."""
    source = corpus("2.10.5")
    server = source.maintenance()
    target = new_database(f"{TARGET} of {source.database}", template=source.database)
    with target.connect(read_only=False) as conn:
        conn.execute("TRUNCATE dag_run, task_instance, variable CASCADE")
    with source.connect(read_only=False) as conn:
        conn.execute("UPDATE dag SET is_paused = (hashtext(dag_id) % 3 = 0)")
    folder = tmp_path / "etc"
    folder.mkdir()
    env, restarts = folder / "airflow.env", tmp_path / "restarts"
    env.write_text(
        "# ours\nAIRFLOW__CORE__FERNET_KEY='b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA='\n"
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql://x:y@host/elsewhere\nA=1\n"
    )
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    environment = str(runtimes.prepare("2.11.2", ignore))

    def connect_target(**control: Any) -> None:
        connect(
            "migration_target",
            target,
            airflow_version="2.11.2",
            control={"kind": "env_file", "path": str(env)} | control,
            runtime={"kind": "venv", "environments": {"2.11.2": environment}},
        )

    place = Place(
        server=server,
        source=source,
        target=target,
        env=env,
        restarts=restarts,
        runs=runs,
        tasks=tasks,
        connect_target=connect_target,
    )
    yield place
    with server.connect(read_only=False, autocommit=True) as conn:
        for (name,) in conn.execute(
            "SELECT datname::text FROM pg_database WHERE split_part(datname, '__', 1) = ANY(%s) AND datname LIKE %s",
            ([source.database, target.database], "%\\_\\_%"),
        ).fetchall():
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))


def make_run(conn: Session, run_id: str) -> None:
    """What a scheduler does, as far as a count can see."""
    conn.execute(
        "INSERT INTO dag_run SELECT (jsonb_populate_record(r, jsonb_build_object("
        " 'id', nextval('dag_run_id_seq'), 'run_id', %s::text, 'execution_date', clock_timestamp()))).*"
        " FROM dag_run r LIMIT 1",
        (run_id,),
    )


def test_a_migration_that_the_source_does_not_know_is_refused_in_one_sentence(place: Place) -> None:
    run = place.migrate()
    before = place.look()
    for name in ("allow_connections", "preflight_roll_back"):
        if name == "allow_connections":
            place.roll_back(run, name)
            continue
        with pytest.raises(AirflowFailException, match='knows no migration "manual__1"'):
            place.roll_back(run, name)
    assert place.look() == before
    with place.source.connect() as conn:
        assert not journal.exists(conn)


@pytest.mark.parametrize("last", STEPS)
def test_after_every_task_the_world_is_put_back(place: Place, last: str) -> None:
    before = place.look()
    run = place.migrate(*STEPS[: STEPS.index(last) + 1])
    done = place.roll_back(run)
    assert without_backup(place.look()) == before
    assert place.state(run) == journal.ROLLED_BACK
    active = sum(1 for _, paused in before["flags"] if not paused)
    assert done["resume_source"]["unpaused"] == active
    cloned, dumped = (STEPS.index(last) >= STEPS.index(step) for step in ("clone_database", "dump_database"))
    assert len(done["drop_created"]["kept"]) == cloned + dumped
    report = json.loads(Path(done["report_roll_back"]["path"]).read_text())
    assert report["status"] == "success"
    assert "Taken back" in Path(done["report_roll_back"]["page"]).read_text()
    assert report["dags_active"] == active
    assert report["lost_runs"] == 0
    # The same again finds everything done, and with `purge` the backup goes as well.
    again = place.roll_back(run, purge=True)
    assert place.look() == before
    assert again["resume_source"] == {"unpaused": 0, "already_active": active, "missing": ()}
    assert len(again["drop_created"]["dropped"]) == cloned
    assert bool(again["drop_created"]["removed_dump"]) == dumped


def test_a_kill_between_any_two_tasks_and_a_new_run_end_the_same(place: Place) -> None:
    before = place.look()
    run = place.migrate(*STEPS)
    for killed in range(1, len(UNDO)):
        place.roll_back(run, *UNDO[:killed])
    place.roll_back(run, purge=True)
    assert place.look() == before
    assert place.restarts.read_text().endswith(place.env.read_text())
    assert place.state(run) == journal.ROLLED_BACK


def test_after_a_verification_that_failed(place: Place) -> None:
    before = place.look()
    run = place.migrate(*STEPS[: STEPS.index("mend_schedules") + 1])
    plan = run.task.xcoms["preflight", "return_value"]["result"]
    with place.target.on(plan["working_database"]).connect(read_only=False) as conn:
        conn.execute("UPDATE variable SET val = 'other', is_encrypted = false WHERE key = 'token'")
    with pytest.raises(AirflowException, match="token"):
        run.execute(place.tasks["migrate_airflow"]["verify"])
    place.roll_back(run, purge=True)
    assert place.look() == before
    assert place.state(run) == journal.ROLLED_BACK


def test_across_two_servers(
    place: Place,
    connect: Any,
    newer_server: DatabaseAddress,
    load_database: Callable[[DatabaseAddress, str], None],
    runtimes: Any,
) -> None:
    with newer_server.connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(place.target.database)))
    place.target = newer_server.on(place.target.database)
    load_database(place.target, "2.10.5")
    with place.target.connect(read_only=False) as conn:
        conn.execute("TRUNCATE dag_run, task_instance, variable CASCADE")
    environment = str(runtimes.prepare("2.11.2", ignore))

    def connect_target(**control: Any) -> None:
        connect(
            "migration_target",
            place.target,
            airflow_version="2.11.2",
            control={"kind": "env_file", "path": str(place.env)} | control,
            runtime={"kind": "venv", "environments": {"2.11.2": environment}},
        )

    def on_the_target() -> list[Any]:
        query = "SELECT datname::text FROM pg_database WHERE NOT datistemplate ORDER BY 1"
        return rows(newer_server, query)

    place.connect_target = connect_target
    before, there = place.look(), on_the_target()
    run = place.migrate(*STEPS)
    assert run.task.xcoms["preflight", "return_value"]["result"]["transfer"] == "dump"
    assert place.look() != before
    assert on_the_target() != there
    for _ in range(2):
        place.roll_back(run, purge=True)
        assert place.look() == before
        assert on_the_target() == there
    assert place.state(run) == journal.ROLLED_BACK


def test_a_targets_connection_that_names_another_server_by_now_is_refused(
    place: Place, connect: Any, newer_server: DatabaseAddress
) -> None:
    run = place.migrate(*STEPS)
    before, target = place.look(), place.target.database
    place.connect_target = lambda **_: connect("migration_target", newer_server.on(target), airflow_version="2.11.2")
    with pytest.raises(AirflowFailException, match="another server than the one that was migrated to"):
        place.roll_back(run)
    assert place.look() == before


def test_a_target_whose_key_stayed_is_restarted_also_by_a_second_try(place: Place) -> None:
    run = place.migrate(*STEPS)
    with place.source.connect(read_only=False) as conn:
        conn.execute("DELETE FROM airflow_migration.act WHERE act = %s", (journal.SWAP,))
    place.roll_back(run, *UNDO[: UNDO.index("restart_target")])
    assert not place.restarts.exists()
    place.roll_back(run)
    assert place.restarts.read_text() == place.env.read_text()


def test_the_source_stays_at_rest_while_the_target_can_schedule(place: Place) -> None:
    run = place.migrate(*STEPS)
    with pytest.raises(AirflowException, match="pause_target first"):
        place.roll_back(run, "preflight_roll_back", "resume_source")
    place.roll_back(run, "preflight_roll_back", "pause_target")
    with place.target.connect(read_only=False) as conn:
        conn.execute("UPDATE dag SET is_paused = false")
    for step in ("put_back_target_database", "lift_fence", "resume_source"):
        with pytest.raises(AirflowException, match="active"):
            place.roll_back(run, "preflight_roll_back", step)
    assert rows(place.source, "SELECT DISTINCT is_paused FROM dag") == [(True,)]


def test_runs_of_the_target_are_lost_and_counted_also_by_a_second_try(place: Place) -> None:
    before = place.look()
    run = place.migrate(*STEPS)
    with place.target.connect(read_only=False) as conn:
        for name in ("one", "two"):
            make_run(conn, name)
    first = place.roll_back(run, *UNDO[:-1])
    assert first["preflight_roll_back"]["lost_runs"] == 2
    assert first["pause_target"]["lost_runs"] == 2
    second = place.roll_back(run)
    assert second["report_roll_back"]["lost_runs"] == 2
    assert without_backup(place.look()) == before


def test_after_a_roll_back_the_source_can_be_migrated_anew_and_the_old_run_goes_on_nowhere(place: Place) -> None:
    before = place.look()
    first = place.migrate(*STEPS)
    place.roll_back(first)
    for name in ("preflight", "pause_dags", "clone_database", "swap_fernet_key", "fence_source", "point_target"):
        with pytest.raises(AirflowFailException, match=r"rolled back|rolled_back"):
            first.execute(place.tasks["migrate_airflow"][name])
    assert without_backup(place.look()) == before

    second = place.migrate(*STEPS)
    migrated = place.look()
    place.roll_back(first)
    assert place.look() == migrated, "the roll back of the first touched the second"
    place.roll_back(second, purge=True)
    place.roll_back(first, purge=True)
    assert place.look() == before


def test_migrations_are_undone_in_the_reverse_of_their_order(place: Place) -> None:
    first = place.migrate(*STEPS, fence_source=False)
    with place.source.connect(read_only=False) as conn:
        pausing.pause_dags(conn, migration_id="later", target="elsewhere")
    before = place.look()
    with pytest.raises(AirflowFailException, match='migrated again since, by "later"'):
        place.roll_back(first)
    assert place.look() == before


def test_a_target_that_was_itself_migrated_on_is_not_dropped(place: Place) -> None:
    run = place.migrate(*STEPS)
    with place.target.connect(read_only=False) as conn:
        pausing.pause_dags(conn, migration_id="later", target="elsewhere")
    before = place.look()
    with pytest.raises(AirflowFailException, match='migrated again since, by "later"'):
        place.roll_back(run)
    assert place.look() == before


def test_the_targets_connection_given_as_the_source_is_refused(place: Place, monkeypatch: Any) -> None:
    run = place.migrate(*STEPS)
    before = place.look()
    with pytest.raises(AirflowFailException, match="copy"):
        place.roll_back(run, source_conn_id="migration_target")
    assert place.look() == before


def test_a_migrated_database_under_another_name_is_found_and_named(place: Place) -> None:
    run = place.migrate(*STEPS)
    rename_database(place.server, place.target.database, "moved__elsewhere", ignore)
    try:
        with pytest.raises(AirflowFailException, match="moved__elsewhere"):
            place.roll_back(run)
        assert rows(place.source, "SELECT DISTINCT is_paused FROM dag") == [(True,)]
    finally:
        rename_database(place.server, "moved__elsewhere", place.target.database, ignore)


def test_a_migrated_database_that_somebody_has_dropped_keeps_nobody_waiting(place: Place) -> None:
    before = place.look()
    run = place.migrate(*STEPS)
    with place.server.connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(place.target.database)))
    place.roll_back(run, purge=True)
    assert place.look() == before


def test_somebody_elses_database_of_the_targets_name_stays(place: Place, new_database: Any) -> None:
    run = place.migrate(*STEPS)
    with place.server.connect(read_only=False, autocommit=True) as conn:
        name = sql.Identifier(place.target.database)
        conn.execute(sql.SQL("DROP DATABASE {}").format(name))
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    done = place.roll_back(run)
    assert done["put_back_target_database"]["put_back"] is False
    assert done["put_back_target_database"]["warnings"]
    assert digests(place.target) == {}


def test_killed_between_the_two_renames_of_point_target(place: Place) -> None:
    before = place.look()
    run = place.migrate(*STEPS[: STEPS.index("point_target") + 1])
    plan = run.task.xcoms["preflight", "return_value"]["result"]
    rename_database(place.server, place.target.database, plan["working_database"], ignore)
    place.roll_back(run, purge=True)
    assert place.look() == before


def test_killed_behind_shut_doors(place: Place, new_run: Any) -> None:
    before = place.look()
    run = place.migrate("pause_dags")
    with place.source.connect(read_only=False) as conn:
        journal.record_act(conn, run.run_id, journal.BLOCK, {"database": place.source.database})
    block_connections(place.source, place.source.database, ignore)
    with pytest.raises(AirflowFailException, match="was not migration"):
        place.roll_back(new_run(run_id="another"), "allow_connections")
    with pytest.raises(ServerUnreachableError, match="not currently accepting"):
        place.source.connect()
    assert place.roll_back(run)["allow_connections"] is True
    assert place.look() == before


def test_given_up_before_the_clone_and_resumed_already(place: Place) -> None:
    before = place.look()
    run = place.migrate("pause_dags", "allow_connections", "resume_source")
    assert place.state(run) == journal.RESUMED
    place.roll_back(run)
    assert place.look() == before
    assert place.state(run) == journal.ROLLED_BACK


def test_what_somebody_has_changed_in_the_settings_since_is_left_and_named(place: Place) -> None:
    run = place.migrate(*STEPS)
    place.env.write_text(place.env.read_text().replace("A=1", "A=2").replace("FERNET_KEY=", "FERNET_KEY=new"))
    done = place.roll_back(run)
    text = place.env.read_text()
    assert "A=2" in text
    assert "FERNET_KEY=new" in text or "FERNET_KEY='new" in text
    assert "postgresql://x:y@host/elsewhere" in text
    report = json.loads(Path(done["report_roll_back"]["path"]).read_text())
    assert any("FERNET_KEY" in sentence for sentence in report["left_to_do"])


def test_a_step_that_still_works_is_not_disturbed(place: Place) -> None:
    run = place.migrate(*STEPS[: STEPS.index("fence_source")])
    plan = run.task.xcoms["preflight", "return_value"]["result"]
    with place.target.on(plan["working_database"]).connect() as working:
        working.execute("SELECT 1")
        with pytest.raises(AirflowException, match="at this moment"):
            place.roll_back(run)
    place.roll_back(run)
    assert place.state(run) == journal.ROLLED_BACK


def test_unknown_params_are_refused(place: Place, new_run: Any) -> None:
    run = place.migrate("pause_dags")
    with pytest.raises(AirflowFailException, match="purgee"):
        place.roll_back(run, purgee=True)
    with pytest.raises(AirflowFailException, match="no migration_id"):
        place.roll_back(new_run(run_id=" "))


def test_a_whole_migration_to_3_3_2_by_roles_of_their_own_and_by_dump(
    place: Place,
    connect: Any,
    new_role: Any,
    owned: Any,
    fernet_key: Secret,
    runtimes: Any,
) -> None:
    source, target_role = owned(place.source, new_role()), new_role()
    target = owned(place.target, target_role)
    environment = str(runtimes.prepare("3.3.2", ignore))
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())

    def connect_target(**control: Any) -> None:
        connect(
            "migration_target",
            target,
            control={"kind": "env_file", "path": str(place.env)} | control,
            runtime={"kind": "venv", "environments": {"3.3.2": environment}},
        )

    place.connect_target = connect_target
    before = place.look()
    names = list(place.tasks["migrate_airflow"])
    run = place.migrate(*names[1 : names.index("unpause_dags") + 1], transfer="dump")
    assert run.task.xcoms["verify", "return_value"]["result"]["verified"] is True
    with target.connect(read_only=False) as conn:
        conn.execute(
            "INSERT INTO dag_run SELECT (jsonb_populate_record(r, jsonb_build_object("
            " 'id', nextval('dag_run_id_seq'), 'run_id', 'new', 'logical_date', now()))).* FROM dag_run r LIMIT 1"
        )
    done = place.roll_back(run)
    assert without_backup(place.look()) == before
    assert done["report_roll_back"]["lost_runs"] == 1
    assert len(done["drop_created"]["kept"]) == 2
