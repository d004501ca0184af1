"""What the target makes of the user's own files: DAG files and an airflow.cfg."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_migration.planning.report_page.figures import several
from airflow_migration.planning.report_page.markup import NOTHING, Html, Node, more, section, table, tag

TROUBLES = {
    "timed_out": "takes too long",
    "removed": "imports what is gone",
    "missing_provider": "needs a provider",
    "missing_module": "needs a module",
    "syntax": "is no valid Python",
    "needs_database": "reads a Variable or Connection",
    "needs_environment": "reads an environment variable",
    "died": "ends its process",
    "not_reached": "was not read in time",
    "error": "fails",
}


def dag_files(found: Mapping[str, Any] | None) -> Html:
    """The section of the DAG files: those with trouble in sight, the others and the rules on demand."""
    if not found:
        return NOTHING
    bad = [file for file in found["files"] if file["trouble"]]
    good = [file for file in found["files"] if not file["trouble"]]
    return section(
        "dag-files",
        "DAG files, as the target reads them",
        tag("p", _summary(found, len(bad))),
        table("DAG files with trouble", ("File", "Trouble", "What to do", "Error", "Seconds"), map(_bad, bad)),
        more(
            f"{several(len(good), 'file')} imported, the slowest first",
            table("DAG files imported", ("File", "Seconds", "Of the processor", "DAGs"), map(_good, good)),
        ),
        *(_rule(rule) for rule in found["rules"]),
    )


def _summary(found: Mapping[str, Any], bad: int) -> str:
    if not found["release"]:
        return "The runtime is a pod, in which they cannot be seen: only ruff has read them."
    return (
        f"Airflow {found['release']} imports {found['count'] - bad} of {several(found['count'], 'file')} with"
        f" {several(found['dags'], 'DAG')} in {found['parse_seconds']:.1f} s. Each was given {found['timeout']:g} s;"
        f" the target gives it {found['import_timeout']:g} s."
    )


def _bad(file: Mapping[str, Any]) -> tuple[Node, ...]:
    place = f"{file['path']}:{file['line']}" if file["line"] else file["path"]
    trouble = TROUBLES.get(file["trouble"], file["trouble"])
    return tag("code", place), trouble, file["remedy"], file["error"], f"{file['seconds']:.1f}"


def _good(file: Mapping[str, Any]) -> tuple[Node, ...]:
    used = file["cpu_seconds"]
    seconds = f"{file['seconds']:.2f}", "" if used is None else f"{used:.2f}"
    return tag("code", file["path"]), *seconds, ", ".join(file["dag_ids"])


def _rule(rule: Mapping[str, Any]) -> Html:
    places = ((tag("code", f"{each['path']}:{each['line']}"), each["message"], each["fix"]) for each in rule["places"])
    name = f"{rule['rule']}, {rule['name']}"
    return more(
        f"ruff: {name} ({several(rule['count'], 'place')} in {several(rule['files'], 'file')})",
        table(f"Places of {name}", ("Where", "What", "Instead"), places),
    )


def configuration(found: Mapping[str, Any] | None) -> Html:
    """The section of an airflow.cfg: before and after, what must change first."""
    if not found:
        return NOTHING
    if not found["release"]:
        return section("configuration", "Configuration", tag("p", "The runtime is a pod: airflow.cfg was not checked."))
    must, may = ([each for each in found["changes"] if each["required"] == required] for required in (True, False))
    names = ("In the file", "For the target", "Why")
    commands = (
        (tag("code", f"airflow {old}"), tag("code", f"airflow {new}")) for old, new in found["commands"].items()
    )
    return section(
        "configuration",
        f"Configuration, as Airflow {found['release']} reads it",
        tag("p", f"{several(found['options'], 'setting')} in ", tag("code", found["path"]), "."),
        table("Settings that must change", names, map(_change, must)),
        more("Settings that may change", table("Settings that may change", names, map(_change, may))),
        more("Commands", table("Commands with another name", ("Of the source", "Of the target"), commands)),
    )


def _change(change: Mapping[str, Any]) -> tuple[Node, ...]:
    before, after = (tag("code", change[name]) if change[name] else None for name in ("before", "after"))
    return before or "(not set)", after or "(leave it out)", change["why"]
