"""Decide which repairs may run, and make a blocker of what the others would have mended."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.repairs.registry import REPAIRS, SAFE_REPAIRS

SAFE, ALL = "safe", "all"
CHOICES = (SAFE, ALL)


def allowed(chosen: str | tuple[str, ...]) -> frozenset[str]:
    """The ids of the repairs that may run.

    :param chosen: ``safe``, ``all``, or ids
    :raises InvalidInputError: it is none of these, or an id is unknown
    """
    if chosen == SAFE:
        return SAFE_REPAIRS
    if chosen == ALL:
        return frozenset(REPAIRS)
    if not isinstance(chosen, tuple):
        raise InvalidInputError(
            f"repairs is {chosen!r}",
            where="params of the run",
            remedy=f"Use {SAFE}, {ALL}, or a list of ids of docs/repairs.md",
        )
    unknown = [repr(each) for each in chosen if each not in REPAIRS]
    if unknown:
        raise InvalidInputError(
            f"repairs names {', '.join(unknown)}, which is no repair",
            where="params of the run",
            remedy=f"Use {SAFE}, {ALL}, or a list of: {', '.join(sorted(REPAIRS))}",
        )
    return frozenset(chosen)


def hold_to(findings: Iterable[Finding], may_run: Collection[str]) -> list[Finding]:
    """Each finding whose repair may not run as a blocker that says which id would allow it."""
    return [each if each.repair is None or each.repair in may_run else _blocked(each) for each in findings]


def _blocked(finding: Finding) -> Finding:
    repair = REPAIRS[str(finding.repair)]
    remedy = f"{repair.instead}, or allow {repair.id} with param repairs"
    return replace(finding, severity="blocker", remedy=remedy)
