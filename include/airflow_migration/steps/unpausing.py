"""Start the target's DAGs: parsed first where that can be had, then exactly those that were active."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from airflow_migration.deployments.control import control_of
from airflow_migration.metadata import journal, pausing, schedules
from airflow_migration.metadata.forecast import Forecast, forecast
from airflow_migration.metadata.parsing import read_unparsed, somebody_parses
from airflow_migration.metadata.releases import release
from airflow_migration.planning.options import PREVIOUSLY_ACTIVE
from airflow_migration.postgres.address import Session
from airflow_migration.progress import Listener, Progress
from airflow_migration.steps.migration import Migration

POLL_SECONDS = 2.0
START_DEADLINE = 180.0
"""A restarted DAG processor of 3.3.2 sends its first heartbeat after some 15 s on two idle cores."""
PARSE_DEADLINE = 900.0
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverResult:
    """:param parsed: the target's DAGs are parsed, so that its scheduler can go on with them at once
    :param missing: DAGs to be unpaused of which the database has no row, at most twenty
    :param forecast: the next run of every DAG that is unpaused, and how many start at once
    :param warnings: what a person must know or do
    """

    unpaused: int
    already_active: int
    missing: tuple[str, ...]
    parsed: bool
    mended: schedules.MendResult
    forecast: Forecast
    warnings: tuple[str, ...]


def unpause_dags(migration: Migration, listener: Listener) -> HandOverResult:
    """Have the DAGs parsed by the target, mend what needs that, look ahead, and unpause what was asked for."""
    with migration.source.address.connect() as source:
        journal.refuse_rolled_back(source, migration.id)
    wanted = _wanted(migration)
    parse_is_done, not_parsed = _have_parsed(migration, wanted, listener)
    with migration.frozen.connect() as frozen, migration.final.connect(read_only=False) as conn:
        recorded = schedules.read_schedules(frozen)
        mended = schedules.mend_after_parse(
            conn,
            source_head=migration.plan.source_head,
            recorded=recorded,
            migration_id=migration.id,
            listener=listener,
        )
        conn.commit()
        outlook = _look_ahead(migration, wanted, frozen, conn, parse_is_done=parse_is_done)
        conn.commit()
        result = pausing.unpause_dags(conn, wanted)
    listener(f"{result.unpaused} DAG(s) of the target are active now; {outlook.runs_at_once} run(s) start at once")
    warnings = [*not_parsed, *mended.warnings, *outlook.warnings]
    for warning in warnings:
        listener(warning)
    return HandOverResult(
        unpaused=result.unpaused,
        already_active=result.already_active,
        missing=result.missing,
        parsed=not not_parsed,
        mended=mended,
        forecast=outlook,
        warnings=tuple(warnings),
    )


def _look_ahead(
    migration: Migration, wanted: tuple[str, ...], frozen: Session, conn: Session, *, parse_is_done: bool
) -> Forecast:
    return forecast(
        frozen,
        conn,
        wanted,
        paused_at=journal.read_opening(conn, migration.id),
        named_by_start=migration.plan.cron_data_intervals is False,
        parse_is_done=parse_is_done,
    )


def _wanted(migration: Migration) -> tuple[str, ...]:
    choice = migration.plan.options.unpause
    if isinstance(choice, tuple):
        return choice
    if choice != PREVIOUSLY_ACTIVE:
        return ()
    with migration.final.connect() as conn:
        return pausing.read_active(conn, migration.id)


def _have_parsed(migration: Migration, wanted: tuple[str, ...], listener: Listener) -> tuple[bool, list[str]]:
    """See to it that the target knows its DAGs.

    :returns: whether all that can be parsed is, and warnings; none when every wanted DAG is parsed
    """
    if migration.target.dags_folder:
        _reserialize(migration, migration.target.dags_folder, listener)
        unparsed = _read_unparsed(migration, wanted)
    elif _wait_for_parser(migration, listener):
        unparsed = _wait_for_parse(migration, wanted, listener)
    else:
        return False, [
            "No DAG processor of the target is running: nothing is scheduled until one has parsed the DAGs, and"
            " unfinished runs of before wait for that too"
        ]
    if not unparsed:
        return True, []
    named = ", ".join(unparsed[:SHOWN])
    return True, [f"{len(unparsed)} DAG(s) are not parsed by the target, whose files may be missing or broken: {named}"]


def _reserialize(migration: Migration, folder: str, listener: Listener) -> None:
    listener(f"The target's DAG files in {folder} are parsed by {migration.plan.target_release}")
    output = migration.runtime().run(
        migration.plan.target_release,
        migration.final,
        migration.keys.working,
        ["dags", "reserialize"],
        # Those that a person was told to set are not seen from here.
        dict(control_of(migration.target).settings()) | migration.plan.settings,
        Path(folder),
    )
    if output.exit_code:
        listener(f"`airflow dags reserialize` ended with {output.exit_code}")


def _read_unparsed(migration: Migration, wanted: tuple[str, ...]) -> tuple[str, ...]:
    with migration.final.connect() as conn:
        return read_unparsed(conn, wanted)


def _wait_for_parser(migration: Migration, listener: Listener) -> bool:
    """Whether a process of the target parses DAGs; waited for only where we restarted it."""
    separate = release(migration.plan.target_release).number >= (3,)
    restarted = control_of(migration.target).restarts_parser(separate=separate)
    deadline = time.monotonic() + (START_DEADLINE if restarted else 0.0)
    clock = threading.Event()
    while True:
        with migration.final.connect() as conn:
            if somebody_parses(conn):
                return True
        if time.monotonic() >= deadline:
            return False
        listener("Waiting for the target's DAG processor")
        clock.wait(POLL_SECONDS)


def _wait_for_parse(migration: Migration, wanted: tuple[str, ...], listener: Listener) -> tuple[str, ...]:
    start = time.monotonic()
    clock = threading.Event()
    seen: int | None = None
    while True:
        unparsed = _read_unparsed(migration, wanted)
        passed = time.monotonic() - start
        if not unparsed or passed >= PARSE_DEADLINE:
            return unparsed
        if seen != len(unparsed):
            seen = len(unparsed)
            done = len(wanted) - seen
            listener(Progress(what="Parsed by the target", done=done, total=len(wanted), unit="DAGs", seconds=passed))
        clock.wait(POLL_SECONDS)
