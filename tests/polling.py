"""How tests wait for what happens elsewhere: ask until the answer is good, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 60.0
PAUSE = 0.05

Seen = TypeVar("Seen")


def until(
    ask: Callable[[], Seen],
    good: Callable[[Seen], object] = bool,
    *,
    seconds: float = SECONDS,
    pause: float = PAUSE,
    check: Callable[[], None] | None = None,
    told: Callable[[], object] | None = None,
) -> Seen:
    """The first good answer.

    :param check: fails when waiting has no sense any more, as after the end of a process
    :param told: what explains a deadline that was missed; the last answer if None
    """
    clock, deadline = threading.Event(), time.monotonic() + seconds
    while not good(seen := ask()):
        if check is not None:
            check()
        assert time.monotonic() < deadline, told() if told is not None else seen
        clock.wait(pause)
    return seen
