"""A deployment whose settings are a file of environment variables (systemd, compose, `set -a; . file`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from airflow_migration.deployments.settings_file import SettingsFile, split_at_database

_ASSIGNMENT = re.compile(r"^(\s*(?:export\s+)?)([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_WORD = re.compile(r"[\w@%+=:,./-]*")


class EnvFile(SettingsFile):
    """A file of ``NAME=value`` lines; the last assignment counts, as in a shell."""

    kind = "env_file"

    def get(self, name: str) -> str | None:
        """The value of a variable, unquoted."""
        written = self._written(name)
        return None if written is None else _unquote(written)

    def _written(self, name: str) -> str | None:
        written = None
        for line in self._lines():
            match = _ASSIGNMENT.match(line.rstrip("\r\n"))
            if match and match[2] == name:
                written = match[3]
        return written

    def _spell(self, name: str, value: str) -> str:
        quote, _ = _split(self._written(name) or "")
        return f"{quote}{value}{quote}"

    def _with_database(self, written: str, database: str) -> str:
        """A connection string with another database, quoted as it was wherever the name lets it.

        The rest stays as it is written: it may hold ``$NAMES`` for a shell, and ``docker run --env-file`` takes
        quotes for a part of the value.
        """
        quote, inner = _split(written)
        before, after = split_at_database(inner)
        if quote == "'" and "'" in database:
            quote, before, after = '"', _escape(before), _escape(after)
        elif not quote and not _WORD.fullmatch(database):
            quote = '"'
        name = _escape(database) if quote == '"' else database
        return f"{quote}{before}{name}{after}{quote}"

    def _with(self, values: Mapping[str, str]) -> str:
        rest = [line for line in self._lines() if not _assigns(line, values)]
        if rest and not rest[-1].endswith("\n"):
            rest[-1] += "\n"
        prefix = "export " if any(line.lstrip().startswith("export ") for line in self._lines()) else ""
        return "".join([*rest, *(f"{prefix}{name}={value}\n" for name, value in values.items())])

    def _without(self, names: Collection[str]) -> str:
        return "".join(line for line in self._lines() if not _assigns(line, names))

    def _lines(self) -> list[str]:
        return self._text.splitlines(keepends=True)


def _assigns(line: str, names: Collection[str]) -> bool:
    match = _ASSIGNMENT.match(line.rstrip("\r\n"))
    return bool(match and match[2] in names)


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
