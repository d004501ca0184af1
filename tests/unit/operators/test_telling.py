"""What a step says reaches its XComs, whatever becomes of the API server; a real thread, a task instance of our own."""

from __future__ import annotations

import queue
import threading
from typing import Any

from airflow_migration.operators.telling import PROGRESS_KEY, SAID_KEY, Telling, can_tell
from airflow_migration.progress import Progress

SECONDS = 20.0


class Server:
    """A task instance whose server answers, refuses or keeps its callers waiting."""

    def __init__(self) -> None:
        self.written: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.tried, self.refused = threading.Event(), threading.Event()
        self.answers = threading.Event()
        self.answers.set()
        self.refuses = False

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.tried.set()
        self.answers.wait()
        if self.refuses:
            self.refused.set()
            raise ConnectionError("nobody listens")
        self.written.put((key, value))


def measured(done: int) -> Progress:
    return Progress(what="Dump", done=done, total=10, unit="bytes", seconds=1.23456)


def test_the_last_measurement_and_sentence_are_written_while_the_step_runs() -> None:
    server = Server()
    telling = Telling(server, every=0.01)
    telling.tell("Dump by 2 job(s)")
    assert server.written.get(timeout=SECONDS) == (SAID_KEY, "Dump by 2 job(s)")
    telling.tell(measured(4))
    key, value = server.written.get(timeout=SECONDS)
    assert key == PROGRESS_KEY
    assert {name: value[name] for name in ("what", "done", "total", "unit", "seconds")} == {
        "what": "Dump",
        "done": 4,
        "total": 10,
        "unit": "bytes",
        "seconds": 1.235,
    }
    assert value["at"].endswith("+00:00")
    telling.stop()


def test_many_measurements_are_few_writes() -> None:
    server = Server()
    telling = Telling(server, every=SECONDS)
    telling.tell(measured(0))
    server.written.get(timeout=SECONDS)
    for done in range(1, 10):
        telling.tell(measured(done))
    telling.stop()
    assert server.written.empty()


def test_the_last_word_of_a_long_step_is_written() -> None:
    server = Server()
    telling = Telling(server, every=0.0)
    telling.tell(measured(1))
    server.written.get(timeout=SECONDS)
    telling.tell(measured(10))
    telling.stop()
    assert server.written.get(timeout=SECONDS)[1]["done"] == 10


def test_a_server_that_does_not_answer_keeps_no_step_waiting() -> None:
    server = Server()
    server.answers.clear()
    telling = Telling(server, every=0.01)
    telling.tell(measured(1))
    assert server.tried.wait(SECONDS)
    telling.tell(measured(2))  # returns at once, or the test hangs here
    server.answers.set()
    telling.stop()


def test_a_server_that_refuses_fails_no_step_and_is_left_alone_for_a_while() -> None:
    server = Server()
    server.refuses = True
    telling = Telling(server, every=0.0)
    telling.tell(measured(1))
    assert server.refused.wait(SECONDS)
    server.refuses = False
    telling.tell(measured(2))
    telling.stop()
    assert server.written.empty()


def test_nothing_is_written_without_a_supervisor() -> None:
    assert not can_tell()
