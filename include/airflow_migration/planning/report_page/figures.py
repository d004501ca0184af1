"""Seconds and moments as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """``0.3 s``, ``42 s``, ``1 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.05:
        return "under 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return _two(whole, (MINUTE, "min"), (1, "s"))
    return _two(whole, (HOUR, "h"), (MINUTE, "min")) if whole < DAY else _two(whole, (DAY, "d"), (HOUR, "h"))


def _two(seconds: int, large: tuple[int, str], small: tuple[int, str]) -> str:
    rest = seconds % large[0] // small[0]
    return f"{seconds // large[0]} {large[1]}" + (f" {rest} {small[1]}" if rest else "")


def between(part: Mapping[str, Any]) -> str:
    """The range of some seconds: ``5 min to 9 min``; empty where there is none."""
    low, high = part.get("low"), part.get("high")
    return "" if low is None or high is None else f"{duration(low)} to {duration(high)}"


def span(part: Mapping[str, Any]) -> str:
    """Seconds with their range, if they have one: ``6 min (5 min to 9 min)``."""
    spread = between(part)
    return duration(part["seconds"]) + (f" ({spread})" if spread else "")


def moment(text: str | None) -> str | None:
    """An ISO 8601 time as ``26 Nov 2026, 17:00:05 UTC``; what is none stays as it is."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    at = at.astimezone(timezone.utc) if at.tzinfo else at
    return f"{at.day} {at:%b %Y, %H:%M:%S} UTC"


def period(start: str | None, end: str | None) -> str | None:
    """From one moment to another, the day said once."""
    first, last = moment(start), moment(end)
    if not first or not last:
        return first or last
    day, _, time = last.partition(", ")
    return f"{first.removesuffix(' UTC')} to {time if first.startswith(f'{day}, ') else last}"


def several(count: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``1,234 rows``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
