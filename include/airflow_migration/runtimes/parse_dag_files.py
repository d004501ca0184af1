"""Runs inside a runtime, by that release's own Python (3.7 or newer): imports DAG files as its DAG processor would.

Airflow is imported once; each file is then read by a fork of its own, which is ended with all that it has started
when its time is over. What a file prints goes nowhere. Nothing but the standard library and Airflow is used; Airflow's
modules are named as text, as they have moved between releases.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import inspect
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = "DAG-FILE "
"""Begins each line that is meant for us; Airflow's own start may print others."""
WARM = ("airflow.sdk", "airflow.models.dag", "airflow.operators.python", "airflow.serialization.serialized_objects")
"""What nearly every DAG file imports: a DAG processor has it long since, and no file is charged with it."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LONGEST = 1 << 20
"""Most bytes that the answer of one file may have."""
LONG = 300.0
"""Seconds for a file where the target sets no limit."""
NICE = 5
GRACE = 1.0
"""Seconds in which a fork whose time is over can still say where it stands."""


def main() -> int:
    """Read every DAG file of a folder; one line of JSON for each as it is done.

    The request: ``folder``; ``timeout`` for one file, None for the target's; ``import_timeout``, the target's own, None
    for the release's; ``deadline`` for all; ``jobs`` at a time.
    """
    request = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    folder = request["folder"]
    sys.path.append(folder)
    bag, paths = open_bag(folder), sorted(list_files(folder))
    for module in WARM:
        with suppress(ImportError):
            importlib.import_module(module)
    limit = float(request["import_timeout"] or setting("dagbag_import_timeout"))
    request["timeout"] = request["timeout"] or (limit if limit > 0 else LONG)
    tell({"files": len(paths), "import_timeout": limit, "timeout": request["timeout"]})
    # Ours is the only clock: Airflow's own would end a file whose author has asked for more time.
    os.environ["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] = "0"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # The migration's own steps are measured at the same time.
    os.nice(NICE)
    gc.freeze()
    ask_kernel(PR_SET_CHILD_SUBREAPER, 1)
    try:
        read_all(bag, paths, request)
    finally:
        end_orphans()
    return 0


def ask_kernel(option: int, value: int) -> None:
    """Linux alone knows it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value)


