"""What the copy of a rehearsal costs those who write to the source meanwhile: before, beside it, and afterwards.

    .venv/bin/python -m benchmarks.rehearsal --task-instances 300000

Takes the database that 2.10.5 has written, fills it, has processes of their own insert task instances and logs, each in
a loop without a pause, and copies it to a second server of the same machine, beside which nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psutil
from benchmarks.preflight import make_source
from benchmarks.two_servers import size_arguments, two_servers

from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import drop_database
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.snapshot_copy import CopyClients, Pace, SnapshotCopy, copy_database
from airflow_migration.postgres.tools import find_tool
from airflow_migration.progress import Progress
from airflow_migration.secret import Secret

NEW_RUN = """
INSERT INTO dag_run SELECT (jsonb_populate_record(d, jsonb_build_object('id', nextval('dag_run_id_seq'),
       'run_id', %(id)s::text, 'execution_date', clock_timestamp()))).*
  FROM dag_run d WHERE id = %(one)s RETURNING dag_id
"""
NEW_TASKS = """
INSERT INTO task_instance SELECT (jsonb_populate_record(one.t, jsonb_build_object('run_id', %s::text, 'map_index', -1,
       'task_id', 'w' || n, 'trigger_id', NULL))).*
  FROM (SELECT t FROM task_instance t WHERE dag_id = %s ORDER BY run_id LIMIT 1) one, generate_series(1, 5) n
