"""What the target release makes of the user's DAG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import Release
from airflow_migration.planning.air_rules import BREAKING, RuleFindings, RulePlace, replacements
from airflow_migration.planning.dag_errors import (
    PROVIDERS,
    ImportFailure,
    Trouble,
    imported_at,
    printable,
    provider_package,
    read_failure,
    stands_at,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DagFile:
    """One file, as the target release read it.

    :param path: relative to the DAGs folder
    :param seconds: until it was imported, or was given up
    :param cpu_seconds: of the processor; what is missing to `seconds` it has waited for; None when that is not known
    :param trouble: None when it was imported
    :param line: where in the file
    :param remedy: what to import or install instead, where that is known
    """

    path: str
    dag_ids: tuple[str, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float | None = None
    trouble: Trouble | None = None
    error: str = ""
    line: int | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DagFilesResult:
    """What the check of the DAG files found.

    :param release: whose parser it was; empty when none could be asked
    :param count: DAG files in all
    :param dags: DAGs in all
    :param import_timeout: the target's own, in seconds
    :param timeout: what each file was given here, in seconds
    :param parse_seconds: of all files together
    :param files: those with trouble first, then the slowest
    :param rules: what ruff found in the source text
    """

    release: str
    folder: str
    count: int
    dags: int
    import_timeout: float | None
    timeout: float | None
    parse_seconds: float
    files: tuple[DagFile, ...]
    rules: tuple[RuleFindings, ...]
    findings: tuple[Finding, ...]


def judge_file(answer: Mapping[str, Any], folder: Path, timeout: float) -> DagFile:
    """What one line of the parser's output says."""
    path = Path(str(answer["path"]))
    file = DagFile(
        path=printable(str(path.relative_to(folder) if path.is_relative_to(folder) else path)),
        dag_ids=tuple(printable(str(dag_id)) for dag_id in answer.get("dag_ids", ())),
        seconds=round(float(answer.get("seconds", 0.0)), 3),
        cpu_seconds=round(float(answer["cpu_seconds"]), 3) if "cpu_seconds" in answer else None,
    )
    match answer["ended"]:
        case "not reached":
            return replace(file, trouble="not_reached")
        case "died":
            status = int(answer["status"])
            error = f"its process was ended by signal {-status}" if status < 0 else f"its process exited with {status}"
            return replace(file, trouble="died", error=error)
        case "timed out":
            error = f"not imported after {timeout:g} s"
            return replace(file, trouble="timed_out", error=error, line=stands_at(str(answer.get("stands", "")), path))
    if file.seconds > timeout:
        return replace(file, trouble="timed_out", error=f"imported after {file.seconds:g} s, more than {timeout:g} s")
    errors = [read_failure(str(text), path) for text in answer.get("errors", ())]
    if not errors:
        return file
    first = errors[0]
    return replace(file, trouble=first.trouble, error=first.error, line=first.line, remedy=_package(first))


def _package(failure: ImportFailure) -> str:
    # 1.10 has no such folder at all, and names it alone.
    known = failure.trouble == "missing_provider" and failure.name.startswith(PROVIDERS)
    return f"install {provider_package(failure.name)}" if known else ""


def name_replacements(
    files: Sequence[DagFile], found: Sequence[tuple[str, str, RulePlace]], folder: Path, target: Release
) -> list[DagFile]:
    """Tell beside each file what is removed what to write instead, where ruff knows it.

    :param found: what ruff found in the same folder
    """
    asked: dict[str, list[tuple[str, str]]] = {}
    for file in files:
        if file.trouble in ("removed", "missing_provider", "missing_module") and file.line:
            try:
                source = (folder / file.path).read_text("utf-8", errors="replace")
                asked[file.path] = list(imported_at(source, file.line))
            except (OSError, SyntaxError, ValueError):
                continue
    known = replacements([name for names in asked.values() for name in names], target)
    at = {(place.path, place.line): place.hint for code, _, place in found if code in BREAKING}
    answers = []
    for file in files:
        hints = [known[name] for name in asked.get(file.path, ()) if name in known]
        if file.trouble in ("error", "removed") and file.line and (file.path, file.line) in at:
            hints.append(at[file.path, file.line])
        if file.trouble == "missing_provider":
            hints += _exact_packages(asked.get(file.path, ()))
        answers.append(replace(file, remedy="; ".join(dict.fromkeys(hints))) if hints else file)
    return answers


def _exact_packages(names: Sequence[tuple[str, str]]) -> list[str]:
    """The error names the first folder that is missing (`airflow.providers.cncf`), the import says all of it."""
    return [f"install {provider_package(module)}" for module, _ in names if module.startswith(PROVIDERS)]
