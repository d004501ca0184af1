"""Client programs: what they are given, what is shown of them, and that none is left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.polling import until

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres.process import Client, RowDataFilter

DEADLINE = 30.0


def shell(script: str, *arguments: str) -> list[str]:
    return ["/bin/sh", "-c", script, *arguments]


def wait_until_gone(pid: int) -> None:
    until(lambda: is_gone(pid), seconds=DEADLINE, pause=0.02, told=lambda: f"process {pid} is still there")


def is_gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] == "Z"  # dead; whoever adopted it has not looked yet


def test_each_line_is_handed_over_as_it_comes() -> None:
    lines: list[str] = []
    assert Client("step", {}).run(shell("echo one; echo two >&2; printf three"), lines.append) == 0
    assert lines == ["one", "two", "three"]


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ToolError, match="no-such-program"):
        Client("step", {}).run(["/no-such-program"], print)


def test_a_failure_tells_the_program_its_code_and_its_last_lines() -> None:
    with pytest.raises(ToolError) as caught:
        Client("the step", {}).run(shell("seq 1 20; echo the cause; exit 7"), lambda _: None)
    assert caught.value.where == "the step"
    assert "7" in caught.value.problem
    assert "the cause" in caught.value.problem
    assert "| 5 |" not in caught.value.problem


def test_a_caller_may_judge_the_exit_code_itself() -> None:
    assert Client("step", {}).run(shell("exit 3"), print, check=False) == 3


def test_nothing_of_our_environment_reaches_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "ours")
    monkeypatch.setenv("PGPASSWORD", "ours")
    lines: list[str] = []
    Client("step", {"GIVEN": "theirs"}).run(["/usr/bin/env"], lines.append)
    assert "GIVEN=theirs" in lines
    assert not [line for line in lines if "ours" in line]


def test_programs_answer_in_english_whatever_the_machine_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    # What they say is searched for "error:" and DETAIL, which others print as "Fehler:" and "KONTEXT".
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    lines: list[str] = []
    Client("step", {}).run(["/usr/bin/env"], lines.append)
    assert "LC_MESSAGES=C" in lines
    assert not [line for line in lines if line.startswith("LC_ALL=")]
    assert "LANG=de_DE.UTF-8" in lines


def filtered(text: str) -> list[str]:
    row_data_filter = RowDataFilter()
    return [shown for line in text.splitlines() if (shown := row_data_filter(line)) is not None]


ROW_DATA = {
    "restore": """\
pg_restore: error: COPY failed for table "connection": ERROR:  duplicate key value
DETAIL:  Key (conn_id, password)=(a, hidden
hidden on the second line
hidden on the third) already exists.
CONTEXT:  COPY connection, line 3: "hidden"
pg_restore: processing data for table "public.dag"
""",
    "a command": """\
pg_restore: error: could not execute query: ERROR:  relation "a" already exists
Command was: CREATE TABLE hidden (
    hidden integer
);

pg_restore: processing data for table "public.dag"
""",
    "sqlalchemy": """\
sqlalchemy.exc.IntegrityError: (psycopg2.errors.NotNullViolation) null value in column "conn_type"
DETAIL:  Failing row contains (1, hidden, {
  "extra": "hidden"
}).

[SQL: UPDATE connection SET conn_type=%(conn_type)s]
[parameters: {'password': 'hidden',
 'extra': 'hidden'}]
INFO  [alembic.runtime.migration] Running upgrade a -> b
""",
    "a value with an empty line": """\
ERROR:  null value
DETAIL:  Failing row contains (1, {

"password": "hidden"}).
INFO  [alembic.runtime.migration] Running upgrade a -> b
""",
    "a value with a list": """\
ERROR:  null value
DETAIL:  Failing row contains (1, {"keys":
["hidden",
"hidden"]}).
[2026-11-22T02:21:00.000+0000] {migration.py:207} INFO - Running upgrade a -> b
""",
}


@pytest.mark.parametrize("text", ROW_DATA.values(), ids=ROW_DATA)
def test_row_data_is_withheld_and_the_next_message_shown(text: str) -> None:
    shown = filtered(text)
    assert "hidden" not in "\n".join(shown)
    assert shown[0] == text.splitlines()[0]
    assert shown[-1] == text.splitlines()[-1]


def test_row_data_is_in_no_error() -> None:
    lines: list[str] = []
    with pytest.raises(ToolError) as caught:
        Client("step", {}).run(shell('printf "%s" "$1"; exit 1', "sh", ROW_DATA["restore"]), lines.append)
    assert "duplicate key value" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "hidden" not in "\n".join(lines)


def test_stop_ends_the_program_and_its_children() -> None:
    client = Client("step", {})
    pids: list[int] = []
    started = threading.Event()

    def on_line(line: str) -> None:
        pids.extend(map(int, line.split()))
        started.set()

    codes: list[int] = []
    script = "sleep 300 & echo $$ $!; wait"
    thread = threading.Thread(target=lambda: codes.append(client.run(shell(script), on_line, check=False)))
    thread.start()
    assert started.wait(DEADLINE)
    client.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert codes != [0]
    for pid in pids:
        wait_until_gone(pid)


def test_stop_ends_children_that_outlive_the_program() -> None:
    client = Client("step", {})
    pids: list[int] = []
    started = threading.Event()

    def on_line(line: str) -> None:
        pids.extend(map(int, line.split()))
        started.set()

    script = "sleep 300 & echo $$ $!"
    thread = threading.Thread(target=lambda: client.run(shell(script), on_line), daemon=True)
    thread.start()
    assert started.wait(DEADLINE)
    wait_until_gone(pids[0])
    client.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    wait_until_gone(pids[1])


def test_stop_without_a_program_does_nothing() -> None:
    client = Client("step", {})
    client.stop()
    client.run(shell("true"), print)
    client.stop()


def test_a_listener_that_raises_leaves_no_program_behind() -> None:
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Client("step", {}).run(shell("echo $$; exec sleep 300"), on_line)
    wait_until_gone(pids[0])
