"""What can go wrong on the way: refusals, delays and connections that are cut."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.kubernetes.fake.resources import ApiError, Resource, too_many_requests

Kind = Literal["status", "hang", "cut_before", "cut_middle", "cut_after"]


@dataclass(slots=True)
class Fault:
    """Happens to the next requests that it fits.

    :param kind: ``status``: the request is refused with `error`. ``hang``: no answer comes until
        `release` is set. ``cut_before``: the connection ends without an answer, and nothing was done;
        ``cut_after``: it was done. ``cut_middle``: it ends in the middle of the answer
    :param verb: as RBAC names it; None for any
    :param resource: plural, with ``/subresource``; None for any
    :param times: how many requests it happens to
    :param skip: how many it lets pass before
    """

    kind: Kind
    verb: str | None = None
    resource: str | None = None
    error: ApiError | None = None
    times: int = 1
    skip: int = 0
    release: threading.Event = field(default_factory=threading.Event)


class Faults:
    """Those that wait for their request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._waiting.append(fault)
        return fault

    def too_many_requests(self, seconds: int, *, verb: str | None = None, resource: str | None = None) -> Fault:
        """The next request is refused with ``Retry-After``."""
        return self.add(Fault("status", verb, resource, too_many_requests(seconds)))

    def clear(self) -> None:
        with self._lock:
            for fault in self._waiting:
                fault.release.set()
            self._waiting.clear()

    def take(self, verb: str, resource: Resource, sub: str) -> Fault | None:
        path = f"{resource.plural}/{sub}" if sub else resource.plural
        with self._lock:
            for fault in self._waiting:
                if fault.verb not in (None, verb) or fault.resource not in (None, path):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if fault.times <= 0 and fault.kind != "hang":
                    self._waiting.remove(fault)
                return fault
        return None
