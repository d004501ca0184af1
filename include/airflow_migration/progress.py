"""How a step tells what it is doing, without knowing who listens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One measurement of a step under way.

    :param what: what is being done, as a phrase
    :param done: how much of it is done, in `unit`
    :param total: how much there is, in `unit`; None when it is not known
    :param unit: ``bytes``, ``rows``, ``revisions``, ``task instances``
    :param seconds: since the step began
    """

    what: str
    done: int
    total: int | None = None
    unit: str
    seconds: float

    def __str__(self) -> str:
        share = f" of {amount(self.total, self.unit)} ({self.done / self.total:.0%})" if self.total else ""
        rate = self.done / self.seconds if self.seconds > 0 else 0.0
        pace = f", {amount(round(rate), self.unit)}/s" if rate >= 1 else ""
        left = ""
        if self.total and rate > 0 and self.total > self.done:
            left = f", {(self.total - self.done) / rate:.0f} s left"
        return f"{self.what}: {amount(self.done, self.unit)}{share}{pace}{left}"


Listener = Callable[[Progress | str], None]
"""Called with a measurement, or with a sentence for the log."""


class Pace:
    """Lets sentences through as they come, and measurements every few seconds and at the end.

    :param every: seconds
    """

    def __init__(self, every: float = 5.0) -> None:
        self._every, self._last = every, float("-inf")

    def allows(self, message: Progress | str) -> bool:
        """Whether it is to be told now."""
        if isinstance(message, str):
            return True
        now = time.monotonic()
        if message.done != message.total and now - self._last < self._every:
            return False
        self._last = now
        return True


def amount(count: int, unit: str) -> str:
    """A count for people: ``1.2 GB``, ``20,000 rows``."""
    if unit != "bytes":
        return f"{count:,} {unit}"
    size = float(count)
    for name in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {name}" if name in ("B", "kB") else f"{size:.1f} {name}"
        size /= 1000
    return f"{size:.1f} TB"
