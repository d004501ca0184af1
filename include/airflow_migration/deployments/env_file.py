"""A deployment whose settings are a file of environment variables (systemd, compose, `set -a; . file`)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret

FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
SQL_ALCHEMY_CONN = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN")
"""The section is `database` from 2.3 on; 3.x still reads the old name."""
RESULT_BACKEND = "AIRFLOW__CELERY__RESULT_BACKEND"
AUTH_MANAGER = "AIRFLOW__CORE__AUTH_MANAGER"
SETTINGS = (
    AUTH_MANAGER,
    "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS",
    "AIRFLOW__SCHEDULER__CREATE_DELTA_DATA_INTERVALS",
    "AIRFLOW__LOGGING__LOG_FILENAME_TEMPLATE",
)
"""What decides how the target's own commands migrate and parse: FAB's tables, the timetables of its DAGs, and
where its logs are looked for (`synchronize_log_template` of airflow/utils/db.py notes it while it migrates)."""

_ASSIGNMENT = re.compile(r"^(\s*(?:export\s+)?)([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
# As SQLAlchemy 1.3 to 2.0 reads it: a password may hold / ? #, and the database's name is not decoded.
_DATABASE_IN_URL = re.compile(r"^([\w+]+://(?:[^:/]*(?::[^@]*)?@)?)([^/?]*/)([^?]*)(.*)$", re.DOTALL)
_WORD = re.compile(r"[\w@%+=:,./-]*")


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
        self.path = Path(path).resolve()
        try:
            self._lines = self.path.read_bytes().decode().splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as err:
            raise self._refusal(f"the file cannot be read ({_reason(err)})") from None
        if not os.access(self.path, os.W_OK) or not os.access(self.path.parent, os.W_OK):
            raise self._refusal("the file or its directory cannot be written")
        # A file is changed by putting another one in its place, which would then be ours.
        if os.geteuid() not in (0, self.path.stat().st_uid):
            raise self._refusal("the file belongs to another user, who could not read it any more")

    def get(self, name: str) -> str | None:
        """The value of a variable, unquoted; the last assignment counts, as in a shell."""
        written = self._written(name)
        return None if written is None else _unquote(written)

    def _written(self, name: str) -> str | None:
        """A value as it is written, quotes and all."""
        written = None
        for line in self._lines:
            match = _ASSIGNMENT.match(line.rstrip("\r\n"))
            if match and match[2] == name:
                written = match[3]
        return written

    def fernet_keys(self) -> Secret:
        return Secret(self.get(FERNET_KEY) or "")

    def set_fernet_keys(self, keys: Secret, token: str) -> EnvFileChange:
        """Give the deployment these keys; it takes them up when it is restarted."""
        if self.get(FERNET_KEY) == keys.reveal():
            return self._change({}, token)
        quote, _ = _split(self._written(FERNET_KEY) or "")
        return self._change({FERNET_KEY: f"{quote}{keys.reveal()}{quote}"}, token)

    def connected_database(self) -> str | None:
        """Name of the database that the deployment is told to use; None when the file does not say."""
        for name in SQL_ALCHEMY_CONN:
            match = _DATABASE_IN_URL.match(self.get(name) or "")
            if match:
                return match[3]
        return None

    def point_to(self, database: str, token: str) -> EnvFileChange:
        """Put another database into the connection string, and into a result backend beside it.

        Host, role and password stay: only the deployment itself knows how it reaches its server.
        """
        places = {name: _place(self.get(name)) for name in (*SQL_ALCHEMY_CONN, RESULT_BACKEND)}
        present = next((places[name] for name in SQL_ALCHEMY_CONN if places[name]), None)
        if present is None or present[1] == database:
            return self._change({}, token)
        return self._change(
            {
                name: _with_database(self._written(name) or "", database)
                for name, place in places.items()
                if place == present
            },
            token,
        )

    def set_settings(self, settings: Mapping[str, str], token: str) -> EnvFileChange:
        """Give the deployment settings, which it takes up when it is restarted.

        :param settings: variable → value, of letters and digits
        """
        return self._change({name: value for name, value in settings.items() if self.get(name) != value}, token)

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
        """Give variables values, which are written as they are."""
        backup = self._backup(token)
        if values:
            self._keep_backup(backup)
            rest = [line for line in self._lines if not self._assigns(line, values)]
            if rest and not rest[-1].endswith("\n"):
                rest[-1] += "\n"
            self._lines = rest + [f"{self._prefix()}{name}={value}\n" for name, value in values.items()]
            self._write(self.path, "".join(self._lines).encode())
        return EnvFileChange(path=str(self.path), changed=tuple(values), backup=str(backup))

    def _prefix(self) -> str:
        return "export " if any(line.lstrip().startswith("export ") for line in self._lines) else ""

    @staticmethod
    def _assigns(line: str, names: dict[str, str]) -> bool:
        match = _ASSIGNMENT.match(line.rstrip("\r\n"))
        return bool(match and match[2] in names)

    def _keep_backup(self, backup: Path) -> None:
        if not backup.exists():
            self._write(backup, self.path.read_bytes())

    def _write(self, path: Path, content: bytes) -> None:
        """Replace a file in one step, with the owner and the rights of the deployment's file."""
        was = self.path.stat()
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
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


def _split(written: str) -> tuple[str, str]:
    """The quote around a value, or none, and what is within."""
    written = written.strip()
    if len(written) >= 2 and written[0] == written[-1] and written[0] in "'\"":
        return written[0], written[1:-1]
    return "", written


def _unquote(written: str) -> str:
    quote, inner = _split(written)
    return re.sub(r'\\([\\"$`])', r"\1", inner) if quote == '"' else inner


def _escape(text: str) -> str:
    """For double quotes, as shells, systemd and compose read them."""
    return re.sub(r'([\\"$`])', r"\\\1", text)


def _place(url: str | None) -> tuple[str, str] | None:
    """Host and database of a connection string."""
    match = _DATABASE_IN_URL.match(url or "")
    return (match[2].removesuffix("/").removesuffix(":5432"), match[3]) if match else None


def _with_database(written: str, database: str) -> str:
    """A connection string with another database, quoted as it was wherever the name lets it.

    The rest stays as it is written: it may hold ``$NAMES`` for a shell, and ``docker run --env-file`` takes
    quotes for a part of the value.
    """
    quote, inner = _split(written)
    match = _DATABASE_IN_URL.match(inner)
    assert match is not None
    before, after = match[1] + match[2], match[4]
    if quote == "'" and "'" in database:
        quote, before, after = '"', _escape(before), _escape(after)
    elif not quote and not _WORD.fullmatch(database):
        quote = '"'
    name = _escape(database) if quote == '"' else database
    return f"{quote}{before}{name}{after}{quote}"
