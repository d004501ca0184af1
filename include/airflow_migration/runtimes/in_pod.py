"""Runs inside a pod, by that image's own Python (3.6 or newer): an `airflow` command whose output nobody can read.

Whoever may read a pod's log, or collects it, must not find a row or a password there: each line is encrypted with a key
that only this pod and the migration know. Nothing but the standard library and Airflow's own dependencies is used.
"""

import os
import subprocess
import sys
import tempfile
import threading
from typing import IO

from cryptography.fernet import Fernet

WIDTH = 4096


def main() -> int:
    """Run `airflow` with our arguments; its exit code."""
    seal = Fernet(os.environ.pop("AIRFLOW_MIGRATION_SEAL").encode())
    home = tempfile.mkdtemp(prefix="airflow-migration-")
    os.mkdir(os.path.join(home, "dags"))
    os.environ["AIRFLOW_HOME"] = home
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = os.path.join(home, "dags")
    os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = os.path.join(home, "plugins")
    write_files(home)
    argv = ["airflow"] + sys.argv[1:]  # noqa: RUF005
    argv += wanted_options(argv)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home)
    readers = [
        threading.Thread(target=hand_on, args=(number, stream, seal))
        for number, stream in (("1", process.stdout), ("2", process.stderr))
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return process.wait()


def write_files(home: str) -> None:
    """Put certificates where libpq finds them, readable by us alone."""
    prefix = "AIRFLOW_MIGRATION_FILE_"
    for name in [name for name in os.environ if name.startswith(prefix)]:
        path = os.path.join(home, name)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(os.environ.pop(name))
        os.environ[name[len(prefix) :]] = path


def wanted_options(argv: "list[str]") -> "list[str]":
    """Those of the wished options that the command's help knows."""
    wished = os.environ.pop("AIRFLOW_MIGRATION_OPTIONS", "").split()
    if not wished:
        return []
    text = subprocess.run(argv + ["--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout  # noqa: RUF005
    words = text.decode("utf-8", "replace").replace(",", " ").replace("[", " ").replace("]", " ").split()
    return [option for option in wished if option in words]


LOCK = threading.Lock()


def hand_on(number: str, stream: "IO[bytes]", seal: Fernet) -> None:
    """Print each line encrypted, in parts that no container runtime breaks."""
    for line in stream:
        token = seal.encrypt(line.rstrip(b"\n")).decode()
        with LOCK:
            while token:
                part, token = token[:WIDTH], token[WIDTH:]
                sys.stdout.write("%s%s %s\n" % (number, "+" if token else ".", part))  # noqa: UP031
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
