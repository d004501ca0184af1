"""What the target release makes of the user's DAG files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.metadata.releases import Release
from airflow_migration.planning.air_rules import BREAKING, RuleFindings, RulePlace, replacements
from airflow_migration.planning.dag_errors import (
    PROVIDERS,
    ImportFailure,
    Trouble,
    imported_at,
    provider_package,
    read_failure,
    stands_at,
)

MOST_FILES = 200
"""Most files without trouble in the report; the slowest."""
SLOW_SHARE = 0.5
"""Part of the target's timeout above which a file is worth a look."""

# Trouble → the finding's sentence and remedy, in the order in which they are told.
SENTENCES: dict[Trouble, tuple[str, str]] = {
    "timed_out": (
        "DAG files that take longer to import than they are given",
        "Move what they do at import (requests, queries, loops) into tasks, or raise [core] dagbag_import_timeout",
    ),
    "removed": (
        "DAG files that import what Airflow {release} does not have",
        "Change the imports before the cut-over; where the name went is told beside each",
    ),
    "syntax": ("DAG files that are no valid Python for the target", "Correct them, or name them in .airflowignore"),
    "missing_provider": (
        "DAG files that need providers which the runtime does not have",
        "Install them at the target; a runtime given by path that has them lets the files be checked as well",
    ),
    "missing_module": (
        "DAG files that need modules which the runtime does not have",
        "Install them at the target, plugins included; a runtime given by path lets the files be checked as well",
    ),
    "error": ("DAG files that fail to import", "Mend them; the error is told beside each"),
    "died": (
        "DAG files that end the process which imports them",
        "Take exits and native code out of what runs at import",
    ),
    "needs_database": (
        "DAG files that read a Variable or Connection at import, of which the check has none",
        "Give a default value or read it in a task: then they can be checked, and parse faster",
    ),
    "needs_environment": (
        "DAG files that read an environment variable at import, of which the check has none",
        "See that the target's processes have it; with a default value the files can be checked",
    ),
    "not_reached": ("DAG files that were not read before the check's deadline", "Give a shorter dag_parse_timeout"),
}

UNJUDGED = ("needs_database", "needs_environment")
"""What the target has and the check has not: nothing is wrong with the file."""


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
        path=str(path.relative_to(folder) if path.is_relative_to(folder) else path),
        dag_ids=tuple(map(str, answer.get("dag_ids", ()))),
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
    at = {(place.path, place.line): place.fix or place.message for code, _, place in found if code in BREAKING}
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


def in_order(files: Sequence[DagFile]) -> tuple[DagFile, ...]:
    """Those with trouble first, and of the others the slowest."""
    rank = list(SENTENCES)
    bad = sorted(
        (each for each in files if each.trouble), key=lambda each: (rank.index(each.trouble or "error"), each.path)
    )
    good = sorted((each for each in files if not each.trouble), key=lambda each: (-each.seconds, each.path))
    return (*bad, *good[:MOST_FILES])


def findings_of(
    files: Sequence[DagFile],
    rules: Sequence[RuleFindings],
    *,
    target: Release,
    import_timeout: float,
    expected: Sequence[str] = (),
) -> Iterator[Finding]:
    """What a person has to know before the cut-over, the files that take too long first.

    :param expected: ids of DAGs that ought to be in the files
    """
    yield from _troubles(files, "timed_out", target)
    yield from _slow(files, import_timeout)
    for trouble in SENTENCES:
        if trouble != "timed_out":
            yield from _troubles(files, trouble, target)
    yield from _twice(files)
    yield from _absent(files, expected)
    for each in rules:
        breaking = each.rule in BREAKING
        examples = tuple(f"{place.path}:{place.line}: {place.fix or place.message}" for place in each.places[:EXAMPLES])
        yield Finding(
            check=f"dag_rules_{each.rule}",
            severity="warning" if breaking else "info",
            summary=f"places that ruff's rule {each.rule} ({each.name}) names: {each.count}; files: {each.files}"
            + ("" if breaking else "; they work in 3.x still"),
            count=each.count,
            evidence=examples,
            remedy=f"`ruff check --select {each.rule} --fix` mends part of them, `--unsafe-fixes` more",
        )
    if not any(each.trouble for each in files):
        yield Finding(check="dag_files", severity="ok", summary=f"Airflow {target} imports all {len(files)} DAG files")


def _troubles(files: Sequence[DagFile], trouble: Trouble, target: Release) -> Iterator[Finding]:
    found = [each for each in files if each.trouble == trouble]
    if not found:
        return
    sentence, remedy = SENTENCES[trouble]
    yield Finding(
        check=f"dag_files_{trouble}",
        severity="info" if trouble in UNJUDGED else "warning",
        summary=f"{sentence.format(release=target)}: {len(found)}",
        count=len(found),
        evidence=tuple(_example(each) for each in found[:EXAMPLES]),
        remedy=remedy,
    )


def _example(file: DagFile) -> str:
    place = f"{file.path}:{file.line}" if file.line else file.path
    return f"{place}: {file.error}" + (f" ({file.remedy})" if file.remedy else "")


def _slow(files: Sequence[DagFile], limit: float) -> Iterator[Finding]:
    """Imported, but near to the target's own timeout or beyond it."""
    found = [each for each in files if not each.trouble and 0 < limit * SLOW_SHARE < each.seconds]
    found.sort(key=lambda each: -each.seconds)
    if found:
        beyond = [each for each in found if each.seconds > limit]
        yield Finding(
            check="dag_files_slow",
            severity="warning" if beyond else "info",
            summary=f"DAG files that take longer than the target's dagbag_import_timeout of {limit:g} s:"
            f" {len(beyond)}; more than half of it: {len(found) - len(beyond)}",
            count=len(found),
            evidence=tuple(f"{each.path}: {each.seconds:.1f} s" for each in found[:EXAMPLES]),
            remedy=SENTENCES["timed_out"][1],
        )


def _twice(files: Sequence[DagFile]) -> Iterator[Finding]:
    counts = Counter(dag_id for each in files for dag_id in each.dag_ids)
    twice = sorted(dag_id for dag_id, count in counts.items() if count > 1)
    if twice:
        yield Finding(
            check="dag_ids_twice",
            severity="warning",
            summary=f"DAG ids that are in more than one file, of which chance chooses one: {len(twice)}",
            count=len(twice),
            evidence=tuple(twice[:EXAMPLES]),
            remedy="Give each DAG an id of its own",
        )


def _absent(files: Sequence[DagFile], expected: Sequence[str]) -> Iterator[Finding]:
    """DAGs that would be gone after the cut-over: their file is not in the folder, was not imported, or is ignored."""
    found = {dag_id for each in files for dag_id in each.dag_ids}
    absent = [dag_id for dag_id in expected if dag_id not in found]
    if absent:
        yield Finding(
            check="dag_ids_absent",
            severity="warning",
            summary=f"active DAGs of the source that no imported file has: {len(absent)} of {len(expected)}",
            count=len(absent),
            evidence=tuple(absent[:EXAMPLES]),
            remedy="Mend the files with trouble; see whether the folder is whole, and what .airflowignore leaves out:"
            " from 3.0 on it is read as glob patterns unless [core] dag_ignore_file_syntax says regexp",
        )
