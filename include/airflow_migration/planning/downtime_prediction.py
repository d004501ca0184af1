"""Say before the cut-over how long it will take, from what rehearsals and migrations have measured.

**Method.** The downtime is the sum of its parts, each with seconds, the least and the most:

- *By size*: clone, restore, repairs, upgrades, mending and verification take what they took in the last rehearsals of
  the same source, target, releases and `history_days` (at most `REHEARSALS`, only verified ones), times the size of the
  source now by its size then. Of an upgrade only the revisions grow with the source: the start of that Airflow does
  not. What is told is their median: a rehearsal beside other work takes twice as long as one alone.
- *By the deployment*: pausing, the key, fence, handing over, restart and unpausing take what they took in those of this
  target among the last `MIGRATIONS` of this control Airflow, else in the others, else what is `USUALLY` so.
- *A dump* is of those of this source among them; else a share of the time that a rehearsal took to copy the source
  (`DUMP_BY_COPY`, `RESTORE_BY_COPY`).
- *Between two tasks* the control Airflow takes what it took in the rehearsals, for as many tasks as a migration has.

**Range.** Least and most are those of all samples, as measured and as scaled, widened by `WIDER`: more when fewer of
them are there. All parts may be slow at once, so the ends are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from airflow_migration.planning.plan import CLONE, DUMP
from airflow_migration.planning.record_report import COPY, RESTORE
from airflow_migration.planning.report import KEY
from airflow_migration.planning.report_page.figures import several
from airflow_migration.planning.run_records import RunRecord

REHEARSALS = 5
MIGRATIONS = 5
WIDER = ((0.6, 1.6), (0.75, 1.35), (0.85, 1.2))
"""Of one sample, of two, of three or more: factors of the least and the most."""
USUALLY = {
    "pause_dags": (0.1, 0.5, 5.0),
    KEY: (0.1, 0.5, 10.0),
    "fence_source": (0.1, 0.5, 5.0),
    "point_target": (0.1, 1.0, 30.0),
    "restart_target": (0.0, 5.0, 120.0),
    "unpause_dags": (0.2, 5.0, 120.0),
}
"""Least, seconds and most where nothing was measured; a person's acts and pods that start slowly are not in it."""
DUMP_BY_COPY, RESTORE_BY_COPY = (0.1, 0.4, 1.0), (0.4, 0.8, 1.5)
"""The copy reads all rows once, writes them and makes the indexes; a dump does the first, a restore the others."""
CLONE_MOST = 2.0
"""The source's own clone begins with a checkpoint of a server in use, which the scratch server's did not."""
GAPS = 18
"""From the start of pause_dags to the end of unpause_dags a migration has so many tasks more than one."""
BY_SIZE = ("repair_1", "upgrade_1", "repair_2", "upgrade_2", "repair_3", "upgrade_3", "mend_schedules", "verify")
BETWEEN = "between_tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """:param origin: where the figures are from, in words"""

    step: str
    seconds: float
    low: float
    high: float
    origin: str

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        return values | {"from": values.pop("origin")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The cut-over that is asked about.

    :param source_bytes: size of the source's database now
    :param path: as of `RunRecord`
    """

    source_bytes: int
    path: tuple[str, str]
    transfer: str
    history_days: int | None
    backup: bool

    @classmethod
    def by(cls, plan: Mapping[str, Any]) -> Wanted:
        """:param plan: of a migration or of its rehearsal, as JSON"""
        return cls(
            source_bytes=plan["source_size"],
            path=(plan["source_head"], plan["target_release"]),
            transfer=plan["transfer"],
            **{name: plan["options"][name] for name in ("history_days", "backup")},
        )

    def measured_by(self, record: RunRecord) -> bool:
        """Whether the rehearsal did what this cut-over will do."""
        return record.verified and record.history_days == self.history_days and record.path == self.path

    def choices(self, rehearsals: Iterable[RunRecord]) -> Iterator[Wanted]:
        """The same with whatever else can be told: other history that was rehearsed, no backup."""
        if self.backup and self.transfer == CLONE:
            yield replace(self, backup=False)
        rehearsed = dict.fromkeys(each.history_days for each in rehearsals if each.verified and each.path == self.path)
        for days in rehearsed:
            if days != self.history_days:
                yield replace(self, history_days=days)


def predict_downtime(
    wanted: Wanted, *, rehearsals: Sequence[RunRecord], migrations: Sequence[RunRecord], choices: bool = True
) -> dict[str, Any] | None:
    """Predicted downtime as JSON: ``seconds``, ``low``, ``high``, ``parts``, ``based_on``, ``choices``.

    The wait for running tasks is no part of it.

    :param rehearsals: of this source and target, newest first
    :param migrations: of this control Airflow, newest first
    :param choices: also for other params
    :returns: None where no rehearsal has measured this
    """
    measured = [each for each in rehearsals if wanted.measured_by(each)][:REHEARSALS]
    if not measured or wanted.transfer not in (CLONE, DUMP):
        return None
    parts = list(_parts(wanted, measured, migrations))
    made: dict[str, Any] = {
        **{name: round(sum(getattr(part, name) for part in parts), 1) for name in ("seconds", "low", "high")},
        "history_days": wanted.history_days,
        "transfer": wanted.transfer,
        "backup": wanted.backup,
        "parts": [part.to_json() for part in parts],
        "based_on": [each.run_id for each in measured],
    }
    if choices:
        others = (
            predict_downtime(each, rehearsals=rehearsals, migrations=migrations, choices=False)
            for each in wanted.choices(rehearsals)
        )
        made["choices"] = [
            {name: value for name, value in other.items() if name != "parts"} for other in others if other
        ]
    return made


