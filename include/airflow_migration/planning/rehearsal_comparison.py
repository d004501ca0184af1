"""Say what is new since the rehearsal before: findings, size, seconds, and the downtime that they come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from airflow_migration.planning.run_records import RecordedFinding, RecordedRevision, RunRecord
from airflow_migration.progress import amount

REVISIONS = 10
"""So many are told at most, those whose seconds differ most."""
NOTABLE = 1.0, 0.25
"""Seconds, and share of what it was before, by which a step has to differ to be put into words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingChange:
    """One check that does not find what it found before.

    :param before: severity; None where it was in order
    :param now: severity; None where it is in order
    :param summary: of now, or of before where it is in order now
    """

    check: str
    before: str | None
    now: str | None
    count_before: int
    count: int
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingChanges:
    """:param changed: there both times, with another count or severity"""

    came: tuple[FindingChange, ...]
    went: tuple[FindingChange, ...]
    changed: tuple[FindingChange, ...]

    def in_words(self) -> Iterator[str]:
        for each in self.came:
            yield f"New {each.now}: {each.summary}"
        for each in self.went:
            yield f"Gone: {each.summary} ({each.before})"
        for each in self.changed:
            was = f"was {each.count_before:,}" if each.count != each.count_before else "as many as before"
            yield f"{each.summary} ({was}{'' if each.before == each.now else f', {each.before} before'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Seconds of a step; of an alembic revision with the release that applied it and its title."""

    name: str
    before: float
    now: float
    release: str | None = None
    title: str | None = None


def compare(before: RunRecord, now: RunRecord) -> dict[str, Any]:
    """What is new since the rehearsal before, as JSON.

    Keys: ``run_id`` and ``finished`` of the one before; ``findings`` that ``came``, ``went`` and ``changed``;
    ``source_bytes``, ``downtime`` and ``verified``, each ``before`` and ``now``; ``steps`` and ``revisions`` with their
    seconds; ``not_comparable``, why these are left out; and ``words``, all of it in sentences.
    """
    reasons = tuple(_not_comparable(before, now))
    same_files = before.files == now.files
    found = compare_findings(*(_found(each, files=same_files) for each in (before, now)))
    steps = () if reasons else _differences(before.steps, now.steps)
    revisions = () if reasons else _revisions(before.revisions, now.revisions)
    made: dict[str, Any] = {
        "run_id": before.run_id,
        "finished": before.finished,
        "not_comparable": list(reasons),
        "verified": {"before": before.verified, "now": now.verified},
        "source_bytes": {"before": before.source_bytes, "now": now.source_bytes},
        "downtime": {"before": before.predicted, "now": now.predicted},
        "findings": asdict(found),
        "steps": [asdict(each) for each in steps],
        "revisions": [asdict(each) for each in revisions],
    }
    words = [*_of_verdict(before, now), *found.in_words(), *_of_size(before, now)]
    words += _of_seconds(steps)
    words += _of_seconds(revisions[:3])
    words += _of_downtime(before, now)
    words += [f"Seconds are not compared: {reason}" for reason in reasons]
    if not same_files:
        words.append("What was found in files is not compared: other files were checked before")
    return made | {"words": words or [f"Nothing is new since rehearsal {before.run_id}"]}


def _found(record: RunRecord, *, files: bool) -> tuple[RecordedFinding, ...]:
    return (*record.findings, *record.file_findings) if files else record.findings


def compare_findings(before: Sequence[RecordedFinding], now: Sequence[RecordedFinding]) -> FindingChanges:
    """By check: its sentence holds counts, so that the same fault has another one each time."""
    was, there = ({each.check: each for each in found} for found in (before, now))
    return FindingChanges(
        came=tuple(_change(None, each) for check, each in there.items() if check not in was),
        went=tuple(_change(each, None) for check, each in was.items() if check not in there),
        changed=tuple(
            _change(was[check], each)
            for check, each in there.items()
            if check in was and (each.count, each.severity) != (was[check].count, was[check].severity)
        ),
    )


def _change(before: RecordedFinding | None, now: RecordedFinding | None) -> FindingChange:
    told = now or before
    assert told is not None
    return FindingChange(
        check=told.check,
        before=before.severity if before else None,
        now=now.severity if now else None,
        count_before=before.count if before else 0,
        count=now.count if now else 0,
        summary=told.summary,
    )


def _not_comparable(before: RunRecord, now: RunRecord) -> Iterator[str]:
    """Why the seconds of both measure different things."""
    if before.source_head != now.source_head:
        yield f"the source was {before.source_release}, and is {now.source_release}"
    if before.target_release != now.target_release:
        yield f"the target was {before.target_release}, and is {now.target_release}"
    if before.transfer != now.transfer:
        yield f"transfer was {before.transfer}, and is {now.transfer}"
    for name in sorted(before.options.keys() | now.options.keys()):
        was, there = before.options.get(name), now.options.get(name)
        if was != there:
            yield f"{name} was {_value(was)}, and is {_value(there)}"


def _value(value: object) -> str:
    return "empty" if value is None else str(value)


def _differences(before: Mapping[str, float], now: Mapping[str, float]) -> tuple[Difference, ...]:
    return tuple(
        Difference(name=name, before=before[name], now=seconds) for name, seconds in now.items() if name in before
    )


def _revisions(before: Sequence[RecordedRevision], now: Sequence[RecordedRevision]) -> tuple[Difference, ...]:
    was = {(each.release, each.revision): each.seconds for each in before}
    both = [
        Difference(
            name=each.revision,
            release=each.release,
            title=each.title,
            before=was[each.release, each.revision],
            now=each.seconds,
        )
        for each in now
        if (each.release, each.revision) in was
    ]
    return tuple(sorted(both, key=lambda each: -abs(each.now - each.before))[:REVISIONS])


def _of_verdict(before: RunRecord, now: RunRecord) -> Iterator[str]:
    if before.verified != now.verified:
        yield "It is verified, and was not before" if now.verified else "It is not verified any more"


def _of_size(before: RunRecord, now: RunRecord) -> Iterator[str]:
    old, new = before.source_bytes, now.source_bytes
    if amount(old, "bytes") == amount(new, "bytes"):
        return
    share = f" ({(new - old) / old:+.0%})" if old else ""
    verb = "grew" if new > old else "shrank"
    yield f"The source {verb} from {amount(old, 'bytes')} to {amount(new, 'bytes')}{share}"


def _of_seconds(differences: Sequence[Difference]) -> Iterator[str]:
    least, share = NOTABLE
    for each in differences:
        change = abs(each.now - each.before)
        if change >= least and change >= share * each.before:
            of = f"Revision {each.name} of {each.release} ({each.title})" if each.release else each.name
            yield f"{of} took {each.now:,.1f} s, {each.before:,.1f} s before"


def _of_downtime(before: RunRecord, now: RunRecord) -> Iterator[str]:
    if before.predicted and now.predicted:
        old, new = before.predicted["seconds"], now.predicted["seconds"]
        yield f"The downtime would be {new:,.0f} s, {old:,.0f} s before"
