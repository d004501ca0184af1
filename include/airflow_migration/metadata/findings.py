"""What one check of a metadata database found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

EXAMPLES = 10
"""Most keys of rows in one finding."""

Severity = Literal["ok", "info", "warning", "blocker"]
SEVERITIES: tuple[str, ...] = get_args(Severity)
"""From the lightest to the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer of one check; plain JSON, free of secrets and of row data beyond keys.

    :param check: id of the check, stable across releases
    :param severity: ``ok`` nothing found; ``info`` worth knowing; ``warning`` will be repaired;
        ``blocker`` must be mended by a person first
    :param summary: one sentence
    :param count: rows concerned
    :param evidence: keys of some of the rows, at most ten
    :param remedy: what will be done, or what to do
    :param repair: id of the repair that mends it, None when none is needed or none exists
    :param hops: releases of the plan's upgrades that meet it; empty when it concerns the migration as a whole
    :param sql: query that finds the rows, to be run in the source with psql as it stands; empty when none does
    """

    check: str
    severity: Severity
    summary: str
    count: int = 0
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    repair: str | None = None
    hops: tuple[str, ...] = ()
    sql: str = ""


def blocker(
    check: str, summary: str, remedy: str, *, count: int | None = None, evidence: tuple[str, ...] = ()
) -> Finding:
    """:param count: None for as many as there is evidence, of which only examples are kept"""
    return Finding(
        check=check,
        severity="blocker",
        summary=summary,
        count=len(evidence) if count is None else count,
        evidence=evidence[:EXAMPLES],
        remedy=remedy,
    )
