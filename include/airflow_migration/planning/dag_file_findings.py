"""What a person has to know of the DAG files, in words: the files that take too long first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.metadata.releases import Release
from airflow_migration.planning.air_rules import BREAKING, RuleFindings
from airflow_migration.planning.dag_errors import Trouble
from airflow_migration.planning.dag_files import DagFile

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
        examples = tuple(f"{place.path}:{place.line}: {place.hint}" for place in each.places[:EXAMPLES])
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
