"""Decide by how many connections a dump is written, or loaded again."""

from __future__ import annotations

import os
from collections.abc import Iterable

MOST_JOBS = 8


def choose_jobs(cores: int, sizes: Iterable[int]) -> int:
    """As many connections as there are cores, and no more than can share the work: a table is never split."""
    known = list(sizes)
    largest, total = max(known, default=0), sum(known)
    useful = -(-total // largest) if largest else 1
    return max(1, min(cores, useful, MOST_JOBS))


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
