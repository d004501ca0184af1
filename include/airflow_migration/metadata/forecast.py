"""Say which run each DAG's target creates next and how many at once, and where the source would have differed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Literal

from airflow_migration.metadata.last_runs import LastRun, read_last_runs
from airflow_migration.metadata.next_runs import (
    LIMIT,
    Interval,
    Outlook,
    Restriction,
    count_between,
    look_ahead,
    next_run,
)
from airflow_migration.metadata.recorded_schedules import DagRules, read_rules
from airflow_migration.metadata.timetables import ScheduleError
from airflow_migration.postgres.address import Session

SHOWN = 5

Kind = Literal[
    "stalled", "repeated", "skipped", "renamed", "rescheduled", "ends", "contradiction", "not parsed", "not computed"
]

SENTENCES: dict[Kind, str] = {
    "stalled": "would get no run any more: their next run exists already",
    "repeated": "cover an interval again that is done",
    "skipped": "leave out intervals that the source would have run",
    "renamed": "name their runs by another moment than the source did",
    "rescheduled": "have another schedule than on the source",
    "ends": "have no next run, and had one on the source",
    "contradiction": "have a next run that does not follow from their schedule and last run",
    "not parsed": "are not found in the target's DAG files, so that they get no run",
    "not computed": "have a schedule that cannot be computed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """:param text: what differs, with dates"""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DagForecast:
    """How one DAG goes on; moments are ISO 8601 in UTC.

    :param schedule: in words
    :param parsed: the target has parsed it; else its schedule is what the source recorded
    :param last: logical date of the last scheduled or backfilled run
    :param source_next: logical date that the source would have run next
    :param target_next: logical date of the run that the target creates next
    :param starts: when the target creates it at the earliest
    :param at_once: runs that are due at this moment, at most 1000
    :param max_active_runs: how many of them run at a time
    :param unfinished: runs of before that go on, and count as active ones
    """

    dag_id: str
    schedule: str
    parsed: bool
    last: str | None
    source_next: str | None
    target_next: str | None
    starts: str | None
    at_once: int
    max_active_runs: int | None
    unfinished: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What happens when these DAGs are unpaused.

    :param at: the moment for which it was computed
    :param runs_at_once: how many runs are due then, over all DAGs
    :param differing: DAGs that do not go on as on the source
    :param without_schedule: DAGs that nothing but a person or an event starts, or whose file is gone; not listed
    :param dags: the DAGs with a schedule, those that differ first
    """

    at: str
    runs_at_once: int
    differing: int
    without_schedule: int
    dags: tuple[DagForecast, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each kind of difference."""
        by_kind: dict[Kind, list[str]] = {}
        for dag in self.dags:
            for kind in dict.fromkeys(difference.kind for difference in dag.differences):
                by_kind.setdefault(kind, []).append(dag.dag_id)
        return tuple(
            f"{len(dags)} DAG(s) {SENTENCES[kind]} (the report's forecast says how): {', '.join(dags[:SHOWN])}"
            + (", …" if len(dags) > SHOWN else "")
            for kind, dags in by_kind.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    rules: DagRules
    run: LastRun
    catchup: bool

    @property
    def restriction(self) -> Restriction:
        return Restriction(catchup=self.catchup, earliest=self.rules.earliest, latest=self.rules.latest)


def forecast(
    frozen: Session,
    target: Session,
    dag_ids: Sequence[str],
    *,
    paused_at: datetime | None,
    named_by_start: bool,
    parse_is_done: bool,
    now: datetime | None = None,
) -> Forecast:
    """Look ahead for the DAGs that are about to be unpaused; reads only.

    What the target has noted as a parsed DAG's next run counts, and is compared with what its schedule and its
    last run say; for a DAG that it has not parsed, the source's recorded schedule.

    :param frozen: session on the frozen clone
    :param target: session on the target's database, mended
    :param paused_at: when the source's DAGs were paused: what it would have run is computed for that moment
    :param named_by_start: a DAG that is not parsed names its runs by the moment at which they start
    :param parse_is_done: what the target has not parsed by now it will not parse
    """
    now = now or datetime.now(timezone.utc)
    theirs, ours = read_rules(frozen), read_rules(target)
    before = read_last_runs(frozen, dag_ids, {dag_id: rules.schedule for dag_id, rules in theirs.items()})
    after = read_last_runs(target, dag_ids, {dag_id: rules.schedule for dag_id, rules in theirs.items()})
    dags, idle = [], 0
    for dag_id in sorted(set(dag_ids) & after.keys()):
        here = ours[dag_id]
        there = theirs.get(dag_id, here)
        if not here.parsed and not after[dag_id].active:
            idle += 1
            continue
        if not here.parsed:
            schedule = replace(there.schedule, trigger=named_by_start or there.schedule.trigger)
            here = replace(there, schedule=schedule, parsed=False, max_active_runs=here.max_active_runs)
        source = _Side(rules=there, run=before.get(dag_id, after[dag_id]), catchup=there.catchup is not False)
        goal = _Side(rules=here, run=after[dag_id], catchup=here.catchup is not False)
        dag = _forecast_dag(dag_id, source, goal, paused_at or now, now)
        dags.append(dag if here.parsed or not parse_is_done else _without_file(dag))
    return _sum_up(dags, idle, now)


def _without_file(dag: DagForecast) -> DagForecast:
    missing = Difference(kind="not parsed", text="no run is made before the target has parsed it")
    return replace(dag, target_next=None, starts=None, at_once=0, differences=(missing,))


def count_due(conn: Session, dag_ids: Sequence[str], *, named_by_start: bool, now: datetime) -> Mapping[str, Outlook]:
    """How many runs of each of these DAGs are due now by the schedules of this database; reads only.

    A DAG whose schedule cannot be computed or whose file is gone is left out; where catchup is not written
    down, it is on.
    """
    rules = read_rules(conn)
    runs = read_last_runs(conn, dag_ids, {dag_id: each.schedule for dag_id, each in rules.items()})
    found = {}
    for dag_id, run in runs.items():
        each = rules[dag_id]
        if not run.active:
            continue
        schedule = replace(each.schedule, trigger=named_by_start or each.schedule.trigger)
        restriction = Restriction(catchup=each.catchup is not False, earliest=each.earliest, latest=each.latest)
        try:
            found[dag_id] = look_ahead(schedule, restriction, run.interval, now)
        except ScheduleError:
            continue
    return found


def _sum_up(dags: Sequence[DagForecast], idle: int, now: datetime) -> Forecast:
    scheduled = [dag for dag in dags if dag.target_next or dag.source_next or dag.differences]
    return Forecast(
        at=_text(now) or "",
        runs_at_once=sum(dag.at_once for dag in scheduled),
        differing=sum(bool(dag.differences) for dag in scheduled),
        without_schedule=len(dags) - len(scheduled) + idle,
        dags=tuple(sorted(scheduled, key=lambda dag: (not dag.differences, dag.dag_id))),
    )


def _forecast_dag(dag_id: str, source: _Side, target: _Side, paused_at: datetime, now: datetime) -> DagForecast:
    noted = target.run.noted if target.rules.parsed else None
    expected, outlook, differences = None, Outlook(first=noted, due=0, last_due=None), []
    try:
        expected = next_run(source.rules.schedule, source.restriction, source.run.interval, paused_at)
        computed = next_run(target.rules.schedule, target.restriction, target.run.interval, now)
        outlook = look_ahead(target.rules.schedule, target.restriction, target.run.interval, now, noted)
        differences = _compare(source, target, expected, outlook.first)
        if noted and computed != noted and (target.catchup or computed is None or computed.start < noted.start):
            text = f"the target says {_text(noted.start)}, its schedule {_text(computed.start) if computed else None}"
            differences.append(Difference(kind="contradiction", text=text))
    except ScheduleError as err:
        differences = _compare_noted(source, target, str(err))
        outlook = Outlook(first=noted, due=int(noted is not None and noted.end <= now), last_due=noted)
    first = outlook.first
    if noted and target.run.noted_exists:
        differences.insert(0, Difference(kind="stalled", text=f"a run of {_text(noted.start)} is there already"))
    return DagForecast(
        dag_id=dag_id,
        schedule=str(target.rules.schedule),
        parsed=target.rules.parsed,
        last=_text(target.run.logical_date),
        source_next=_text(expected.start) if expected else None,
        target_next=_text(first.start) if first else None,
        starts=_text(first.end) if first else None,
        at_once=outlook.due,
        max_active_runs=target.rules.max_active_runs,
        unfinished=target.run.unfinished,
        differences=tuple(differences),
    )


def _compare(source: _Side, target: _Side, expected: Interval | None, first: Interval | None) -> list[Difference]:
    """Between what the source would have run next and what the target will."""
    here, there, last = target.rules.schedule, source.rules.schedule, target.run.interval
    found = []
    if _differ(source.rules, target.rules):
        found.append(Difference(kind="rescheduled", text=f"{here}, on the source {there}"))
    if expected and not first:
        found.append(Difference(kind="ends", text=f"the source would have run {_text(expected.start)}"))
    if not expected or not first:
        return found
    renamed = here.trigger != there.trigger and here.ticks
    if renamed:
        found.append(Difference(kind="renamed", text=_tell_names(here.trigger, expected, first, last)))
    if last and (first.start < last.end or (renamed and here.trigger and first.start == last.end)):
        found.append(Difference(kind="repeated", text=f"{_text(first.start)}, and {_text(last.end)} was reached"))
    elif there.ticks:
        # Named for its start, a run of the next interval is named for that interval's end.
        missed = expected.end if renamed and here.trigger else expected.start
        if first.start > missed:
            found.append(_tell_skipped(source, target, missed, first.start))
    return found


def _differ(there: DagRules, here: DagRules) -> bool:
    ours, theirs = here.schedule, there.schedule
    zones = {ours.timezone, theirs.timezone} - {None} if ours.kind == "cron" else set()
    return (ours.kind, ours.cron, ours.delta, ours.once) != (theirs.kind, theirs.cron, theirs.delta, theirs.once) or (
        len(zones) > 1
    )


def _tell_names(named_by_start: bool, expected: Interval, first: Interval, last: Interval | None) -> str:
    if named_by_start:
        before = f" after {_text(last.start)}" if last else ""
        return (
            f"runs are named for the moment at which they start:{before} comes {_text(first.start)},"
            f" and none is named {_text(expected.start)}"
        )
    return f"runs are named for the start of their interval: {_text(first.start)} starts at {_text(first.end)}"


def _tell_skipped(source: _Side, target: _Side, missed: datetime, first: datetime) -> Difference:
    count = count_between(source.rules.schedule, missed, first)
    number = f"{LIMIT} or more" if count >= LIMIT else str(count)
    why = ""
    if not target.catchup:
        known = {True: " any more", False: "", None: "; whether it did on the source is not recorded"}
        why = f", because it does not catch up{known[source.rules.catchup]}"
    text = f"{number} from {_text(missed)} on, before {_text(first)}, are not run{why}"
    return Difference(kind="skipped", text=text)


def _compare_noted(source: _Side, target: _Side, reason: str) -> list[Difference]:
    """Where the schedule cannot be computed: by what both deployments have noted themselves."""
    before, after = source.run.noted, target.run.noted if target.rules.parsed else None
    if not before or not after:
        return [Difference(kind="not computed", text=reason)]
    if after.start < before.start:
        return [Difference(kind="repeated", text=f"{_text(after.start)} lies before {_text(before.start)}")]
    if after.start > before.start:
        return [Difference(kind="skipped", text=f"the source would have run {_text(before.start)}")]
    return []


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(timezone.utc).isoformat()
