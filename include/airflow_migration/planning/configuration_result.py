"""What the check of an airflow.cfg found, as values and as findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.metadata.releases import Release
from airflow_migration.planning.configuration import SettingChange

KINDS = {
    "invalid": "settings with a value that Airflow {} refuses",
    "default": "settings whose default is another one in Airflow {}",
}
WRITE = "Write them so in the target's airflow.cfg, or as its environment variables"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationResult:
    """What of an airflow.cfg the target wants otherwise.

    :param release: whose rules they are; empty when none could be asked
    :param options: how many the file sets
    :param lint: what the release's `airflow config lint` says; None where it has none (before 2.11)
    :param changes: those that are required first
    :param commands: command of the source → command of the target, without ``airflow``
    """

    release: str
    path: str
    options: int
    lint: tuple[str, ...] | None
    changes: tuple[SettingChange, ...]
    commands: dict[str, str]
    findings: tuple[Finding, ...]


def findings_of(
    changes: Sequence[SettingChange],
    commands: Mapping[str, str],
    *,
    lint: Sequence[Mapping[str, str]] | None,
    source: Release,
    target: Release,
) -> Iterator[Finding]:
    """What a person has to change before the target starts with these settings."""
    required = [each for each in changes if each.required]
    renamed = [each for each in changes if not each.required and each.after]
    gone = [each for each in changes if not each.after]
    yield from _finding("configuration_required", required, f"settings that must change for Airflow {target}", WRITE)
    yield from _finding("configuration_renamed", renamed, f"settings with a new name or value in {target}", WRITE)
    yield from _finding(
        "configuration_removed", gone, f"settings that mean nothing to Airflow {target}", "Leave them out"
    )
    yield from _of_lint(lint, target)
    if commands:
        yield Finding(
            check="configuration_commands",
            severity="info",
            summary=f"commands that are called otherwise in Airflow {target}: {len(commands)}",
            count=len(commands),
            evidence=tuple(_lines(commands)[:EXAMPLES]),
            remedy="Change them where processes are started: unit files, images, charts, scripts",
        )
    if source.number < (3,) <= target.number:
        yield Finding(
            check="configuration_dag_processor",
            severity="info",
            summary="from 3.0 on the scheduler reads no DAG files: `airflow dag-processor` is a process of its own",
            remedy="Start one beside the scheduler, where the DAG files are",
        )
    if not changes:
        yield Finding(
            check="configuration", severity="ok", summary=f"Airflow {target} takes every setting of the file as it is"
        )


def _finding(check: str, changes: Sequence[SettingChange], sentence: str, remedy: str) -> Iterator[Finding]:
    if changes:
        yield Finding(
            check=check,
            severity="warning" if any(each.required for each in changes) else "info",
            summary=f"{sentence}: {len(changes)}",
            count=len(changes),
            evidence=tuple(in_words(each) for each in changes[:EXAMPLES]),
            remedy=remedy,
        )


def _of_lint(lint: Sequence[Mapping[str, str]] | None, target: Release) -> Iterator[Finding]:
    """What lint says beyond names: a value that is refused, a default that is another one."""
    if target.number < (3,):
        if lint:
            yield Finding(
                check="configuration_later",
                severity="info",
                summary=f"settings that 3.0 will have otherwise, by `airflow config lint` of {target}: {len(lint)}",
                count=len(lint),
                evidence=tuple(each["message"] for each in lint[:EXAMPLES]),
                remedy="Nothing to do for this target",
            )
        return
    for kind, sentence in KINDS.items():
        found = [each["message"] for each in lint or () if each["kind"] == kind]
        if found:
            yield Finding(
                check=f"configuration_{kind}",
                severity="warning" if kind == "invalid" else "info",
                summary=f"{sentence.format(target)}: {len(found)}",
                count=len(found),
                evidence=tuple(found[:EXAMPLES]),
                remedy="Correct them" if kind == "invalid" else "Nothing to do where the value is meant",
            )


def in_words(change: SettingChange) -> str:
    """Before and after in one line."""
    if not change.after:
        return f"{change.before} → (leave it out): {change.why}"
    return f"{change.before or '(not set)'} → {change.after}: {change.why}"


def _lines(commands: Mapping[str, str]) -> list[str]:
    """Those that run as services first: they are what has to start again."""
    services = [name for name in ("scheduler", "webserver", "worker", "flower", "kerberos") if name in commands]
    return [f"airflow {old} → airflow {commands[old]}" for old in dict.fromkeys([*services, *sorted(commands)])]