def _parts(wanted: Wanted, rehearsals: Sequence[RunRecord], migrations: Sequence[RunRecord]) -> Iterator[Part]:
    own, target = [each for each in migrations if each.pair == rehearsals[0].pair], rehearsals[0].target
    yield _fixed("pause_dags", target, migrations)
    yield _clone(wanted, rehearsals)
    if wanted.backup or wanted.transfer == DUMP:
        yield _by_copy("dump_database", DUMP_BY_COPY, wanted, rehearsals, own)
    if wanted.transfer == CLONE:
        yield _by_size(RESTORE, wanted, rehearsals)
    else:
        dumped = [each for each in own if each.transfer == DUMP and each.history_days == wanted.history_days]
        yield _by_copy(RESTORE, RESTORE_BY_COPY, wanted, rehearsals, dumped)
    yield _key(wanted, rehearsals, migrations)
    for step in BY_SIZE:
        if any(step in each.steps for each in rehearsals):
            yield _by_size(step, wanted, rehearsals)
    for step in ("fence_source", "point_target", "restart_target", "unpause_dags"):
        yield _fixed(step, target, migrations)
    gaps = [GAPS * each.between for each in rehearsals]
    yield _spread(BETWEEN, [(each, each) for each in gaps], several(len(rehearsals), "rehearsal"))


def _fixed(step: str, own: str, migrations: Sequence[RunRecord]) -> Part:
    """Measured at another target, the usual most still holds.

    :param own: the target
    """
    measured = [each for each in migrations if step in each.steps]
    same = [(each.steps[step], each.steps[step]) for each in measured if each.target == own]
    if same:
        return _spread(step, same, f"{several(len(same), 'migration')} of this target")
    low, usual, high = USUALLY[step]
    if not measured:
        return Part(step=step, seconds=usual, low=low, high=high, origin="usual, as no migration has measured it")
    seconds = [each.steps[step] for each in measured]
    origin = f"{several(len(seconds), 'migration')} of other targets"
    return Part(step=step, seconds=median(seconds), low=min(low, *seconds), high=max(high, *seconds), origin=origin)


def _key(wanted: Wanted, rehearsals: Sequence[RunRecord], migrations: Sequence[RunRecord]) -> Part:
    """To rewrite values takes what the rehearsals say, to give the target its key what the migrations do."""
    fixed = _fixed(KEY, rehearsals[0].target, migrations)
    if not any(KEY in each.steps for each in rehearsals):
        return fixed
    part = _by_size(KEY, wanted, rehearsals)
    return part if part.seconds > fixed.seconds else fixed


def _clone(wanted: Wanted, rehearsals: Sequence[RunRecord]) -> Part:
    samples = [
        (each.template_seconds, each.template_seconds * wanted.source_bytes / each.template_bytes)
        for each in rehearsals
        if each.template_bytes
    ]
    if not samples:
        return _unmeasured("clone_database")
    part = _spread("clone_database", samples, f"copy by template in {several(len(samples), 'rehearsal')}")
    return replace(part, high=round(part.high * CLONE_MOST, 3))


def _by_size(step: str, wanted: Wanted, records: Sequence[RunRecord]) -> Part:
    measured = [each for each in records if step in each.steps]
    if not measured:
        return _unmeasured(step)
    samples = [(each.steps[step], _scaled(step, each, wanted)) for each in measured]
    return _spread(step, samples, several(len(samples), records[0].kind))


def _unmeasured(step: str) -> Part:
    return Part(step=step, seconds=0.0, low=0.0, high=0.0, origin="no rehearsal has measured it")


def _scaled(step: str, record: RunRecord, wanted: Wanted) -> float:
    seconds = record.steps[step]
    if not record.source_bytes:
        return seconds
    growing = seconds
    if step.startswith("upgrade_"):
        growing = min(seconds, sum(each.seconds for each in record.revisions if each.step == step))
    return seconds - growing + growing * wanted.source_bytes / record.source_bytes


def _by_copy(
    step: str,
    shares: tuple[float, float, float],
    wanted: Wanted,
    rehearsals: Sequence[RunRecord],
    migrations: Sequence[RunRecord],
) -> Part:
    """A step that no rehearsal takes: as a migration of this source took it, or by the copy over the wire."""
    if any(step in each.steps for each in migrations):
        return _by_size(step, wanted, migrations)
    copied = [each for each in rehearsals if COPY in each.steps]
    if not copied:
        return _unmeasured(step)
    copy = _by_size(COPY, wanted, copied)
    history = max(each.history_seconds for each in copied) if step == RESTORE else 0.0
    low, usual, high = (round(share * copy.seconds + history, 3) for share in shares)
    return Part(step=step, seconds=usual, low=low, high=high, origin="share of the time that the rehearsal's copy took")


def _spread(step: str, samples: Sequence[tuple[float, float]], origin: str) -> Part:
    """:param samples: as measured and as scaled"""
    both = [seconds for sample in samples for seconds in sample]
    narrow, wide = WIDER[min(len(samples), len(WIDER)) - 1]
    return Part(
        step=step,
        seconds=round(median(scaled for _, scaled in samples), 3),
        low=round(min(both) * narrow, 3),
        high=round(max(both) * wide, 3),
        origin=origin,
    )
