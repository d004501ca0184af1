"""Have ruff look for what Airflow 3 has removed, moved or wants otherwise: it runs nothing, and tells file and line.

Which rules there are: https://docs.astral.sh/ruff/rules/#airflow-air. All of them speak of 3.0; for an older target
only the names of what has moved into providers are of use.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_migration.exceptions import ToolError
from airflow_migration.metadata.releases import Release
from airflow_migration.planning.dag_errors import printable, shorten
from airflow_migration.runtimes.home import own_home
from airflow_migration.runtimes.programs import find_program
from airflow_migration.runtimes.silent import SilentCommand

BREAKING = ("AIR002", "AIR301", "AIR302", "AIR303")
"""No longer works in 3.0, or means something else there: a DAG without a schedule (AIR002) was a daily one before."""
LATER = ("AIR311", "AIR312")
"""Works in 3.x still."""
MOVED = ("AIR302",)
PLACES = 50
"""Most places that are kept of one rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePlace:
    """One place that a rule names.

    :param path: relative to the DAGs folder
    :param fix: what to write there instead; empty when ruff does not know
    """

    path: str
    line: int
    message: str
    fix: str

    @property
    def hint(self) -> str:
        return self.fix or self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFindings:
    """What one rule found.

    :param count: places in all
    :param files: files that they are in
    :param places: the first of them
    """

    rule: str
    name: str
    count: int
    files: int
    places: tuple[RulePlace, ...]


def rules_for(target: Release) -> tuple[str, ...]:
    """The rules that matter to a move to this release."""
    return (*BREAKING, *LATER) if target.number >= (3,) else ()


def run_rules(rules: Sequence[str], folder: Path) -> list[tuple[str, str, RulePlace]]:
    """Code, name and place of everything that the rules find in a folder, in order of file and line.

    Files that .airflowignore names are read as well: DAG files may import them.

    :raises InvalidInputError: ruff is not installed
    :raises ToolError: ruff is too old, or cannot read the folder
    """
    if not rules:
        return []
    argv: list[str | Path] = [find_ruff(), "check", "--isolated", "--no-cache", "--exit-zero", "--ignore-noqa"]
    argv += ["--no-respect-gitignore", "--output-format", "json", "--select", ",".join(rules), folder]
    with own_home() as home:
        output = SilentCommand("ruff", {"HOME": str(home)}).run(argv, directory=home)
    if output.exit_code:
        raise ToolError(
            f"ruff ended with {output.exit_code}: {shorten(output.errors.reveal())}",
            where=f"rules for the DAG files in {folder}",
            remedy="Check that this Airflow may read the folder, and that ruff is 0.16 or newer",
        )
    found = [_read(each, folder) for each in json.loads(output.output.reveal()) if each["code"] in rules]
    return sorted(found, key=lambda each: (each[2].path, each[2].line, each[0]))


def by_rule(found: Iterable[tuple[str, str, RulePlace]]) -> tuple[RuleFindings, ...]:
    """The same, gathered by rule."""
    places: dict[tuple[str, str], list[RulePlace]] = defaultdict(list)
    for code, name, place in found:
        places[code, name].append(place)
    return tuple(
        RuleFindings(
            rule=code,
            name=name,
            count=len(each),
            files=len({place.path for place in each}),
            places=tuple(each[:PLACES]),
        )
        for (code, name), each in sorted(places.items())
    )


def replacements(names: Iterable[tuple[str, str]], target: Release) -> dict[tuple[str, str], str]:
    """What to import instead of a module's name, where ruff knows it.

    A rule names the places where something is used, not those where it is imported; so each is asked for by itself.
    """
    asked = list(dict.fromkeys(names))
    rules = tuple(rule for rule in rules_for(target) if rule != "AIR002") or MOVED
    if not asked:
        return {}
    with own_home() as home:
        folder = home / "names"
        folder.mkdir()
        for number, (module, name) in enumerate(asked):
            line = f"from {module} import {name}\n{name}\n" if name else f"import {module}\n{module}\n"
            (folder / f"{number}.py").write_text(line)
        found = run_rules(rules, folder)
    return {asked[int(Path(place.path).stem)]: place.hint for _, _, place in reversed(found)}


def find_ruff() -> Path:
    """The ruff that came with this package, else one on PATH.

    :raises InvalidInputError: there is none
    """
    return find_program(
        "ruff",
        what="knows what Airflow 3 has removed",
        where="rules for DAG files",
        remedy="Install the Python package ruff beside this one",
    )


def _read(diagnostic: Mapping[str, Any], folder: Path) -> tuple[str, str, RulePlace]:
    path = Path(diagnostic["filename"])
    place = RulePlace(
        path=printable(str(path.relative_to(folder) if path.is_relative_to(folder) else path)),
        line=diagnostic["location"]["row"],
        message=shorten(diagnostic["message"]),
        fix=shorten((diagnostic["fix"] or {}).get("message") or ""),
    )
    return diagnostic["code"], diagnostic["name"], place
