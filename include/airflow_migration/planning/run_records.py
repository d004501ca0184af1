"""Keep of each rehearsal and migration what later ones are compared with, so that no whole report is read for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any, Protocol

from airflow_migration.metadata.findings import SEVERITIES
from airflow_migration.progress import Listener

_SUFFIX = ".json"


class RecordShelf(Protocol):
    """Where the records of one kind of run are kept: one small text each."""

    def names(self) -> Iterable[str]:
        """Of all that is there; one call, whose answer is small."""

    def read(self, name: str) -> str:
        """One of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFinding:
    """What the findings of one check come to; those in order are left out.

    :param severity: the worst of them
    :param count: of all together
    """

    check: str
    severity: str
    count: int
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRevision:
    """:param release: whose upgrade applied it
    :param step: task of that upgrade
    """

    release: str
    revision: str
    title: str
    seconds: float
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A source and a target, by server and database: connections may be renamed, and point elsewhere tomorrow."""

    source: str
    target: str

    @property
    def digest(self) -> str:
        return _digest(f"{self.source} {self.target}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What one run has measured.

    :param kind: ``migration`` or ``rehearsal``
    :param options: those params of the run that change what is done or how long it takes
    :param findings: of preflight
    :param files: which files of the deployment were checked beside it: ``dag_files``, ``configuration``
    :param file_findings: of these checks
    :param source_bytes: size of the source's database
    :param template_bytes: size of the copy by CREATE DATABASE … TEMPLATE; 0 where none was made
    :param template_seconds: of that copy
    :param history_seconds: of leaving old history behind
    :param steps: task id → seconds of each that has ended, and had not found its work done by an earlier try
    :param between: mean seconds from a task's end to the next one's start, which the control Airflow takes
    :param downtime: seconds, of a migration; None before its end
    :param predicted: ``seconds``, ``low``, ``high`` that this run has told; None where it could not
    """

    kind: str
    run_id: str
    started: str
    finished: str
    status: str
    verified: bool
    source: str
    target: str
    source_release: str
    source_head: str
    target_release: str
    transfer: str
    options: dict[str, Any]
    source_bytes: int
    findings: tuple[RecordedFinding, ...]
    steps: dict[str, float]
    revisions: tuple[RecordedRevision, ...] = ()
    template_bytes: int = 0
    template_seconds: float = 0.0
    history_seconds: float = 0.0
    between: float = 0.0
    downtime: float | None = None
    predicted: dict[str, Any] | None = None
    files: tuple[str, ...] = ()
    file_findings: tuple[RecordedFinding, ...] = ()

    @property
    def pair(self) -> Pair:
        return Pair(source=self.source, target=self.target)

    @property
    def path(self) -> tuple[str, str]:
        """What the upgrades begin with and end at: several releases have one head."""
        return self.source_head, self.target_release

    @property
    def history_days(self) -> int | None:
        days: int | None = self.options.get("history_days")
        return days

    @property
    def name(self) -> str:
        """Sorts by the run's start, tells the pair without being read, and is the same when it is written again."""
        begun = datetime.fromisoformat(self.started).astimezone(timezone.utc)
        return f"{begun:%Y%m%dT%H%M%S.%fZ}-{self.pair.digest}-{_digest(self.run_id)}{_SUFFIX}"

    def counts(self) -> dict[str, int]:
        """How many findings of each severity."""
        return {
            severity: sum(finding.severity == severity for finding in (*self.findings, *self.file_findings))
            for severity in SEVERITIES
            if severity != "ok"
        }

    def to_text(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> RunRecord:
        """:raises ValueError: it is no record, or one of a release of ours that kept something else"""
        try:
            data = json.loads(text)
            known = {each.name for each in fields(cls)}
            values = {name: value for name, value in data.items() if name in known}
            for name in ("findings", "file_findings"):
                values[name] = tuple(RecordedFinding(**each) for each in values[name])
            values["files"] = tuple(values["files"])
            values["revisions"] = tuple(RecordedRevision(**each) for each in values["revisions"])
            values["steps"] = {name: float(seconds) for name, seconds in values["steps"].items()}
            values["options"] = dict(values["options"].items())
            for name in ("started", "finished"):
                datetime.fromisoformat(values[name])
            if values.get("predicted") is not None:
                values["predicted"] = dict(values["predicted"].items())
            return cls(**values)
        except (AttributeError, KeyError, TypeError) as err:
            raise ValueError(str(err)) from err


def read_records(
    shelf: RecordShelf, *, limit: int, listener: Listener, pair: Pair | None = None, but: str | None = None
) -> tuple[RunRecord, ...]:
    """The newest records first; only these are read, however many there are.

    :param limit: at most so many
    :param pair: only of this source and target
    :param but: run id whose own record is left out
    """
    names = (name for name in sorted(shelf.names(), reverse=True) if name.endswith(_SUFFIX))
    found: list[RunRecord] = []
    for name in names:
        if len(found) == limit:
            break
        if pair is not None and f"-{pair.digest}-" not in name:
            continue
        if but is not None and name.endswith(f"-{_digest(but)}{_SUFFIX}"):
            continue
        try:
            found.append(RunRecord.from_text(shelf.read(name)))
        # One that was removed meanwhile, or that another user of this machine alone may read.
        except (OSError, ValueError) as err:
            listener(f"The record {name} cannot be read and is left out: {err}")
    return tuple(found)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
