"""The target release's own parser reads the user's DAG files: it reaches no secret, and waits for nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.listening import Heard
from tests.polling import until

from airflow_migration.exceptions import InvalidInputError, ToolError
from airflow_migration.planning.dag_files import DagFile, DagFilesResult
from airflow_migration.runtimes.kubernetes import KubernetesRuntime
from airflow_migration.runtimes.pod_spec import PodOptions
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.steps.dag_files import check_dag_files

PASSWORD = "never-to-be-seen-by-a-dag-file"
DAG = """from airflow import DAG
import datetime
dag = DAG("{}", schedule=None, start_date=datetime.datetime(2026, 1, 1))
"""
SLOW = """from airflow import DAG
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path(__file__).with_name("pids.txt").write_text(f"{os.getpid()} {child.pid} ")
try:
    time.sleep(600)
except BaseException:
    time.sleep(600)
"""
DAEMON = """from airflow import DAG
import os, pathlib, time
if os.fork() == 0:
    os.setsid()
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    pathlib.Path(__file__).with_name("daemon.txt").write_text(str(pid))
    os._exit(0)
os.wait()
"""
CURIOUS = """from airflow import DAG
import os, pathlib
seen = [*os.environ.values(), *map(str, pathlib.Path.home().glob("*.secret"))]
pathlib.Path(__file__).with_name("seen.txt").write_text(" ".join(seen))
raise RuntimeError(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
"""
RENAMED = """from airflow import DAG
with DAG("renamed", schedule_interval=None):
    pass
"""
FILES = {
    "good.py": DAG.format("good"),
    "team/packed.py": DAG.format("packed") + "import beside\n",
    "beside.py": "SPARE = 1\n",
    "again.py": DAG.format("good"),
    "removed.py": "from airflow import DAG\nfrom airflow.operators.dummy_operator import DummyOperator\n",
    "renamed.py": RENAMED,
    "provider.py": "from airflow import DAG\nfrom airflow.providers.cncf.kubernetes.operators.pod import "
    "KubernetesPodOperator\n",
    "module.py": "from airflow import DAG\nimport not_installed_anywhere\n",
    "broken.py": "from airflow import DAG\ndef f(:\n",
    "slow.py": SLOW,
    "daemon.py": DAEMON,
    "curious.py": CURIOUS,
    "quits.py": "from airflow import DAG\nimport os\nos._exit(3)\n",
    "leaves.py": "from airflow import DAG\nimport sys\nsys.exit(0)\n",
    "variable.py": "from airflow import DAG\nfrom airflow.models import Variable\nVariable.get('x')\n",
    "environ.py": "from airflow import DAG\nimport os\nBUCKET = os.environ['BUCKET']\n",
    "keyed.py": "from airflow import DAG\nBUCKET = {}['BUCKET']\n",
    "ignored.py": DAG.format("ignored"),
    ".airflowignore": "ignored.py\n",
}


def written(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def started(folder: Path, name: str = "pids.txt") -> list[int]:
    """The slow file's process and its child, or those that another file has noted."""
    file = folder / name
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def wait_until_ended(pids: list[int]) -> None:
    """What was killed is there for another moment."""
    assert pids
    until(lambda: alive(pids), lambda left: not left)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in _state(pid)]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("dags"))


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def result(
    folder: Path, runtimes: VenvRuntime, heard: Heard, tmp_path_factory: pytest.TempPathFactory
) -> DagFilesResult:
    home = tmp_path_factory.mktemp("home")
    (home / f"{PASSWORD}.secret").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"postgresql://airflow:{PASSWORD}@db/airflow")
        patch.setenv("AIRFLOW_CONN_WAREHOUSE", f"postgresql://ann:{PASSWORD}@db/warehouse")
        patch.setenv("HOME", str(home))
        return check_dag_files(
            runtimes,
            release="3.3.2",
            folder=str(folder),
            timeout=5,
            import_timeout=None,
            expected=["packed", "gone"],
            listener=heard,
        )


@pytest.fixture(scope="module")
def files(result: DagFilesResult) -> dict[str, DagFile]:
    return {each.path: each for each in result.files}


def test_a_good_file_has_its_dags_and_its_seconds(result: DagFilesResult, files: dict[str, DagFile]) -> None:
    good = files["good.py"]
    assert (good.trouble, good.dag_ids) == (None, ("good",))
    assert good.cpu_seconds is not None
    assert 0 < good.cpu_seconds <= good.seconds + 0.01
    assert files["team/packed.py"].dag_ids == ("packed",)
    assert (result.release, result.import_timeout, result.timeout) == ("3.3.2", 30.0, 5.0)
    assert result.dags == 2


def test_only_what_the_release_takes_for_dag_files_is_read(result: DagFilesResult, files: dict[str, DagFile]) -> None:
    assert files.keys() == FILES.keys() - {"ignored.py", "beside.py", ".airflowignore"}
    assert result.count == len(files)


