"""PgBouncer's configuration, as the charts keep it in a secret: which database stands behind which name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_PORT = "6432"
_SECTION = re.compile(r"\s*\[\s*(\w+)\s*\]\s*")
_ENTRY = re.compile(r"""(\s*("?)(?P<name>[^"=;#]+?)\2\s*=\s*)(?P<pairs>.*?)\s*""")
_PAIR = re.compile(r"(\w+)\s*=\s*('(?:[^']|'')*'|\S+)")
_PLAIN = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """:param database: name on the server itself"""

    host: str
    port: int
    database: str


def read_databases(ini: str) -> dict[str, Behind]:
    """Names that clients use → what stands behind them; those that lead to a socket, or to no port, are left out."""
    found = {}
    for section, line in _lines(ini):
        entry = _ENTRY.fullmatch(line)
        if section != "databases" or entry is None:
            continue
        pairs = {name: _unquote(value) for name, value in _PAIR.findall(entry["pairs"])}
        port = pairs.get("port", "5432")
        if pairs.get("host") and port.isdecimal():
            name = entry["name"]
            found[name] = Behind(host=pairs["host"], port=int(port), database=pairs.get("dbname", name))
    return found


def read_options(ini: str) -> Mapping[str, str]:
    """Section ``[pgbouncer]``."""
    entries = [_ENTRY.fullmatch(line) for section, line in _lines(ini) if section == "pgbouncer"]
    return {entry["name"]: entry["pairs"] for entry in entries if entry}


def with_database(ini: str, name: str, database: str) -> str:
    """Another database behind a name, and behind all names that led to the same one."""
    known = read_databases(ini)
    concerned = {each for each, behind in known.items() if behind == known[name]}
    lines = []
    for section, line in _lines(ini):
        entry = _ENTRY.fullmatch(line)
        if section == "databases" and entry and entry["name"] in concerned:
            lines.append(entry[1] + _with_dbname(entry["pairs"], database))
        else:
            lines.append(line)
    return "\n".join(lines)


def _with_dbname(pairs: str, database: str) -> str:
    written = database if _PLAIN.fullmatch(database) else "'" + database.replace("'", "''") + "'"
    given, count = re.subn(r"\bdbname\s*=\s*('(?:[^']|'')*'|\S+)", lambda _: f"dbname={written}", pairs, count=1)
    return given if count else f"{pairs} dbname={written}"


def _lines(ini: str) -> list[tuple[str, str]]:
    """Each line with its section; comments belong to none."""
    section, lines = "", []
    for line in ini.split("\n"):
        header = _SECTION.fullmatch(line)
        if header:
            section = header[1]
        comment = line.lstrip().startswith((";", "#"))
        lines.append(("" if header or comment else section, line))
    return lines


def _unquote(value: str) -> str:
    return value[1:-1].replace("''", "'") if value.startswith("'") else value
