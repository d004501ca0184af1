"""A deployment whose settings are one file: what every such file has in common."""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret

FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
SQL_ALCHEMY_CONN = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN")
"""The section is `database` from 2.3 on; 3.x still reads the old name."""
RESULT_BACKEND = "AIRFLOW__CELERY__RESULT_BACKEND"
SETTINGS = (
    "AIRFLOW__CORE__AUTH_MANAGER",
    "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS",
    "AIRFLOW__SCHEDULER__CREATE_DELTA_DATA_INTERVALS",
)
"""What decides how the target's own commands migrate and parse: FAB's tables, the timetables of its DAGs."""

# As SQLAlchemy 1.3 to 2.0 reads it: a password may hold / ? #, and the database's name is not decoded.
_DATABASE_IN_URL = re.compile(r"^([\w+]+://(?:[^:/]*(?::[^@]*)?@)?)([^/?]*/)([^?]*)(.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChange:
    """:param changed: names of the settings that were set
    :param backup: the file as it was before
    """

    path: str
    changed: tuple[str, ...]
    backup: str


class SettingsFile(ABC):
    """Read and change one file; every line that is not concerned stays as it is.

    Settings go by the names of their environment variables, ``AIRFLOW__SECTION__OPTION``, in every kind of file.

    :param path: the file, readable and writable here
    :raises InvalidInputError: it cannot be read or written
    """

    kind: ClassVar[str]

    def __init__(self, path: str) -> None:
        self.path = Path(path).resolve()
        try:
            self._text = self.path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as err:
            raise self._refusal(f"the file cannot be read ({_reason(err)})") from None
        if not os.access(self.path, os.W_OK) or not os.access(self.path.parent, os.W_OK):
            raise self._refusal("the file or its directory cannot be written")
        # A file is changed by putting another one in its place, which would then be ours.
        if os.geteuid() not in (0, self.path.stat().st_uid):
            raise self._refusal("the file belongs to another user, who could not read it any more")

    @abstractmethod
    def get(self, name: str) -> str | None:
        """The value of a setting, as the deployment reads it; None when the file does not say."""

    @abstractmethod
    def _written(self, name: str) -> str | None:
        """A value as it is written, quotes and escapes and all."""

    @abstractmethod
    def _spell(self, name: str, value: str) -> str:
        """How a new value without blanks is written in the place of the present one."""

    @abstractmethod
    def _with_database(self, written: str, database: str) -> str:
        """A connection string with another database, otherwise written as it was."""

    @abstractmethod
    def _with(self, values: Mapping[str, str]) -> str:
        """The file's text with these settings, which are given as they are to be written."""

    def fernet_keys(self) -> Secret:
        return Secret(self.get(FERNET_KEY) or "")

    def set_fernet_keys(self, keys: Secret, token: str) -> SettingsChange:
        """Give the deployment these keys; it takes them up when it is restarted."""
        if self.get(FERNET_KEY) == keys.reveal():
            return self._change({}, token)
        return self._change({FERNET_KEY: self._spell(FERNET_KEY, keys.reveal())}, token)

    def connected_database(self) -> str | None:
        """Name of the database that the deployment is told to use; None when the file does not say."""
        for name in SQL_ALCHEMY_CONN:
            match = _DATABASE_IN_URL.match(self.get(name) or "")
            if match:
                return match[3]
        return None

    def point_to(self, database: str, token: str) -> SettingsChange:
        """Put another database into the connection string, and into a result backend beside it.

        Host, role and password stay: only the deployment itself knows how it reaches its server.
        """
        return self._change(self._pointed(database), token)

    def check(self, database: str) -> None:
        """See whether the file could be given a key and be pointed to this database; changes nothing.

        :raises InvalidInputError: it could not
        """
        self._with(self._pointed(database) | {FERNET_KEY: self._spell(FERNET_KEY, "any")})

    def restore(self, token: str) -> bool:
        """Undo of every change of a migration: the file is again what it was.

        :returns: False when this migration has not changed it
        """
        backup = self._backup(token)
        if not backup.exists():
            return False
        os.replace(backup, self.path)
        return True

    def _pointed(self, database: str) -> dict[str, str]:
        """The settings that must name the database, with their new values as they are to be written."""
        places = {name: _place(self.get(name)) for name in (*SQL_ALCHEMY_CONN, RESULT_BACKEND)}
        present = next((places[name] for name in SQL_ALCHEMY_CONN if places[name]), None)
        if present is None or present[1] == database:
            return {}
        return {
            name: self._with_database(self._written(name) or "", database)
            for name, place in places.items()
            if place == present
        }

    def _backup(self, token: str) -> Path:
        return self.path.with_name(f"{self.path.name}.before-{token}")

    def _change(self, values: Mapping[str, str], token: str) -> SettingsChange:
        """Give settings values, which are written as they are."""
        backup = self._backup(token)
        if values:
            text = self._with(values)
            if not backup.exists():
                self._write(backup, self.path.read_bytes())
            self._write(self.path, text.encode())
            self._text = text
        return SettingsChange(path=str(self.path), changed=tuple(values), backup=str(backup))

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

    def _refusal(self, problem: str, remedy: str | None = None) -> InvalidInputError:
        return InvalidInputError(
            problem,
            where=f"control {self.kind} {self.path}",
            remedy=remedy or "Give the path of the deployment's settings, where the control Airflow may write them",
        )


def split_at_database(url: str) -> tuple[str, str]:
    """What stands before and after the database's name in a connection string."""
    match = _DATABASE_IN_URL.match(url)
    assert match is not None
    return match[1] + match[2], match[4]


def _place(url: str | None) -> tuple[str, str] | None:
    """Host and database of a connection string."""
    match = _DATABASE_IN_URL.match(url or "")
    return (match[2].removesuffix("/").removesuffix(":5432"), match[3]) if match else None


def _reason(err: OSError | UnicodeDecodeError) -> str:
    return err.strerror or type(err).__name__ if isinstance(err, OSError) else "it is not UTF-8"
