"""What one check of a metadata database found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "info", "warning", "blocker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer of one check; plain JSON, free of secrets and of row data beyond keys.

    :param check: id of the check, stable across releases
    :param severity: ``ok`` nothing found; ``info`` worth knowing; ``warning`` will be repaired;
        ``blocker`` must be mended by a person first
    :param summary: one sentence
    :param count: rows concerned
    :param evidence: keys of some of the rows, at most a few
    :param remedy: what will be done, or what to do
    :param repair: id of the repair that mends it, None when none is needed or none exists
    """

    check: str
    severity: Severity
    summary: str
    count: int = 0
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    repair: str | None = None
