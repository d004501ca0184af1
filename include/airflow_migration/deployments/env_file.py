"""A deployment whose settings are a file of environment variables (systemd, compose, `set -a; . file`)."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret

FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
SQL_ALCHEMY_CONN = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN")
"""The section is `database` from 2.3 on; 3.x still reads the old name."""
RESULT_BACKEND = "AIRFLOW__CELERY__RESULT_BACKEND"
AUTH_MANAGER = "AIRFLOW__CORE__AUTH_MANAGER"

_ASSIGNMENT = re.compile(r"^(\s*(?:export\s+)?)([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_DATABASE_IN_URL = re.compile(r"^([^:/?#]+://[^/?#]*/)([^?#]*)(.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFileChange:
    """:param changed: names of the variables that were set
    :param backup: the file as it was before
    """

    path: str
    changed: tuple[str, ...]
    backup: str


class EnvFile:
    """Read and change one file; every line that is not concerned stays as it is.

    :param path: the file, readable and writable here
    :raises InvalidInputError: it cannot be read or written
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        try:
            self._lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as err:
            raise self._refusal(f"the file cannot be read ({_reason(err)})") from None
        if not os.access(self.path, os.W_OK) or not os.access(self.path.parent, os.W_OK):
            raise self._refusal("the file or its directory cannot be written")

    def get(self, name: str) -> str | None:
        """The value of a variable, unquoted; the last assignment counts, as in a shell."""
        value = None
        for line in self._lines:
            match = _ASSIGNMENT.match(line.rstrip("\r\n"))
            if match and match[2] == name:
                value = _unquote(match[3])
        return value

    def fernet_keys(self) -> Secret:
        return Secret(self.get(FERNET_KEY) or "")

    def set_fernet_keys(self, keys: Secret, token: str) -> EnvFileChange:
        """Give the deployment these keys; it takes them up when it is restarted."""
        return self._change({FERNET_KEY: keys.reveal()}, token)

    def connected_database(self) -> str | None:
        """Name of the database that the deployment is told to use; None when the file does not say."""
        for name in SQL_ALCHEMY_CONN:
            match = _DATABASE_IN_URL.match(self.get(name) or "")
            if match:
                return unquote(match[2])
        return None

    def point_to(self, database: str, token: str) -> EnvFileChange:
        """Put another database into the connection string, and into a result backend beside it.

        Host, role and password stay: only the deployment itself knows how it reaches its server.
        """
        present = self.connected_database()
        values: dict[str, str] = {}
        for name in (*SQL_ALCHEMY_CONN, RESULT_BACKEND):
            match = _DATABASE_IN_URL.match(self.get(name) or "")
            if match and unquote(match[2]) == present and present != database:
                values[name] = f"{match[1]}{quote(database, safe='')}{match[3]}"
        return self._change(values, token)

    def restore(self, token: str) -> bool:
        """Undo of every change of a migration: the file is again what it was.

        :returns: False when this migration has not changed it
        """
        backup = self._backup(token)
        if not backup.exists():
            return False
        os.replace(backup, self.path)
        return True

    def _backup(self, token: str) -> Path:
        return self.path.with_name(f"{self.path.name}.before-{token}")

    def _change(self, values: dict[str, str], token: str) -> EnvFileChange:
        wanted = {name: value for name, value in values.items() if self.get(name) != value}
        backup = self._backup(token)
        if wanted:
            self._keep_backup(backup)
            rest = [line for line in self._lines if not self._assigns(line, wanted)]
            if rest and not rest[-1].endswith("\n"):
                rest[-1] += "\n"
            self._lines = rest + [f"{self._prefix()}{name}={_quote(value)}\n" for name, value in wanted.items()]
            self._write(self.path, "".join(self._lines))
        return EnvFileChange(path=str(self.path), changed=tuple(wanted), backup=str(backup))

    def _prefix(self) -> str:
        return "export " if any(line.lstrip().startswith("export ") for line in self._lines) else ""

    @staticmethod
    def _assigns(line: str, names: dict[str, str]) -> bool:
        match = _ASSIGNMENT.match(line.rstrip("\r\n"))
        return bool(match and match[2] in names)

    def _keep_backup(self, backup: Path) -> None:
        if not backup.exists():
            self._write(backup, self.path.read_text(encoding="utf-8"))

    def _write(self, path: Path, text: str) -> None:
        """Replace a file in one step, with the owner and the rights of the deployment's file."""
        was = self.path.stat()
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), stat.S_IMODE(was.st_mode))
            if os.geteuid() == 0:
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.fsync(file.fileno())
        os.replace(partial, path)

    def _refusal(self, problem: str) -> InvalidInputError:
        return InvalidInputError(
            problem,
            where=f"control env_file {self.path}",
            remedy="Give the path of the deployment's environment file, where the control Airflow may write it",
        )


def _reason(err: OSError | UnicodeDecodeError) -> str:
    return err.strerror or type(err).__name__ if isinstance(err, OSError) else "it is not UTF-8"


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def _quote(value: str) -> str:
    """Quotes only where a shell would need them; systemd and compose read both forms."""
    return value if re.fullmatch(r"[A-Za-z0-9_@%+=:,./?&-]*", value) and "&" not in value else f"'{value}'"