"""
NEW_LOGS = "INSERT INTO log (dttm, dag_id, event, owner) SELECT now(), %s, 'w' || n, 'w' FROM generate_series(1, 5) n"

LAST = 19
Place = tuple[str, int, str, str, str]


def main() -> None:
    parser = size_arguments(__doc__)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two transactions of a writer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--max-source-load", type=int, default=8)
    parser.add_argument(
        "--give-way",
        action="store_true",
        help="the copy's server and what carries the rows get what the source's server and the writers leave, as if"
        " they were on a machine of their own",
    )
    given = parser.parse_args()
    with two_servers({"fsync": "off"} if given.give_way else None) as (old, new, _):
        source = make_source(old, "2.10.5", given.task_instances, given.xcoms)
        if given.give_way:
            with new.connect() as conn:
                os.setpriority(os.PRIO_PROCESS, psutil.Process(conn.info.backend_pid).ppid(), LAST)
        print(json.dumps(measure(source, new.on("copy"), given), indent=2))


def measure(source: DatabaseAddress, copy: DatabaseAddress, given: argparse.Namespace) -> dict[str, object]:
    """Transactions a second without and beside the copy, in turns, as nothing else on the machine is steady either."""
    writers = [Writer(source, number, given.pause) for number in range(given.writers)]
    rounds: list[Round] = []
    try:
        if given.give_way:
            os.setpriority(os.PRIO_PROCESS, 0, LAST)
        before = rate(writers)
        for _ in range(given.rounds):
            result, beside, longest = copy_beside(writers, source, copy, given)
            after = rate(writers)
            rounds.append(Round(result=result, without=(before + after) / 2, beside=beside, longest=longest))
            drop_database(copy, copy.database, lambda _: None)
            before = after
    finally:
        for writer in writers:
            writer.end()
    return {
        "copied bytes": rounds[0].result.row_bytes,
        "seconds of the copies": [each.result.seconds for each in rounds],
        "seconds in which they read the source": [each.result.snapshot_seconds for each in rounds],
        "transactions a second without": [round(each.without) for each in rounds],
        "beside the copy": [round(each.beside) for each in rounds],
        "ratio, median": round(statistics.median(each.beside / each.without for each in rounds), 2),
        "longest transaction beside the copies, seconds": round(max(each.longest for each in rounds), 3),
        "fewest jobs": min(each.result.lowest_jobs for each in rounds),
    }


@dataclass(frozen=True, kw_only=True)
class Round:
    """:param without: transactions a second
    :param longest: seconds of the longest transaction beside the copy
    """

    result: SnapshotCopy
    without: float
    beside: float
    longest: float


def copy_beside(
    writers: list[Writer], source: DatabaseAddress, copy: DatabaseAddress, given: argparse.Namespace
) -> tuple[SnapshotCopy, float, float]:
    """Copy, and count until the source is not read any more."""
    read = threading.Event()
    counts: list[tuple[int, float]] = []

    def count() -> None:
        started = time.monotonic()
        while not read.wait(0.2):
            counts.append(total(writers))
        counts.append((0, time.monotonic() - started))

    total(writers)
    counting = threading.Thread(target=count)
    counting.start()
    try:
        result = copy_once(source, copy, given, read)
    finally:
        read.set()
        counting.join()
    *taken, (_, seconds) = counts
    return result, sum(number for number, _ in taken) / seconds, max(longest for _, longest in taken)


def copy_once(
    source: DatabaseAddress, copy: DatabaseAddress, given: argparse.Namespace, read: threading.Event
) -> SnapshotCopy:
    def listen(message: Progress | str) -> None:
        if isinstance(message, Progress) and message.what.startswith("Copy") and message.done == message.total:
            read.set()

    with source.connect() as there, copy.maintenance().connect() as here:
        version = max(there.info.server_version, here.info.server_version)
    return copy_database(
        source,
        copy,
        comment="benchmark",
        clients=CopyClients(
            pg_dump=find_tool("pg_dump", version),
            pg_restore=find_tool("pg_restore", version),
            source=Client("copy", source.environment(read_only=True)),
            scratch=Client("copy", copy.environment()),
        ),
        pace=Pace(jobs=given.jobs, max_load=given.max_source_load),
        listener=listen,
        on_start=lambda _: None,
    )


class Writer:
    """A process that inserts; a lock that it waits for a second ends it."""

    def __init__(self, address: DatabaseAddress, number: int, pause: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        place = (address.host, address.port, address.user, address.password.reveal(), address.database)
        self._process = context.Process(target=write, args=(place, number, pause, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.take()

    def take(self) -> tuple[int, float]:
        """How many transactions since it was asked last, and the longest of them."""
        self._pipe.send(True)
        count, longest = self._pipe.recv()
        return count, longest

    def end(self) -> None:
        self._process.terminate()
        self._process.join()


def write(place: Place, number: int, pause: float, pipe: Connection) -> None:
    host, port, user, password, database = place
    address = DatabaseAddress(host=host, port=port, user=user, password=Secret(password), database=database)
    count, longest, total = 0, 0.0, 0
    with address.connect(read_only=False, lock_timeout=1.0) as conn:
        # With the name that our sessions have it would not be seen as somebody else's.
        conn.execute("SET application_name = 'writer'")
        ((one,),) = conn.execute("SELECT min(id) FROM dag_run").fetchall()
        conn.commit()
        while True:
            started = time.monotonic()
            total += 1
            run_id = f"writer {number} {total} {time.time_ns()}"
            ((dag_id,),) = conn.execute(NEW_RUN, {"id": run_id, "one": one}).fetchall()
            conn.execute(NEW_TASKS, (run_id, dag_id))
            conn.execute(NEW_LOGS, (dag_id,))
            conn.commit()
            count, longest = count + 1, max(longest, time.monotonic() - started)
            if pipe.poll(pause):
                pipe.recv()
                pipe.send((count, longest))
                count, longest = 0, 0.0


def total(writers: list[Writer]) -> tuple[int, float]:
    """Transactions of all since they were asked last, and the longest."""
    taken = [writer.take() for writer in writers]
    return sum(count for count, _ in taken), max(longest for _, longest in taken)


def rate(writers: list[Writer], seconds: float = 8.0) -> float:
    """Transactions a second of all of them."""
    total(writers)
    started = time.monotonic()
    time.sleep(seconds)
    return total(writers)[0] / (time.monotonic() - started)


if __name__ == "__main__":
    main()