@pytest.mark.parametrize(
    ("path", "trouble", "line", "told"),
    [
        ("removed.py", "removed", 2, "EmptyOperator"),
        ("renamed.py", "error", 2, "`schedule`"),
        ("provider.py", "missing_provider", 2, "apache-airflow-providers-cncf-kubernetes"),
        ("module.py", "missing_module", 2, "not_installed_anywhere"),
        ("broken.py", "syntax", 2, "SyntaxError"),
        ("slow.py", "timed_out", 6, "5 s"),
        ("quits.py", "died", None, "3"),
        ("leaves.py", "error", 3, "SystemExit"),
        ("variable.py", "needs_database", 3, "Variable x"),
        ("environ.py", "needs_environment", 3, "BUCKET"),
        ("keyed.py", "error", 2, "BUCKET"),
    ],
)
def test_each_trouble_has_its_name_and_line(
    files: dict[str, DagFile], path: str, trouble: str, line: int | None, told: str
) -> None:
    file = files[path]
    assert (file.trouble, file.line) == (trouble, line)
    assert told in file.error + file.remedy


def test_files_that_take_too_long_are_told_first(result: DagFilesResult) -> None:
    assert result.files[0].path == "slow.py"
    assert result.findings[0].check == "dag_files_timed_out"
    assert "slow.py:6" in result.findings[0].evidence[0]


def test_a_dag_id_in_two_files_is_told(result: DagFilesResult) -> None:
    assert {each.check: each.evidence for each in result.findings}["dag_ids_twice"] == ("good",)


def test_active_dags_that_no_file_has_are_told(result: DagFilesResult) -> None:
    assert {each.check: each.evidence for each in result.findings}["dag_ids_absent"] == ("gone",)


def test_a_file_that_waits_is_told_from_one_that_works(files: dict[str, DagFile]) -> None:
    cpu_seconds = files["slow.py"].cpu_seconds
    assert cpu_seconds is not None
    assert cpu_seconds < files["slow.py"].seconds / 2


def test_rules_are_told_beside_what_was_imported(result: DagFilesResult) -> None:
    rules = {each.rule: each for each in result.rules}
    assert [(each.path, each.line) for each in rules["AIR301"].places] == [("renamed.py", 2)]
    assert "renamed.py:2" in {each.check: each.evidence for each in result.findings}["dag_rules_AIR301"][0]


def test_no_secret_is_in_reach_of_a_dag_file(
    result: DagFilesResult, files: dict[str, DagFile], heard: Heard, folder: Path
) -> None:
    assert files["curious.py"].error.startswith("RuntimeError: sqlite:///")
    seen = (folder / "seen.txt").read_text()
    assert "sqlite:///" in seen
    assert PASSWORD not in json.dumps(asdict(result)) + heard.text + seen


def test_what_a_file_has_started_ends_with_it(result: DagFilesResult, folder: Path) -> None:
    assert result.count
    wait_until_ended(started(folder))
    wait_until_ended(started(folder, "daemon.txt"))


def test_nothing_is_left_in_the_folder(result: DagFilesResult, folder: Path) -> None:
    assert result.count
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {Path(name).name for name in FILES} | {
        "pids.txt",
        "seen.txt",
        "daemon.txt",
    }


def test_progress_is_told_file_by_file(result: DagFilesResult, heard: Heard) -> None:
    assert [(each.done, each.total) for each in heard.progress][-1] == (result.count, result.count)


def test_an_older_target_has_what_a_newer_one_has_removed(runtimes: VenvRuntime, tmp_path: Path) -> None:
    for name in ("removed.py", "renamed.py", "provider.py"):
        (tmp_path / name).write_text(FILES[name])
    result = check_dag_files(
        runtimes, release="2.11.2", folder=str(tmp_path), timeout=None, import_timeout=45, listener=Heard()
    )
    assert {each.path: each.trouble for each in result.files} == {
        "removed.py": None,
        "renamed.py": None,
        "provider.py": "missing_provider",
    }
    assert (result.import_timeout, result.timeout, result.rules) == (45.0, 45.0, ())


@pytest.fixture
def own_runtime() -> Iterator[VenvRuntime]:
    runtime = VenvRuntime(root=REPOSITORY / "build" / "runtimes")
    yield runtime
    runtime.stop()


def test_a_killed_task_leaves_no_file_at_work(tmp_path: Path, own_runtime: VenvRuntime) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    raised: list[Exception] = []

    def check() -> None:
        try:
            check_dag_files(
                own_runtime, release="2.11.2", folder=str(tmp_path), timeout=600, import_timeout=None, listener=Heard()
            )
        except ToolError as err:
            raised.append(err)

    thread = threading.Thread(target=check)
    thread.start()

    def goes_on() -> None:
        assert thread.is_alive(), raised

    pids = until(lambda: started(tmp_path), lambda found: len(found) == 2, seconds=120, check=goes_on)
    own_runtime.stop()
    thread.join(60)
    assert raised
    assert not thread.is_alive()
    wait_until_ended(pids)


def test_in_pods_ruff_alone_reads_the_files(tmp_path: Path) -> None:
    (tmp_path / "renamed.py").write_text(RENAMED)
    pods = KubernetesRuntime(lambda: pytest.fail("no cluster is asked"), PodOptions(namespace="x", image="x"))
    result = check_dag_files(
        pods, release="3.3.2", folder=str(tmp_path), timeout=None, import_timeout=None, listener=Heard()
    )
    assert (result.release, result.files) == ("", ())
    assert {each.check for each in result.findings} >= {"dag_files_unread", "dag_rules_AIR301"}


def test_a_folder_that_is_not_there_is_a_mistake_of_the_user(runtimes: VenvRuntime, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        check_dag_files(
            runtimes,
            release="3.3.2",
            folder=str(tmp_path / "absent"),
            timeout=None,
            import_timeout=None,
            listener=Heard(),
        )