def end_orphans() -> None:
    """End what files have started in sessions of their own: as their parents are dead, they are our children now."""
    ended = True
    while ended:
        ended = False
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, ValueError):
                if int(status.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                    os.kill(int(status.parent.name), signal.SIGKILL)
                    os.waitpid(int(status.parent.name), 0)
                    ended = True


def tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()


def setting(option: str) -> Any:
    return importlib.import_module("airflow.configuration").conf.get("core", option)


def open_bag(folder: str) -> Any:
    """The release's DagBag, empty: in airflow/models/dagbag.py up to 3.1, then in airflow/dag_processing/dagbag.py."""
    try:
        kind = importlib.import_module("airflow.dag_processing.dagbag").DagBag
    except ImportError:
        kind = importlib.import_module("airflow.models.dagbag").DagBag
    wished = {
        "dag_folder": os.devnull,
        "include_examples": False,
        "collect_dags": False,
        "bundle_path": Path(folder),
        "bundle_name": "dags-folder",
    }
    if hasattr(kind, "DAGBAG_IMPORT_TIMEOUT"):
        kind.DAGBAG_IMPORT_TIMEOUT = 0
    known = inspect.signature(kind.__init__).parameters
    return kind(**{name: value for name, value in wished.items() if name in known})


def list_files(folder: str) -> list[str]:
    """What the release takes for DAG files: .airflowignore and the guess at what may hold a DAG are its own."""
    try:
        importers = importlib.import_module("airflow.dag_processing.importers")
    except ImportError:
        lister = importlib.import_module("airflow.utils.file").list_py_file_paths
        wished = {"safe_mode": True, "include_examples": False, "include_smart_sensor": False}
        known = inspect.signature(lister).parameters
        return list(map(str, lister(folder, **{name: value for name, value in wished.items() if name in known})))
    return list(map(str, importers.get_importer_registry().list_dag_files(folder, safe_mode=True)))


class Reader:
    """One file in a process of its own."""

    def __init__(self, bag: Any, path: str, request: dict[str, Any]) -> None:
        self.path, self.answer = path, b""
        self.places = os.path.join(os.environ["AIRFLOW_HOME"], f"stands-{os.getpid()}-{id(self)}")
        self.pipe, sending = os.pipe()
        self.started = time.monotonic()
        self.ends, self.asked = self.started + request["timeout"], False
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            read_file(bag, path, sending, self.places)
        os.close(sending)

    def receive(self) -> bool:
        """Take what has come; whether that is the end of it."""
        part = os.read(self.pipe, 1 << 16)
        self.answer += part
        return not part or self.answer.endswith(b"\n") or len(self.answer) > LONGEST

    def is_over(self) -> bool:
        """Whether its time is over; it is asked first where it stands."""
        if time.monotonic() < self.ends:
            return False
        if self.asked:
            return True
        self.asked, self.ends = True, self.ends + GRACE
        os.kill(self.pid, signal.SIGUSR1)
        return False

    def end(self) -> tuple[int, float]:
        """End the process and its group; its exit status, negative for a signal, and its processor seconds."""
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        os.close(self.pipe)
        _, status, used = os.wait4(self.pid, 0)
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return code, used.ru_utime + used.ru_stime

    def stands(self) -> str:
        """Where it was when its time was over."""
        with suppress(OSError), open(self.places, encoding="utf-8", errors="replace") as file:
            return file.read(LONGEST)
        return ""


def read_all(bag: Any, paths: list[str], request: dict[str, Any]) -> None:
    waiting = list(reversed(paths))
    running: list[Reader] = []
    last = time.monotonic() + request["deadline"]
    try:
        while waiting or running:
            while waiting and len(running) < request["jobs"] and time.monotonic() < last:
                running.append(Reader(bag, waiting.pop(), request))
            if not running:
                break
            ends = min(last, *(each.ends for each in running))
            ready, _, _ = select.select([each.pipe for each in running], [], [], max(0.0, ends - time.monotonic()))
            for reader in list(running):
                done = reader.pipe in ready and reader.receive()
                if done or reader.is_over() or time.monotonic() >= last:
                    running.remove(reader)
                    tell(answer_of(reader, done, time.monotonic() - reader.started))
    finally:
        for reader in running:
            reader.end()
    for path in reversed(waiting):
        tell({"path": path, "ended": "not reached"})


def answer_of(reader: Reader, done: bool, seconds: float) -> dict[str, Any]:
    status, used = reader.end()
    if done:
        with suppress(ValueError):
            return {"path": reader.path, "ended": "read", **json.loads(reader.answer.decode("utf-8", "replace"))}
    if done and not reader.asked:
        return {"path": reader.path, "ended": "died", "status": status, "seconds": seconds}
    if not reader.asked:
        return {"path": reader.path, "ended": "not reached"}
    told = {"seconds": seconds, "cpu_seconds": used, "stands": reader.stands()}
    return {"path": reader.path, "ended": "timed out", **told}


def read_file(bag: Any, path: str, sending: int, places: str) -> None:
    """In the fork: import the file, send what came of it, and end without anything that an exit would run."""
    try:
        os.setsid()
        ask_kernel(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        stands = open(places, "w", encoding="utf-8")  # noqa: SIM115  open until the process ends
        # From a thread of its own (dump_traceback_later) it has crashed the process that it looks at.
        faulthandler.register(signal.SIGUSR1, file=stands, all_threads=False)
        content = (json.dumps(import_file(bag, path)) + "\n").encode()
        while content:
            content = content[os.write(sending, content) :]
    finally:
        os._exit(0)


def import_file(bag: Any, path: str) -> dict[str, Any]:
    started, used = time.monotonic(), time.process_time()
    errors: list[str] = []
    found: list[Any] = []
    try:
        found = list(bag.process_file(path, only_if_updated=False) or ())
    except BaseException:  # SystemExit would end the DAG processor's fork as well
        errors.append(traceback.format_exc())
    errors += [str(text) for text in bag.import_errors.values()]
    if not errors:
        errors += unserializable(found)
    return {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - used,
        "dag_ids": sorted(str(dag.dag_id) for dag in found),
        "errors": errors,
    }


def unserializable(found: list[Any]) -> list[str]:
    """A DAG that cannot be serialized is an import error from 2.0 on, where schedulers read serialized DAGs only."""
    if importlib.import_module("airflow.version").version.startswith("1."):
        return []
    module = importlib.import_module("airflow.serialization.serialized_objects")
    kind = getattr(module, "DagSerialization", None) or module.SerializedDAG
    errors = []
    for dag in found:
        try:
            kind.to_dict(dag)
        except Exception:
            errors.append(traceback.format_exc())
    return errors


if __name__ == "__main__":
    sys.exit(main())
