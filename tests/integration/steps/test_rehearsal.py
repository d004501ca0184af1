"""What a rehearsal makes is dropped, also when it was killed, and nothing else is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import OwnershipError, PreflightError
from airflow_migration.metadata.encryption import read_keys
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.rehearsal import plan_rehearsal
from airflow_migration.planning.rehearsal_options import RehearsalOptions
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from airflow_migration.steps import rehearsal, scratch, upgrade
from airflow_migration.steps.migration import Migration, Workshop

REPOSITORY = Path(__file__).parents[3]
OTHER_KEY = Secret("b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA=")
MOMENTS = ["claimed", "unlabelled", "Copy of the rows", "Indexes and constraints", "restored"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A source and a target's server of one ordinary role, and where the reports are."""

    source: Deployment
    target: Deployment
    root: Path

    def plan(self, rehearsal_id: str = "run 1", **options: Any) -> Plan:
        return plan_rehearsal(
            options=RehearsalOptions(**options),
            rehearsal_id=rehearsal_id,
            control_run=None,
            source=self.source,
            target=self.target,
            scratch=self.target.address,
            bin_path=None,
            listener=lambda _: None,
        )

    def migration(self, plan: Plan) -> Migration:
        return Migration(
            plan=Plan.from_json(json.loads(json.dumps(plan.to_json()))),
            source=self.source,
            target=self.target,
            scratch=self.target.address,
            workshop=Workshop(runtimes_path=self.root, dumps_path=self.root, reports_path=str(self.root)),
        )

    def on_source(self, statement: str) -> None:
        with self.source.address.connect(read_only=False) as conn:
            conn.execute(statement)

    def databases(self) -> set[str]:
        with self.target.address.maintenance().connect() as conn:
            return {str(name) for (name,) in conn.execute("SELECT datname FROM pg_database")}

    def sweep(self, own: str = "the next run") -> scratch.DropResult:
        return scratch.sweep(self.root, own, lambda _: self.target.address, lambda _: None)


@pytest.fixture
def stage(
    corpus: Callable[[str], DatabaseAddress],
    new_role: Callable[..., DatabaseAddress],
    owned: Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress],
    deployment: Callable[..., Deployment],
    fernet_key: Secret,
    tmp_path: Path,
) -> Stage:
    role = new_role()
    source = owned(corpus("2.10.5"), role)
    root = tmp_path / "rehearsals"
    return Stage(
        source=deployment(source, fernet_keys=fernet_key),
        target=deployment(role.on(source.database + " target"), fernet_keys=OTHER_KEY),
        root=root,
    )


def fields_of(address: DatabaseAddress) -> dict[str, Any]:
    names = ("host", "port", "user", "database")
    return {name: getattr(address, name) for name in names} | {"password": address.password.reveal()}


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_a_killed_rehearsal_has_left_is_dropped_by_the_next(stage: Stage, moment: str) -> None:
    before, plan, folder = stage.databases(), stage.plan(), stage.root / "run_1"
    told = {
        "moment": moment,
        "folder": str(folder),
        "plan": plan.to_json(),
        "source": fields_of(stage.source.address),
        "target": fields_of(stage.target.address),
    }
    killed = subprocess.run(
        [sys.executable, Path(__file__).with_name("rehearse_and_die.py")],
        input=json.dumps(told),
        env={"PYTHONPATH": str(REPOSITORY / "include"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    made = {plan.frozen_database, plan.working_database} & stage.databases()
    assert len(made) == {"claimed": 0, "restored": 2}.get(moment, 1)
    result = stage.sweep()
    assert set(result.dropped) == made
    assert stage.databases() == before
    assert not list(stage.root.rglob(scratch.FILE))
    assert stage.sweep() == scratch.DropResult(dropped=())


def test_a_database_of_that_name_that_is_somebody_elses_is_left(stage: Stage) -> None:
    plan, folder = stage.plan(), stage.root / "run_1"
    record = rehearsal.claim_scratch(plan, stage.target.address, folder)
    name = sql.Identifier(plan.working_database)
    with stage.target.address.maintenance().connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(name))
        conn.execute(sql.SQL("COMMENT ON DATABASE {} IS 'my own'").format(name))
    with pytest.raises(OwnershipError):
        scratch.drop_recorded(folder, stage.target.address, lambda _: None)
    (warning,) = stage.sweep().warnings
    assert plan.working_database in warning
    assert plan.working_database in stage.databases()
    assert scratch.read_record(folder) == record


def test_a_database_of_that_name_without_a_label_that_was_there_before_is_left(stage: Stage) -> None:
    plan, folder = stage.plan(), stage.root / "run_1"
    with stage.target.address.maintenance().connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(plan.frozen_database)))
    with pytest.raises(OwnershipError):
        rehearsal.copy_source(stage.migration(plan), folder, lambda _: None)
    assert stage.sweep() == scratch.DropResult(dropped=())
    assert plan.frozen_database in stage.databases()


def test_what_may_not_be_dropped_is_named_and_ends_no_later_rehearsal(
    stage: Stage, postgres_server: DatabaseAddress
) -> None:
    plan, folder = stage.plan(), stage.root / "run_1"
    record = rehearsal.claim_scratch(plan, stage.target.address, folder)
    (stage.root / "notes of a person").write_text("")
    name = sql.Identifier(plan.working_database)
    with postgres_server.connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(name))
        conn.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(plan.label)))
    (warning,) = stage.sweep().warnings
    assert "must be owner" in warning
    assert scratch.read_record(folder) == record


