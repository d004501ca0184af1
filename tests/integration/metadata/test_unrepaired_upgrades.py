"""Without its repair the real upgrade stops at each fault, or takes rows away; with all of them it passes.

The real releases' own migrations run, up to the one that meets the fault: many in one process, each in a fork of it.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from cryptography.fernet import Fernet
from psycopg import sql
from tests.integration.metadata.test_checks import CASES as FAULTS
from tests.integration.metadata.test_checks import look, spoil
from tests.integration.metadata.test_foreseen_failures import CASES as FORESEEN

from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import read_head, release
from airflow_migration.metadata.repairs import repair
from airflow_migration.metadata.repairs.registry import QUARANTINE, SAFE_REPAIRS
from airflow_migration.metadata.repairs.undecryptable import quarantine
from airflow_migration.planning.repairs import hold_to
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.command import airflow_environment
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret

Corpus = Callable[[str], DatabaseAddress]
RunIn = Callable[[str, str, object], list[str]]
Migrate = Callable[[str, list[tuple[DatabaseAddress, str]]], list[str]]
FAB = "02ca36b0235b"

# FAB's own migrations have a head of their own, and run after Airflow's.
MIGRATE = """
import json, os, sys
from inspect import signature
from airflow import settings
from airflow.utils import db

def migrate(until):
    if until == FAB:
        from airflow.providers.fab.auth_manager.models.db import FABDBManager
        FABDBManager(settings.Session()).upgradedb()
        return
    known = signature(db.upgradedb).parameters
    db.upgradedb(to_revision=until, **({"reserialize_dags": False} if "reserialize_dags" in known else {}))

db.import_all_models()
for database, until in json.load(sys.stdin):
    child = os.fork()
    if not child:
        os.environ["PGDATABASE"] = database
        try:
            migrate(until)
        except BaseException as err:
            sys.stderr.write(f"{database}: {err!r}" + chr(10))
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.waitpid(child, 0)
""".replace("FAB:", f"{FAB!r}:")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault, and the migration that meets it.

    :param source: release whose database is made bad
    :param until: revision of that migration, the last that is run
    :param statement: what makes it bad; that of test_checks where it is empty
    :param loses: table from which the upgrade takes rows away and goes on; empty where it stops
    """

    check: str
    source: str
    target: str
    until: str
    statement: str = ""
    loses: str = ""

    def __str__(self) -> str:
        return f"{self.check}-{self.source}"

    @property
    def way(self) -> tuple[str, str]:
        return self.source, self.target

    @property
    def spoils(self) -> str:
        found = [each.statement for each in FAULTS if (each.check, each.source) == (self.check, self.source)]
        return self.statement or found[0]


FAB_IDS, TASK_UUID, ASSET_NAMES = "b0d31815b5a6", "d59cbbef95eb", "05234396c6fc"
PICKLE = r"UPDATE xcom SET value = '\x80024b012e' WHERE ctid = (SELECT ctid FROM xcom LIMIT 1)"
HALF_A_PAIR = pickle.dumps({"a": "\ud800"})
NOBODY = "'hourly', 'nobody', '2019-01-01'"
ORPHAN = """INSERT INTO task_instance (dag_id, task_id, execution_date, pool, pool_slots)
    VALUES ('hourly', '{}', '2019-01-01', 'default_pool', 1)"""
HANGING = f"""
    UPDATE dag_run SET run_id = NULL WHERE id = (SELECT min(id) FROM dag_run);
    INSERT INTO dag_run (dag_id, execution_date, run_id, run_type) VALUES ('x', NULL, 'b', 'manual');
    {ORPHAN.format("orphan")};
    SET session_replication_role = replica;
    INSERT INTO task_reschedule (dag_id, task_id, execution_date, try_number, start_date, end_date, duration,
        reschedule_date) VALUES ({NOBODY}, 1, now(), now(), 1, now());
    SET session_replication_role = origin;
    INSERT INTO rendered_task_instance_fields VALUES ({NOBODY}, '{{}}');
    INSERT INTO task_fail (dag_id, task_id, execution_date) VALUES ({NOBODY});
    INSERT INTO xcom (key, value, timestamp, dag_id, task_id, execution_date) VALUES ('k', '1', now(), {NOBODY})"""


