"""A target that a person looks after: a real Airflow waits for that person at each act, and believes the answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.polling import until

from airflow_migration.operators.by_hand import DONE, STOP
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from demo.control import ControlAirflow
from demo.stage import Stage

MIGRATE, ROLL_BACK = "/dags/migrate_airflow", "/dags/roll_back_migration"
RUN = "by_hand"
DEADLINE = 400.0
WAITING = ("awaiting_input", "deferred")

pytestmark = pytest.mark.timeout(1500)


def connection(conn_id: str, address: DatabaseAddress, **extra: Any) -> dict[str, Any]:
    return {
        "connection_id": conn_id,
        "conn_type": "airflow_deployment",
        "host": address.host,
        "port": address.port,
        "login": address.user,
        "password": address.password.reveal(),
        "schema": address.database,
        "extra": json.dumps(extra),
    }


def get(api: httpx.Client, path: str) -> Any:
    answer = api.get(path)
    answer.raise_for_status()
    return answer.json()


def reached(*wanted: str, never: tuple[str, ...]) -> Callable[[object], bool]:
    """Whether a state is wanted; fails at one after which no other comes."""

    def judge(state: object) -> bool:
        assert state in wanted or state not in never, state
        return state in wanted

    return judge


@dataclass
class Person:
    """Somebody who reads what the run asks for, and answers."""

    api: httpx.Client
    log: Path
    dag: str = MIGRATE
    asked_before: Counter[str] = field(default_factory=Counter)

    @property
    def run(self) -> str:
        return f"{self.dag}/dagRuns/{RUN}"

    @property
    def tasks(self) -> str:
        return f"{self.run}/taskInstances"

    def triggers(self, **conf: Any) -> None:
        conf |= {"source_conn_id": "by_hand_source", "target_conn_id": "by_hand_target"}
        run = {"dag_run_id": RUN, "logical_date": None, "conf": conf}
        self.api.post(f"{self.dag}/dagRuns", json=run).raise_for_status()

    def state(self, task_id: str) -> str | None:
        state: str | None = get(self.api, f"{self.tasks}/{task_id}")["state"]
        return state

    def ends(self, state: str, never: str) -> None:
        until(lambda: get(self.api, self.run)["state"], reached(state, never=(never,)), seconds=DEADLINE, pause=1)

    def left(self, task_id: str) -> Any:
        """The XCom of a task."""
        return get(self.api, f"{self.tasks}/{task_id}/xcomEntries/return_value?deserialize=true")["value"]

    def result(self, task_id: str) -> Any:
        return self.left(task_id)["result"]

    def asked(self, task_id: str) -> str:
        """Wait until a task asks; what it asks for."""
        over = ("success", "failed", "skipped", "upstream_failed")
        until(lambda: self.state(task_id), reached(*WAITING, never=over), seconds=DEADLINE, pause=1)
        # An answer before 3.3.2's scheduler has noticed the wait fails the try: "finished with state success, but
        # the task instance's state attribute is queued". Nobody reads as fast as that.
        self.asked_before[task_id] += 1
        place = f"dag_id={self.dag.rpartition('/')[2]}, task_id={task_id}, run_id={RUN}"
        noticed = re.compile(f"TaskInstance Finished: {place}, .* state=({'|'.join(WAITING)})")
        until(
            lambda: len(noticed.findall(self.log.read_text(errors="replace"))),
            lambda times: times >= self.asked_before[task_id],
            seconds=DEADLINE,
            pause=1,
        )
        detail = get(self.api, f"{self.tasks}/{task_id}/-1/hitlDetails")
        assert not detail["response_received"]
        return str(detail["body"])

    def answers(self, task_id: str, option: str) -> None:
        path = f"{self.tasks}/{task_id}/-1/hitlDetails"
        self.api.patch(path, json={"chosen_options": [option], "params_input": {}}).raise_for_status()


def test_the_run_waits_for_a_person_at_each_act_and_so_does_its_roll_back(
    stage: Stage, corpus: Callable[[str], DatabaseAddress], fernet_key: Secret, warm_runtimes: Any
) -> None:
    control = stage.control
    source = corpus("2.10.5")
    final = source.on("kept by hand")
    with source.connect(read_only=False) as session:
        session.execute("UPDATE dag SET is_paused = false")
    before = active_dags(source)
    assert before
    environment = str(warm_runtimes.prepare("2.11.2", lambda line: None))
    runtime = {"kind": "venv", "environments": {"2.11.2": environment}}
    with control.client() as api:
        for described in (
            connection("by_hand_source", source, secret_fernet_key=fernet_key.reveal()),
            connection("by_hand_target", final, airflow_version="2.11.2", runtime=runtime),
        ):
            api.post("/connections", json=described).raise_for_status()
        migrate_by_hand(Person(api, control.log), final)
        check_report(control, Person(api, control.log), fernet_key)
        with source.connect() as session:
            assert session.execute("SELECT count(*) FROM dag WHERE NOT is_paused").fetchone() == (0,)
        roll_back_by_hand(Person(api, control.log, ROLL_BACK))
    assert active_dags(source) == before
    with source.connect() as session:
        gone = session.execute("SELECT count(*) FROM pg_database WHERE datname = %s", (final.database,)).fetchone()
        assert gone == (0,)


def active_dags(source: DatabaseAddress) -> list[Any]:
    with source.connect() as session:
        return session.execute("SELECT dag_id FROM dag WHERE NOT is_paused ORDER BY 1").fetchall()


def migrate_by_hand(person: Person, final: DatabaseAddress) -> None:
    person.triggers(backup=False)
    assert "waits for a person" in person.asked("approve_plan")
    person.answers("approve_plan", "Approve")
    assert "FERNET_KEY" in person.asked("swap_fernet_key")
    assert person.state("verify") is None
    person.answers("swap_fernet_key", DONE)
    assert final.database in person.asked("point_target")
    with final.connect() as session:
        assert session.execute("SELECT count(*) > 0 FROM connection").fetchone() == (True,)
    assert person.state("restart_target") is None
    person.answers("point_target", DONE)
    assert "Restart" in person.asked("restart_target")
    person.answers("restart_target", STOP)
    person.ends("failed", never="success")
    assert get(person.api, f"{person.tasks}/restart_target")["try_number"] == 1
    assert person.state("unpause_dags") == "upstream_failed"
    assert person.left("report")["status"] == "failed"

    again = {"dag_run_id": RUN, "task_ids": ["restart_target"], "include_downstream": True, "dry_run": False}
    person.api.post(f"{MIGRATE}/clearTaskInstances", json=again | {"only_failed": False}).raise_for_status()
    assert "Restart" in person.asked("restart_target")
    person.answers("restart_target", DONE)
    person.ends("success", never="failed")


def check_report(control: ControlAirflow, person: Person, fernet_key: Secret) -> None:
    for task_id in ("swap_fernet_key", "point_target", "restart_target"):
        result = person.result(task_id)
        told = result.get("control", result)
        assert told["confirmed_by"] == control.login()[0]
        assert told["done_by_hand"]
    report = json.loads((control.home / "migration-reports" / RUN / "report.json").read_text())
    assert (report["status"], report["verified"]) == ("success", True)
    assert not [sentence for sentence in report["left_to_do"] if "DAG processor" not in sentence]
    assert fernet_key.reveal() not in json.dumps(report)


def roll_back_by_hand(person: Person) -> None:
    person.triggers(migration_id=RUN)
    assert "lost" in person.asked("approve_roll_back")
    assert person.state("pause_target") is None
    person.answers("approve_roll_back", "Approve")
    assert "fernet key" in person.asked("restore_target_settings")
    assert person.state("lift_fence") is None
    person.answers("restore_target_settings", DONE)
    assert "Restart" in person.asked("restart_target")
    person.answers("restart_target", DONE)
    person.ends("success", never="failed")
    assert person.result("restart_target")["done_by_hand"]
