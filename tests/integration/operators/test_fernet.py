"""Whatever becomes of the fernet keys: the target reads everything, and the source is as it was."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from cryptography.fernet import Fernet
from psycopg import sql

from airflow_migration.deployments.airflow_cfg import AirflowCfg
from airflow_migration.metadata.encryption import decrypt_one, read_keys, read_values, survey
from airflow_migration.metadata.repairs.registry import QUARANTINE
from airflow_migration.operators.by_hand import DONE, STOP
from airflow_migration.planning.samples import rows_in
from airflow_migration.planning.verification import verify
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

DAG_FILE = Path(__file__).parents[3] / "dags" / "migrate_airflow.py"
NEW_KEY, OLDER_KEY = (Fernet.generate_key().decode() for _ in range(2))
TARGET_KEYS = Secret(f"{NEW_KEY},{OLDER_KEY}")

RUN_ID = "manual__operators"

Corpus = Callable[[str], DatabaseAddress]


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    """The DAG's tasks in their order."""
    spec = importlib.util.spec_from_file_location("migrate_airflow_dag_of_keys", DAG_FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {task.task_id: task for task in [*module.runbook, module.migration_complete]}


def go(run: Any, tasks: list[Any]) -> dict[str, Any]:
    """Run tasks one after the other; skipped ones are left out of the results."""
    results: dict[str, Any] = {}
    for task in tasks:
        try:
            results[task.task_id] = json.loads(json.dumps(run.execute(task)["result"]))
        except AirflowSkipException:
            continue
    return results


def rows_of(address: DatabaseAddress) -> list[tuple[object, ...]]:
    """What is or may be encrypted, as it is stored."""
    with address.connect() as session:
        return [
            *session.execute(
                "SELECT id, password, is_encrypted, extra, is_extra_encrypted FROM connection ORDER BY id"
            ),
            *session.execute("SELECT id, val, is_encrypted FROM variable ORDER BY id"),
        ]


def plain_passwords(address: DatabaseAddress, keys: Secret) -> dict[str, str]:
    with address.connect() as session:
        return {
            value.name: value.value.reveal()
            for value in read_values(session, keys)
            if (value.table, value.column, value.condition) == ("connection", "password", "readable")
        }


def write_cfg(path: Path, keys: str) -> str:
    text = (
        "# the new Airflow\n[core]\nexecutor = LocalExecutor\n"
        f"fernet_key = {keys}\n\n[database]\nsql_alchemy_conn = postgresql://u:p%%40w@h/somewhere?sslmode=require\n"
        "[scheduler]\ncreate_cron_data_intervals = True\ncreate_delta_data_intervals = True\n"
    )
    path.write_text(text)
    return text


def test_reencrypt_over_two_hops(
    new_run: Any, connect: Any, tasks: dict[str, Any], corpus: Corpus, fernet_key: Secret, runtimes: Any, tmp_path: Path
) -> None:
    source = corpus("2.2.5")
    with source.connect(read_only=False) as session:
        session.execute("INSERT INTO variable (key, val, is_encrypted) VALUES ('stays plain', 'plain', false)")
        kwargs = {"__type": "dict", "__var": {"n": 1}}  # as 2.2 writes it
        session.execute(
            "INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('a.b.C', %s, now())", (json.dumps(kwargs),)
        )
    stored, passwords = rows_of(source), plain_passwords(source, fernet_key)
    cfg = tmp_path / "airflow.cfg"
    text = write_cfg(cfg, TARGET_KEYS.reveal())
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    environments = {release: str(runtimes.prepare(release, lambda line: None)) for release in ("2.11.2", "3.3.2")}
    final = source.on(f"re-encrypted {tmp_path.name}")
    connect(
        "migration_target",
        final,
        airflow_version="3.3.2",
        control={"kind": "airflow_cfg", "path": str(cfg)},
        runtime={"kind": "venv", "environments": environments},
    )
    run, names = new_run(fernet="reencrypt", fence_source=False), list(tasks)
    done = go(run, [tasks[name] for name in names[: names.index("swap_fernet_key") + 1]])
    plan, result = done["preflight"], done["swap_fernet_key"]
    assert result["control"] is None
    assert sum(column["rewritten"] for column in result["columns"]) > len(passwords) > 2
    again = run.execute(tasks["swap_fernet_key"])["result"]
    assert {column["left"] for column in again["columns"]} == {column["rewritten"] for column in result["columns"]}
    assert not any(column["rewritten"] for column in again["columns"])
    assert cfg.read_text() == text

    done |= go(run, [tasks[name] for name in names[names.index("swap_fernet_key") + 1 :]])
    assert done["verify"]["verified"] is True
    encrypted = done["verify"]["encrypted"]
    assert encrypted["encrypted"] == encrypted["readable"] > 0
    with final.connect() as session:
        assert survey(session, Secret(NEW_KEY)).verdict == "readable"
        assert survey(session, fernet_key).verdict == "wrong key"
        assert session.execute("SELECT val, is_encrypted FROM variable WHERE key = 'stays plain'").fetchone() == (
            "plain",
            False,
        )
        # Encrypted by `db migrate` itself, with the key that it was given.
        ((token,),) = session.execute("SELECT kwargs FROM trigger").fetchall()
        assert json.loads(Fernet(NEW_KEY.encode()).decrypt(str(token).encode()))["__var"]["n"] == 1
    assert plain_passwords(final, TARGET_KEYS).items() >= passwords.items()

    assert cfg.read_text() == text.replace("@h/somewhere?", f"@h/{final.database}?")
    assert AirflowCfg(str(cfg)).connected_database() == final.database
    name = min(name for name in passwords if name.isidentifier())
    for keys, shown in ((AirflowCfg(str(cfg)).fernet_keys(), [passwords[name]]), (fernet_key, [])):
        answer = runtimes.run("3.3.2", final, keys, ["connections", "get", name, "-o", "json"])
        assert [row["password"] for row in rows_in(answer.output)] == shown
    assert rows_of(source) == stored
    assert rows_of(source.on(plan["frozen_database"])) == stored
    everything = json.dumps([done, run.task.xcoms["preflight", "plan_in_words"]])
    for secret in (NEW_KEY, OLDER_KEY, fernet_key.reveal(), passwords[name], "gAAAA"):
        assert secret not in everything


@pytest.fixture
def same_schema(connect: Any, runtimes: Any, tmp_path: Path) -> Callable[..., DatabaseAddress]:
    """Describes 2.10.5 as source and 2.11.2, whose schema is the same, as target."""

    def describe(source: DatabaseAddress, source_key: str, **target: Any) -> DatabaseAddress:
        connect("migration_source", source, secret_fernet_key=source_key)
        environment = str(runtimes.prepare("2.11.2", lambda line: None))
        final = source.on(f"final {tmp_path.name}")
        runtime = {"kind": "venv", "environments": {"2.11.2": environment}}
        connect("migration_target", final, airflow_version="2.11.2", runtime=runtime, **target)
        return final

    return describe


def test_keep_where_a_person_keeps_the_target_s_settings(
    new_run: Any, same_schema: Any, tasks: dict[str, Any], corpus: Corpus, fernet_key: Secret
) -> None:
    source = corpus("2.10.5")
    stored = rows_of(source)
    keys = Secret(f"{NEW_KEY},{fernet_key.reveal()}")
    final = same_schema(source, "", control={"kind": "manual"}, secret_fernet_key=keys.reveal())
    done = go(new_run(fernet="keep", fence_source=False), list(tasks.values()))
    assert done["swap_fernet_key"] == {"fernet": "keep", "control": None, "columns": [], "repairs": []}
    assert done["verify"]["verified"] is True
    assert "airflow connections get" in " ".join(f"airflow {each['command']}" for each in done["verify"]["samples"])
    assert rows_of(final) == stored
    assert done["point_target"]["control"]["instructions"]


def test_keep_is_looked_at_again_when_the_source_has_gone_on(
    new_run: Any, same_schema: Any, tasks: dict[str, Any], corpus: Corpus, fernet_key: Secret
) -> None:
    source = corpus("2.10.5")
    same_schema(source, fernet_key.reveal(), secret_fernet_key=fernet_key.reveal())
    run, names = new_run(fernet="keep", backup=False), list(tasks)
    run.execute(tasks["preflight"])
    late = Fernet(OLDER_KEY.encode()).encrypt(b"late").decode()
    with source.connect(read_only=False) as session:
        session.execute("INSERT INTO variable (key, val, is_encrypted) VALUES ('late', %s, true)", (late,))
    go(run, [tasks[name] for name in names[1 : names.index("swap_fernet_key")]])
    with pytest.raises(AirflowFailException, match="late"):
        run.execute(tasks["swap_fernet_key"])


@pytest.mark.parametrize("of_the_target", [NEW_KEY, ""], ids=["with a key", "without"])
def test_an_unencrypted_source_does_not_take_the_target_s_key_away(
    new_run: Any, same_schema: Any, tasks: dict[str, Any], corpus: Corpus, tmp_path: Path, of_the_target: str
) -> None:
    source = corpus("2.10.5")
    with source.connect(read_only=False) as session:
        session.execute("UPDATE connection SET is_encrypted = false, password = 'p' || id, is_extra_encrypted = false")
        session.execute("UPDATE connection SET extra = '{}'")
        session.execute("UPDATE variable SET is_encrypted = false, val = 'v' || id")
    stored = rows_of(source)
    cfg = tmp_path / "airflow.cfg"
    text = write_cfg(cfg, of_the_target)
    final = same_schema(source, "", control={"kind": "airflow_cfg", "path": str(cfg)})
    done = go(new_run(backup=False, fence_source=False), list(tasks.values()))
    assert done["swap_fernet_key"]["fernet"] == "keep"
    assert done["verify"]["verified"] is True
    assert rows_of(final) == stored
    assert cfg.read_text() == text.replace("@h/somewhere?", f"@h/{final.database}?")


def test_several_keys_of_the_source_are_swapped_in_their_order(
    new_run: Any, same_schema: Any, tasks: dict[str, Any], corpus: Corpus, fernet_key: Secret, tmp_path: Path
) -> None:
    source = corpus("2.10.5")
    with source.connect(read_only=False) as session:
        token = Fernet(NEW_KEY.encode()).encrypt(b"newer").decode()
        session.execute("INSERT INTO variable (key, val, is_encrypted) VALUES ('newer', %s, true)", (token,))
    both = f"{NEW_KEY},{fernet_key.reveal()}"
    cfg = tmp_path / "airflow.cfg"
    write_cfg(cfg, OLDER_KEY)
    final = same_schema(source, both, control={"kind": "airflow_cfg", "path": str(cfg)})
    done = go(new_run(backup=False, fence_source=False), list(tasks.values()))
    assert done["swap_fernet_key"]["control"]["changed"] == ["AIRFLOW__CORE__FERNET_KEY"]
    assert done["verify"]["verified"] is True
    assert AirflowCfg(str(cfg)).fernet_keys() == Secret(both)
    assert AirflowCfg(done["swap_fernet_key"]["control"]["backup"]).fernet_keys() == Secret(OLDER_KEY)
    with final.connect() as session:
        assert survey(session, Secret(both)).verdict == "readable"


LOST = Fernet(Fernet.generate_key())
UNREAD = {
    "connection lost (password)", "connection lost (extra)", "connection half (extra)", "variable lost (val)",
    "variable never encrypted (val)", "trigger 1 (kwargs)",
}  # fmt: skip
ADDED = "'{reason,migration_id,moved_at,repair_id,changed_columns,became}'::text[]"


def lose(source: DatabaseAddress, key: str) -> None:
    """Leave values in the source whose key is gone, one that never was encrypted, and a row with one of each kind."""
    lost = [LOST.encrypt(text).decode() for text in (b"never-shown 1", b'{"a": "never-shown 2"}', b"never-shown 3")]
    kwargs = LOST.encrypt(b'{"__type": "dict", "__var": {"n": 1}}').decode()
    known = Fernet(key.encode()).encrypt(b"known").decode()
    with source.connect(read_only=False) as session:
        session.execute(
            "INSERT INTO connection (conn_id, conn_type, password, is_encrypted, extra, is_extra_encrypted)"
            " VALUES ('lost', 'http', %s, true, %s, true), ('half', 'http', %s, true, %s, true)",
            (lost[0], lost[1], known, lost[1]),
        )
        session.execute(
            "INSERT INTO variable (key, val, is_encrypted) VALUES ('lost', %s, true), ('never encrypted', 'x', true)",
            (lost[2],),
        )
        session.execute("INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('a.B', %s, now())", (kwargs,))


def ask(address: DatabaseAddress, query: str) -> list[tuple[object, ...]]:
    with address.connect() as session:
        return session.execute(sql.SQL(query)).fetchall()


@pytest.mark.parametrize("fernet", ["swap", "reencrypt", "keep"])
def test_what_no_key_reads_is_cleared_only_where_that_may_be_and_kept(
    new_run: Any,
    same_schema: Any,
    tasks: dict[str, Any],
    corpus: Corpus,
    fernet_key: Secret,
    tmp_path: Path,
    fernet: str,
) -> None:
    source = corpus("2.10.5")
    lose(source, NEW_KEY)
    keys = f"{NEW_KEY},{fernet_key.reveal()}"
    cfg = tmp_path / "airflow.cfg"
    write_cfg(cfg, f"{OLDER_KEY},{keys}" if fernet == "keep" else OLDER_KEY)
    final = same_schema(source, keys, control={"kind": "airflow_cfg", "path": str(cfg)})
    stored = rows_of(source)

    for refused in ("safe", [], ["connection_id"]):
        run = new_run(fernet=fernet, repairs=refused)
        with pytest.raises(AirflowFailException, match=f"{len(UNREAD)} encrypted value"):
            run.execute(tasks["preflight"])
        assert QUARANTINE in run.error("preflight")["remedy"]
    run = new_run(fernet=fernet, repairs=[QUARANTINE], fence_source=False, backup=False)
    names = list(tasks)
    done = go(run, [tasks[name] for name in names[: names.index("swap_fernet_key") + 1]])
    (found,) = (each for each in done["preflight"]["findings"] if each["check"] == "undecryptable")
    assert (found["severity"], found["count"], found["repair"]) == ("warning", len(UNREAD), QUARANTINE)
    (cleared,) = done["swap_fernet_key"]["repairs"]
    assert (cleared["id"], cleared["count"]) == (QUARANTINE, len(UNREAD))
    assert {detail.partition(" is cleared")[0] for detail in cleared["details"]} == UNREAD
    assert go(run, [tasks["swap_fernet_key"]])["swap_fernet_key"]["repairs"] == [cleared]

    working = final.on(done["preflight"]["working_database"])
    assert ask(working, "SELECT val, is_encrypted FROM variable WHERE key IN ('lost', 'never encrypted')") == [
        (None, False), (None, False),
    ]  # fmt: skip
    assert ask(working, "SELECT password, is_encrypted, extra FROM connection WHERE conn_id = 'lost'") == [
        (None, False, None)
    ]
    ((kwargs,),) = ask(working, "SELECT kwargs FROM trigger")
    target_keys = Secret(keys) if fernet == "swap" else AirflowCfg(str(cfg)).fernet_keys()
    assert decrypt_one(read_keys(target_keys), str(kwargs)) == '{"__type": "dict", "__var": {}}'
    for query, kept in (
        ("SELECT to_jsonb(t) FROM connection t WHERE conn_id IN ('lost', 'half') ORDER BY id", "connection"),
        ("SELECT to_jsonb(t) FROM variable t WHERE key IN ('lost', 'never encrypted') ORDER BY id", "variable"),
        ("SELECT to_jsonb(t) FROM trigger t", "trigger"),
    ):
        copies = f"SELECT DISTINCT id, to_jsonb(t) - {ADDED} FROM airflow_migration.changed_{kept} t ORDER BY id"
        assert [row for _, row in ask(working, copies)] == [row for (row,) in ask(source, query)], kept

    if fernet == "reencrypt":
        done |= go(run, [tasks[name] for name in names[names.index("swap_fernet_key") + 1 :]])
    else:
        done["verify"] = compared(source.on(done["preflight"]["frozen_database"]), working, Secret(keys), cfg)
    encrypted = done["verify"]["encrypted"]
    assert (encrypted["cleared"]["count"], set(encrypted["cleared"]["first"])) == (len(UNREAD), UNREAD)
    assert encrypted["encrypted"] == encrypted["readable"] > 0
    assert done["verify"]["verified"] is True
    assert rows_of(source) == stored
    everything = json.dumps([done, [*run.task.xcoms.values()]])
    for secret in ("never-shown", "gAAAA", NEW_KEY, OLDER_KEY):
        assert secret not in everything


def compared(clone: DatabaseAddress, working: DatabaseAddress, keys: Secret, cfg: Path) -> dict[str, Any]:
    """As task verify compares, without the commands of the target's release."""
    with clone.connect() as before, working.connect() as after:
        result = verify(
            clone=before, working=after, working_address=working, clone_keys=keys,
            target_keys=AirflowCfg(str(cfg)).fernet_keys(), target_release="2.11.2", migration_id=RUN_ID, runtime=None,
            settings={}, listener=lambda _: None,
        )  # fmt: skip
    answer: dict[str, Any] = json.loads(json.dumps(asdict(result)))
    return answer


def test_a_wrong_key_clears_nothing(
    new_run: Any, same_schema: Any, tasks: dict[str, Any], corpus: Corpus, fernet_key: Secret
) -> None:
    source = corpus("2.10.5")
    same_schema(source, OLDER_KEY, secret_fernet_key=fernet_key.reveal())
    with pytest.raises(AirflowFailException, match="the fernet key is wrong"):
        new_run(repairs="all").execute(tasks["preflight"])
    run, names = new_run(repairs="all", backup=False), list(tasks)
    same_schema(source, fernet_key.reveal())
    run.execute(tasks["preflight"])
    go(run, [tasks[name] for name in names[1 : names.index("swap_fernet_key")]])
    same_schema(source, OLDER_KEY)  # somebody edits the connection meanwhile
    with pytest.raises(AirflowFailException, match="reads none of"):
        run.execute(tasks["swap_fernet_key"])


def envelope(instruction: str) -> dict[str, Any]:
    control = {"kind": "manual", "changed": [], "instructions": [instruction], "done_by_hand": []}
    result = {"fernet": "swap", "control": control, "columns": []}
    return {"started": "2026-11-22T02:21:00+00:00", "finished": "?", "seconds": 0.1, "result": result}


def test_what_a_person_says_to_have_done_is_not_left_to_do(new_run: Any, tasks: dict[str, Any]) -> None:
    context = {"ti": new_run().task}
    event = {"chosen_options": [DONE], "responded_by_user": {"id": "7", "name": "Ann"}}
    answer = tasks["swap_fernet_key"].execute_complete(context, event=event, envelope=envelope("turn the key"))
    control = answer["result"]["control"]
    assert (control["instructions"], control["done_by_hand"], control["confirmed_by"]) == ([], ["turn the key"], "Ann")
    assert answer["seconds"] > 60


def test_a_person_may_stop_the_migration_for_good(new_run: Any, tasks: dict[str, Any]) -> None:
    run = new_run()
    run.task.task_id = "swap_fernet_key"
    with pytest.raises(AirflowFailException):
        tasks["swap_fernet_key"].execute_complete(
            {"ti": run.task}, event={"chosen_options": [STOP]}, envelope=envelope("turn the key")
        )
    assert run.error("swap_fernet_key")["remedy"]