def hanging(check: str, table: str) -> Case:
    """Rows that 2.11.2 moves away at its start, all in one database."""
    return Case(
        check=check, source="2.0.2", target="2.11.2", until="c306b5b5ae4a", statement=HANGING, loses=table
    )  # fmt: skip


def to_3(check: str, until: str, **fields: str) -> Case:
    return Case(**({"check": check, "source": "2.10.5", "target": "3.3.2", "until": until} | fields))


CASES = (
    Case(check="connection_type", source="1.10.15", target="2.11.2", until="8f966b9c467a"),
    Case(check="connection_id", source="1.10.15", target="2.11.2", until="8d48763f6d53"),
    Case(check="xcom_without_key", source="1.10.15", target="2.11.2", until="bbf4a7ad0465"),
    Case(check="xcom_duplicate", source="1.10.15", target="2.11.2", until="bbf4a7ad0465"),
    Case(check="sequence_behind", source="1.10.15", target="2.11.2", until=FAB_IDS,
        statement="SELECT setval('ab_view_menu_id_seq', 1), setval('ab_permission_id_seq', 1)"),
    Case(check="fab_id_default", source="1.10.15", target="2.11.2", until=FAB_IDS),
    hanging("run_without_run_id", "dag_run"),
    hanging("run_without_key", "dag_run"),
    hanging("task_instance_without_run", "task_instance"),
    *(hanging(f"{table}_without_task_instance", table) for table in (
        "task_reschedule", "rendered_task_instance_fields", "task_fail", "xcom")),
    Case(check="left_over_table", source="2.0.2", target="2.11.2", until="7b2661a43ba3", statement=f"""
        {ORPHAN.format("another")}; CREATE TABLE _airflow_moved__2_2__dangling__task_instance (x int)"""),
    Case(check="task_instance_without_run", source="2.2.5", target="2.11.2", until="686269002441"),
    Case(check="username_case", source="2.2.5", target="2.11.2", until="e07f49787c9d"),
    to_3("left_over_table", "eed27faa34e3"),
    to_3("xcom_not_json", "eed27faa34e3"),
    to_3("xcom_pickled", "eed27faa34e3", loses="xcom", statement=PICKLE),
    to_3("conf_not_json", "e39a26ac59f6", statement=f"""
        UPDATE dag_run SET conf = '\\x{HALF_A_PAIR.hex()}' WHERE id = (SELECT min(id) FROM dag_run)"""),
    to_3("dataset_uri_too_long", "0d9e73a75ee4"),
    to_3("dataset_alias_too_long", "fb2d4922cd79"),
    to_3("dropped_table", "5f57a45b8433", loses="task_fail", statement="""
        INSERT INTO task_fail (dag_id, task_id, run_id, map_index) SELECT dag_id, task_id, run_id, map_index
          FROM task_instance"""),
    *(to_3(f"{table}_without_task_instance", TASK_UUID) for table in (
        "xcom", "task_map", "task_fail", "rendered_task_instance_fields", "task_instance_note",
        "task_instance_history", "task_reschedule")),
    *(to_3(f"{table}_dangling", ASSET_NAMES) for table in (
        "dag_schedule_dataset_reference", "dag_schedule_dataset_alias_reference", "task_outlet_dataset_reference",
        "dataset_dag_run_queue", "dataset_alias_dataset", "dataset_alias_dataset_event", "dagrun_dataset_event")),
    to_3("registration_duplicate", FAB),
    to_3("permission_incomplete", FAB),
    to_3("ab_user_role_dangling", FAB),
    to_3("ab_permission_view_role_dangling", FAB),
    to_3("serialized_dag_nul", "ab6dc0c82d0e", source="3.1.8", statement=r"""
        UPDATE serialized_dag SET data = '{"a": "\u0000"}'
         WHERE id = (SELECT id FROM serialized_dag ORDER BY id LIMIT 1)"""),
)  # fmt: skip