def test_a_claim_is_not_written_again(stage: Stage) -> None:
    plan, folder = stage.plan(), stage.root / "run_1"
    rehearsal.claim_scratch(plan, stage.target.address, folder)
    written = (folder / scratch.FILE).stat().st_mtime_ns
    rehearsal.claim_scratch(plan, stage.target.address, folder)
    assert (folder / scratch.FILE).stat().st_mtime_ns == written


def test_a_connection_that_leads_elsewhere_now_drops_nothing(stage: Stage) -> None:
    plan, folder = stage.plan(), stage.root / "run_1"
    rehearsal.claim_scratch(plan, stage.target.address, folder)
    with pytest.raises(OwnershipError, match=r"another\.example\.org"):
        scratch.drop_recorded(folder, replace(stage.target.address, host="another.example.org"), lambda _: None)


def test_a_record_that_was_cut_by_a_kill_claims_nothing(stage: Stage) -> None:
    folder = stage.root / "run_1"
    folder.mkdir(parents=True)
    (folder / scratch.FILE).write_text('{"rehearsal_id": "run 1", "databa')
    assert stage.sweep() == scratch.DropResult(dropped=())


def test_another_try_copies_the_source_anew(stage: Stage) -> None:
    plan, folder = stage.plan(history_days=0), stage.root / "run_1"
    migration = stage.migration(plan)
    rehearsal.copy_source(migration, folder, lambda _: None)
    stage.on_source("UPDATE dag SET description = 'changed since'")
    rehearsal.copy_source(migration, folder, lambda _: None)
    made = rehearsal.make_working_database(migration, lambda _: None)
    assert made.history is not None
    with migration.frozen.connect() as frozen, migration.working.connect() as working:
        for conn in (frozen, working):
            assert conn.execute("SELECT DISTINCT description FROM dag").fetchall() == [("changed since",)]
        assert frozen.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        runs = [conn.execute("SELECT count(*) FROM dag_run").fetchone() for conn in (frozen, working)]
        assert [*runs] != [(0,), (0,)]
    scratch.drop_recorded(folder, stage.target.address, lambda _: None)
    assert not {plan.frozen_database, plan.working_database} & stage.databases()


def test_values_are_rewritten_in_the_working_database_alone(stage: Stage, fernet_key: Secret) -> None:
    plan, folder = stage.plan(fernet="reencrypt"), stage.root / "run_1"
    migration = stage.migration(plan)
    rehearsal.copy_source(migration, folder, lambda _: None)
    rehearsal.make_working_database(migration, lambda _: None)
    result = upgrade.swap_fernet_key(migration, lambda _: None)
    assert sum(column.rewritten for column in result.columns) > 0
    query = "SELECT password FROM connection WHERE is_encrypted AND password IS NOT NULL ORDER BY conn_id LIMIT 1"
    values = {}
    for name, address in (("frozen", migration.frozen), ("working", migration.working)):
        with address.connect() as conn:
            ((value,),) = conn.execute(query).fetchall()
        values[name] = str(value).encode()
    assert read_keys(fernet_key).decrypt(values["frozen"]) == read_keys(OTHER_KEY).decrypt(values["working"])
    assert migration.keys_in_use == OTHER_KEY
    scratch.drop_recorded(folder, stage.target.address, lambda _: None)


def test_rows_that_would_stop_the_upgrade_end_the_rehearsal_with_all_findings(stage: Stage) -> None:
    stage.on_source("UPDATE connection SET conn_id = 'so? not!' WHERE id = (SELECT min(id) FROM connection)")
    with pytest.raises(PreflightError) as raised:
        stage.plan(repairs=())
    severities = [finding["severity"] for finding in raised.value.findings]
    assert "blocker" in severities
    assert "info" in severities


def test_a_table_that_may_not_be_read_is_named_and_needs_no_param_that_a_rehearsal_has_not(stage: Stage) -> None:
    stage.on_source("REVOKE SELECT ON slot_pool FROM CURRENT_USER")
    with pytest.raises(PreflightError, match="slot_pool") as raised:
        stage.plan()
    assert "backup" not in raised.value.remedy


def test_a_target_database_in_use_is_found_and_does_not_end_the_rehearsal(stage: Stage) -> None:
    with stage.target.address.maintenance().connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(stage.target.address.database)))
    with stage.target.address.connect(read_only=False) as conn:
        conn.execute("CREATE TABLE precious ()")
    plan = stage.plan()
    assert [finding.check for finding in plan.findings if finding.severity == "blocker"] == ["target_database"]
    assert plan.frozen_database.startswith(stage.target.address.database[:10])
    assert stage.target.address.database not in (plan.frozen_database, plan.working_database)


def test_a_server_on_which_no_database_may_be_made_ends_it(
    stage: Stage, new_role: Callable[..., DatabaseAddress]
) -> None:
    powerless = new_role("NOCREATEDB").on(stage.target.address.database)
    with pytest.raises(PreflightError, match="may not create databases"):
        plan_rehearsal(
            options=RehearsalOptions(scratch_conn_id="elsewhere"),
            rehearsal_id="run 1",
            control_run=None,
            source=stage.source,
            target=stage.target,
            scratch=powerless,
            bin_path=None,
            listener=lambda _: None,
        )
