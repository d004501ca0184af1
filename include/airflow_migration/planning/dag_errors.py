"""Read what kind of trouble an import error of a DAG file is: a person mends each kind in another place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from airflow_migration.runtimes.redaction import Redactor

Trouble = Literal[
    "timed_out",  # longer than it was given
    "removed",  # a name of Airflow's own that the release does not have
    "missing_provider",  # a provider that the runtime does not have
    "missing_module",  # another module that the runtime does not have
    "syntax",
    "needs_database",  # reads a Variable or Connection, and there is none
    "needs_environment",  # reads an environment variable, and there is none
    "died",  # ended its own process
    "not_reached",
    "error",
]

LONGEST = 300
"""Characters of an error that are kept."""
PROVIDERS = "airflow.providers."
# Providers whose name has two parts (the namespaces of airflow/providers/ as of 3.3.2).
TWO_PARTS = {"apache", "atlassian", "cncf", "common", "dbt", "microsoft"}

FRAME = re.compile(r'^\s+File "(?P<file>.+?)", line (?P<line>\d+)(?:,? in (?P<where>.+))?$', re.M)
MESSAGE = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?::\s+(?P<text>.*))?$")
NO_MODULE = re.compile(r"No module named '([\w.]+)'")
NO_NAME = re.compile(r"cannot import name '(\w+)' from (?:partially initialized module )?'([\w.]+)'")
NO_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
# Airflow 2.x and 3.x; sqlite's words where 1.10 lets them through.
NO_DATABASE = re.compile(
    r"Variable .+ does not exist|The conn_id `.*` isn't defined|no such table: |VARIABLE_NOT_FOUND"
    r"|CONNECTION_NOT_FOUND|[Vv]ariable .+ not found|[Cc]onnection .+ not found"
)
# os.environ[…]; from Python 3.11 on that module is frozen.
IN_OS = re.compile(r"^<frozen os>$|/os\.py$")
WHERE_INSTALLED = re.compile(r" \(/[^()]*/site-packages/[^()]*\)$")
SYNTAX = ("SyntaxError", "IndentationError", "TabError")
SYNTAX_IN_1_10 = re.compile(r"^(invalid syntax|unexpected indent|unindent).* \((?P<file>[^(),]+), line (?P<line>\d+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportFailure:
    """One import error.

    :param error: class and message in one line, without logins and values of rows
    :param line: the line that was being run in the file concerned; None when the release does not tell it
    :param name: module or name that was not found, dotted
    """

    trouble: Trouble
    error: str
    line: int | None = None
    name: str = ""


def read_failure(text: str, path: Path) -> ImportFailure:
    """What a release has noted as import error: a traceback from 2.0 on, before that only the message.

    :param path: the DAG file
    """
    frames = list(FRAME.finditer(text))
    kind, message = _message(text, frames[-1] if frames else None)
    trouble, name = _trouble(kind, message)
    if kind == "KeyError" and frames and IN_OS.search(frames[-1]["file"]):
        trouble = "needs_environment"
    line = next((int(frame["line"]) for frame in reversed(frames) if Path(frame["file"]) == path), None)
    if line is None and (found := SYNTAX_IN_1_10.search(message)):
        trouble, line = "syntax", int(found["line"])
    plain = WHERE_INSTALLED.sub("", message)
    shown = Redactor([]).clean(f"{kind.rpartition('.')[2]}: {plain}" if kind else plain)
    return ImportFailure(trouble=trouble, error=shorten(shown), line=line, name=name)


def stands_at(text: str, path: Path) -> int | None:
    """The line of the file that runs, in a list of frames that begins with the most recent one."""
    return next((int(frame["line"]) for frame in FRAME.finditer(text) if Path(frame["file"]) == path), None)


def provider_package(module: str) -> str:
    """The package that brings a module ``airflow.providers.…``."""
    parts = module.removeprefix(PROVIDERS).split(".")
    wanted = parts[: 2 if parts[0] in TWO_PARTS else 1]
    return "-".join(["apache-airflow-providers", *(part.replace("_", "-") for part in wanted)])


def imported_at(source: str, line: int) -> Iterator[tuple[str, str]]:
    """Module and name of each import that the statement at a line makes; the name is empty for ``import module``."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if node.lineno <= line <= (node.end_lineno or node.lineno):
            if isinstance(node, ast.Import):
                yield from ((each.name, "") for each in node.names)
            elif node.module and not node.level:
                yield from ((node.module, each.name) for each in node.names if each.name != "*")


def shorten(text: str) -> str:
    """One line, not too long, of what can be kept everywhere."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def printable(text: str) -> str:
    """Without what jsonb (NUL) or UTF-8 (a lone surrogate, as of a file name in Latin-1) cannot hold."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _message(text: str, last: re.Match[str] | None) -> tuple[str, str]:
    """Class and first line of the message: what stands unindented after the last frame."""
    lines = [line for line in text[last.end() if last else 0 :].splitlines() if line and not line[0].isspace()]
    first = lines[0] if lines else text.strip()
    found = MESSAGE.match(first)
    if found and (last or "." in first or ":" in first):
        return found["kind"], found["text"] or ""
    return "", first


def _trouble(kind: str, message: str) -> tuple[Trouble, str]:
    if kind in SYNTAX:
        return "syntax", ""
    if NO_DATABASE.search(message):
        return "needs_database", ""
    if found := NO_MODULE.search(message):
        return _absent(found[1]), found[1]
    if found := NO_NAME.search(message) or NO_ATTRIBUTE.search(message):
        module, name = (found[2], found[1]) if "cannot import" in found[0] else (found[1], found[2])
        if module.partition(".")[0] == "airflow":
            return "removed", f"{module}.{name}"
    return "error", ""


def _absent(module: str) -> Trouble:
    if module.partition(".")[0] != "airflow":
        return "missing_module"
    return "missing_provider" if f"{module}.".startswith(PROVIDERS) else "removed"