# How far a database with all faults of its release goes when it is repaired; test_repairs takes that of 1.10.15 on.
REPAIRED = {
    ("1.10.15", "2.11.2"): (FAB_IDS,),
    ("2.0.2", "2.11.2"): ("c306b5b5ae4a",),
    ("2.2.5", "2.11.2"): ("686269002441",),
    ("2.10.5", "3.3.2"): (release("3.3.2").head, FAB),
    ("3.1.8", "3.3.2"): (release("3.3.2").head,),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What preflight has said of a fault, and what the upgrade has made of it.

    :param reached: whether it passed the migration in question
    :param lost: rows that are no more in the table that loses some
    :param said: the error
    """

    found: tuple[Finding, ...]
    reached: bool
    lost: int
    said: str


def mend(address: DatabaseAddress, target: str) -> None:
    with address.connect(read_only=False) as session:
        head = read_head(session)
        repair(session, head=head, target_head=release(target).head, migration_id="m", listener=lambda _: None)


def count(address: DatabaseAddress, table: str) -> int:
    """Rows of a table; none where it is gone."""
    with address.connect() as session:
        if session.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
            return 0
        row = session.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return int(str(row[0]))


def is_at(address: DatabaseAddress, revision: str) -> bool:
    with address.connect() as session:
        if revision != FAB:
            return read_head(session) == revision
        return session.execute("SELECT version_num FROM alembic_version_fab").fetchone() == (FAB,)


@pytest.fixture(scope="module")
def sound(corpus: Corpus) -> Mapping[tuple[str, str], DatabaseAddress]:
    """Databases of each release without a fault."""
    databases = {}
    for source, target in REPAIRED:
        databases[source, target] = corpus(source)
        mend(databases[source, target], target)
    return databases


@pytest.fixture(scope="module")
def run_in(
    postgres_server: DatabaseAddress,
    runtimes: VenvRuntime,
    fernet_key: Secret,
    tmp_path_factory: pytest.TempPathFactory,
) -> RunIn:
    """Runs a script in a release's Python, with its input as JSON; gives the lines of its standard error."""

    def run(target: str, script: str, work: object) -> list[str]:
        home = tmp_path_factory.mktemp("home")
        settings = airflow_environment(release(target), home, postgres_server, fernet_key, {})
        done = subprocess.run(
            [str(runtimes.prepare(target, lambda _: None) / "bin" / "python"), "-c", script],
            env={"PATH": os.environ["PATH"]} | settings,
            input=json.dumps(work),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stderr.splitlines()

    return run


@pytest.fixture(scope="module")
def migrate(run_in: RunIn) -> Migrate:
    """Runs a release's migrations on databases, each to a revision; gives the errors, which begin with the name."""
    return lambda target, work: run_in(target, MIGRATE, [(address.database, until) for address, until in work])


@pytest.fixture(scope="module")
def outcomes(
    sound: Mapping[tuple[str, str], DatabaseAddress],
    new_database: Callable[..., DatabaseAddress],
    migrate: Migrate,
) -> Mapping[Case, Outcome]:
    """Every case without its repair."""
    databases: dict[tuple[object, ...], DatabaseAddress] = {}
    bad: dict[Case, DatabaseAddress] = {}
    found: dict[Case, tuple[Finding, ...]] = {}
    before: dict[Case, int] = {}
    said: list[str] = []
    for case in CASES:
        key = case.way, case.until, case.spoils
        if key not in databases:
            databases[key] = new_database(template=sound[case.way].database)
            spoil(databases[key], case.spoils)
        bad[case] = databases[key]
        found[case] = tuple(each for each in look(bad[case], case.target).values() if each.repair == case.check)
        before[case] = count(bad[case], case.loses) if case.loses else 0
    for target in dict.fromkeys(target for _, target in REPAIRED):
        work = {bad[case].database: (bad[case], case.until) for case in CASES if case.target == target}
        said += migrate(target, [*work.values()])
    return {
        case: Outcome(
            found=found[case],
            reached=is_at(bad[case], case.until),
            lost=before[case] - count(bad[case], case.loses) if case.loses else 0,
            said=" ".join(line for line in said if line.startswith(f"{bad[case].database}: ")),
        )
        for case in CASES
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_its_repair_the_upgrade_stops_or_loses(outcomes: Mapping[Case, Outcome], case: Case) -> None:
    outcome = outcomes[case]
    assert sum(finding.count for finding in outcome.found) > 0
    assert hold_to(outcome.found, [case.check]) == list(outcome.found)
    for held in hold_to(outcome.found, SAFE_REPAIRS - {case.check}):
        assert held.severity == "blocker"
        assert case.check in held.remedy
    assert outcome.reached == bool(case.loses), outcome.said
    if case.loses:
        assert outcome.lost > 0
    else:
        assert outcome.said


@pytest.mark.parametrize("way", REPAIRED, ids=" to ".join)
def test_with_all_repairs_the_upgrade_passes(
    sound: Mapping[tuple[str, str], DatabaseAddress],
    new_database: Callable[..., DatabaseAddress],
    migrate: Migrate,
    way: tuple[str, str],
) -> None:
    address = new_database(template=sound[way].database)
    for statement in dict.fromkeys(case.spoils for case in CASES if case.way == way):
        spoil(address, statement)
    mend(address, way[1])
    said = migrate(way[1], [(address, until) for until in REPAIRED[way]])
    assert all(is_at(address, until) for until in REPAIRED[way]), said
    with address.connect() as session:
        moved = session.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND left(tablename, 14) = '_airflow_moved'"
        ).fetchall()
    assert moved == [("_airflow_moved__2_3__dangling__xcom",)] * (way[0] == "2.10.5"), "made by the case itself"


# Both as 2.11.2 does it: what the triggerer makes of a trigger, and `airflow rotate-fernet-key`.
READ_ALL = """
import json, os, sys
from argparse import Namespace
from airflow.cli.commands.rotate_fernet_key_command import rotate_fernet_key
from airflow.models import Trigger
from airflow.settings import Session

def attempt(call):
    try:
        return call()
    except Exception as err:
        return type(err).__name__

for database in json.load(sys.stdin):
    child = os.fork()
    if not child:
        os.environ["PGDATABASE"] = database
        arguments = attempt(lambda: Session().query(Trigger).one().kwargs)
        Session.remove()
        rotated = attempt(lambda: rotate_fernet_key.__wrapped__.__wrapped__(Namespace()))
        print(json.dumps({database: [arguments, rotated]}), file=sys.stderr, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_a_value_that_no_key_reads_stops_the_rotation_of_keys_and_the_triggerer_unless_it_is_cleared(
    corpus: Corpus, new_database: Callable[..., DatabaseAddress], run_in: RunIn, fernet_key: Secret
) -> None:
    bad = corpus("2.10.5")
    lost = Fernet(Fernet.generate_key()).encrypt(b'{"__type": "dict", "__var": {"n": 1}}').decode()
    spoil(bad, f"INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('a.B', '{lost}', now())")
    good = new_database(template=bad.database)
    with good.connect(read_only=False) as session:
        (cleared,) = quarantine(
            session, keys=fernet_key, target_keys=fernet_key, migration_id="m", listener=lambda _: None
        )
    assert (cleared.id, cleared.count) == (QUARANTINE, 1)
    answers: dict[str, list[object]] = {}
    for line in run_in("2.11.2", READ_ALL, [bad.database, good.database]):
        if line.startswith("{"):
            answers |= json.loads(line)
    assert answers == {bad.database: ["InvalidToken", "InvalidToken"], good.database: [{}, None]}


def test_every_safe_repair_is_shown() -> None:
    assert {case.check for case in CASES} | {case.check for case in FORESEEN} >= SAFE_REPAIRS
