"""A deployment whose settings are one file: what every such file has in common."""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret

FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
SQL_ALCHEMY_CONN = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN")
"""The section is `database` from 2.3 on; 3.x still reads the old name."""
RESULT_BACKEND = "AIRFLOW__CELERY__RESULT_BACKEND"
SCHEMA_SETTINGS = ("AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA", "AIRFLOW__CORE__SQL_ALCHEMY_SCHEMA")
AUTH_MANAGER = "AIRFLOW__CORE__AUTH_MANAGER"
UPDATE_FAB_PERMS = "AIRFLOW__FAB__UPDATE_FAB_PERMS"
SETTINGS = (
    AUTH_MANAGER,
    UPDATE_FAB_PERMS,
    *SCHEMA_SETTINGS,
    "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS",
    "AIRFLOW__SCHEDULER__CREATE_DELTA_DATA_INTERVALS",
    "AIRFLOW__LOGGING__LOG_FILENAME_TEMPLATE",
)
"""What decides how the target's own commands migrate and parse: FAB's tables, the schema of all tables (which is
ours to set, and checked only), the timetables of its DAGs, and where its logs are looked for
(`synchronize_log_template` of airflow/utils/db.py notes it while it migrates)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsRestore:
    """:param restored: names of the settings that have their former value again
    :param left: settings that somebody else has changed since; they are as he left them
    :param backup: the file as it was before the migration, when something is left
    """

    path: str
    restored: tuple[str, ...]
    left: tuple[str, ...]
    backup: str | None


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

    @abstractmethod
    def _without(self, names: Collection[str]) -> str:
        """The file's text without these settings."""

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

    def set_settings(self, settings: Mapping[str, str], token: str) -> SettingsChange:
        """Give the deployment settings, which it takes up when it is restarted.

        :param settings: name → value, of letters and digits
        """
        wanted = {name: self._spell(name, value) for name, value in settings.items() if self.get(name) != value}
        return self._change(wanted, token)

    def check(self, database: str) -> None:
        """See whether the file could be given a key and be pointed to this database; changes nothing.

        :raises InvalidInputError: it could not
        """
        self._with(self._pointed(database) | {FERNET_KEY: self._spell(FERNET_KEY, "any")})

    def restore(
        self, token: str, *, keys: Secret, database: str, settings: Mapping[str, str]
    ) -> SettingsRestore | None:
        """Undo of every change of a migration, found by the backup that it kept.

        Where nobody else has changed the file it is again the very file that it was. Else only the settings that
        the migration set are put back, and of these only those that still have the value which it gave them; one
        that a person has set since stays, and so does the backup.

        :param keys: the keys that were set
        :param database: the database that was pointed to
        :param settings: the other settings that were set
        :returns: None when this migration has not changed the file
        """
        backup = self._backup(token)
        if not backup.exists():
            return None
        before = type(self)(str(backup))
        given = before._given(keys, database, settings)
        differing = [name for name in given if self._written(name) != before._written(name)]
        ours = [name for name in differing if self._written(name) == given[name]]
        left = [name for name in differing if name not in ours]
        if not left and self._without(given) == before._without(given):
            os.replace(backup, self.path)
        else:
            if ours:
                self._take_back(ours, before)
            if not left:
                backup.unlink()
        return SettingsRestore(
            path=str(self.path), restored=tuple(ours), left=tuple(left), backup=str(backup) if left else None
        )

    def _given(self, keys: Secret, database: str, settings: Mapping[str, str]) -> dict[str, str]:
        """What a migration writes into this file."""
        spelled = {name: self._spell(name, value) for name, value in settings.items()}
        return {FERNET_KEY: self._spell(FERNET_KEY, keys.reveal())} | self._pointed(database) | spelled

    def _take_back(self, names: list[str], before: SettingsFile) -> None:
        former = {name: before._written(name) for name in names}
        self._text = self._with({name: written for name, written in former.items() if written is not None})
        self._text = self._without([name for name, written in former.items() if written is None])
        self._write(self.path, self._text.encode())

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
