"""Environments of real releases whose commands start at once: each is a fork of a process that has imported it all.

Of the 4 s of processor time that ``airflow db migrate`` of 3.3.2 takes on a small database, 3 are imports, and nearly
all of the 3 s of ``connections get``. What a test shows of the runtime itself, it shows without this.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from airflow_migration.metadata.releases import version_number
from airflow_migration.progress import Listener
from airflow_migration.runtimes.venv import VenvRuntime

# Takes the place of `airflow`: hands environment, arguments and files to the process that has imported the release.
# libpq reads its environment when it connects, and the settings left out of the key are read when they are used.
CLIENT = """#!{python} -IS
import fcntl, hashlib, json, os, socket, subprocess, sys, time

READ_LATE = ("__FERNET_KEY", "__DAGS_FOLDER", "__PLUGINS_FOLDER", "__SQL_ALCHEMY_CONN", "__LOAD_DEFAULT_CONNECTIONS")
environment, folder, url = dict(os.environ), {folder!r}, "postgresql+psycopg2:///"
STAY = ("api-server", "dag-processor", "scheduler", "standalone", "triggerer", "webserver")
# What is no command of the runtime.
if sys.argv[1] in STAY or environment.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url) != url:
    os.execv({airflow!r}, [{airflow!r}, *sys.argv[1:]])
names = [name for name in sorted(environment) if name.startswith("AIRFLOW__") and not name.endswith(READ_LATE)]
known = [(name, environment[name]) for name in names]
place = folder + "/" + hashlib.sha256(repr(known).encode()).hexdigest()[:12]

def connect():
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(place)
    except OSError:
        return None
    return connection

def start():
    own = environment | dict.fromkeys(("AIRFLOW_HOME", "HOME"), folder)
    own |= {{"AIRFLOW__CORE__DAGS_FOLDER": folder + "/dags", "AIRFLOW__CORE__PLUGINS_FOLDER": folder + "/plugins"}}
    own |= {{"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}}
    own |= {{"AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False"}}
    with open(place + ".log", "ab") as log:
        server = subprocess.Popen([{python!r}, {server!r}, place, "{owner}"], env=own, cwd=folder,
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    while not (connection := connect()):
        assert server.poll() is None, open(place + ".log").read()
        time.sleep(0.05)
    return connection

connection = connect()
if not connection:
    with open(place + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = connect() or start()
socket.send_fds(connection, [b"."], [0, 1, 2])
connection.sendall(json.dumps([environment, sys.argv[1:], os.getcwd()]).encode())
connection.shutdown(socket.SHUT_WR)
code = connection.recv(9)
sys.exit(int(code) if code else "the command was killed")
"""

# Ends with the process that runs the tests.
SERVER = """
import json, os, signal, socket, sys, traceback
from contextlib import suppress
from airflow.__main__ import main
from airflow import settings
from airflow.cli.commands import db_command
from airflow.configuration import conf
from airflow.utils import db
from sqlalchemy.orm import configure_mappers

def run(argv):
    sys.argv = ["airflow", *argv]
    settings.DAGS_FOLDER = conf.get("core", "dags_folder")
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

def serve(connection):
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
    text = b"".join(iter(lambda: connection.recv(65536), b""))
    environment, argv, directory = json.loads(text)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    code = run(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(b"%d" % code)

def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

with suppress(ImportError):
    # What migrations of 2.x bring in when they look at roles.
    import airflow.www.app, airflow.providers.fab.auth_manager.security_manager.override
db.import_all_models()
configure_mappers()
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
listener.listen(16)
listener.settimeout(2)
os.rename(sys.argv[1] + ".new", sys.argv[1])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        if not lives(int(sys.argv[2])):
            break
        continue
    if not os.fork():
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            serve(connection)
        finally:
            os._exit(0)
    connection.close()
"""


class WarmRuntime(VenvRuntime):
    """Builds what is missing, as the other does.

    :param folder: where the environments are made, for every process of these tests
    :param owner: process with which everything ends
    """

    def __init__(self, root: Path, folder: Path, owner: int) -> None:
        super().__init__(root=root)
        self._folder, self._owner = folder, owner

    def prepare(self, release: str, listener: Listener) -> Path:
        real = super().prepare(release, listener)
        if version_number(release) < (2, 11):
            return real
        path = self._folder / real.name
        if not path.exists():
            own = Path(f"{path}.{os.getpid()}")
            self._make(real, own, path)
            with suppress(OSError):  # Another process was first.
                own.rename(path)
        return path

    def _make(self, real: Path, own: Path, path: Path) -> None:
        """The real one but for its `airflow`."""
        (own / "bin").mkdir(parents=True)
        (own / "dags").mkdir()
        for each in [*real.iterdir(), *(real / "bin").iterdir()]:
            if each.name not in ("bin", "airflow"):
                (own / each.relative_to(real)).symlink_to(each)
        (own / "serve.py").write_text(SERVER)
        places = {"python": real / "bin" / "python", "airflow": real / "bin" / "airflow"}
        places |= {"folder": path, "server": path / "serve.py"}
        client = CLIENT.format(owner=self._owner, **{name: str(place) for name, place in places.items()})
        (own / "bin" / "airflow").write_text(client)
        (own / "bin" / "airflow").chmod(0o755)
