"""Ask the releases of a plan what an older airflow.cfg has to say for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from airflow_migration.exceptions import ToolError
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import Release
from airflow_migration.metadata.releases import release as find_release
from airflow_migration.planning.carried_settings import Settings, commands_between
from airflow_migration.planning.configuration import Knowledge, read_options
from airflow_migration.planning.configuration_result import ConfigurationResult, findings_of
from airflow_migration.planning.wanted_settings import new_settings, point_connections
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.progress import Listener
from airflow_migration.runtimes import tell_settings
from airflow_migration.runtimes.runtime import Runtime
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.steps.migration import Migration


def file_of(migration: Migration) -> str | None:
    """The airflow.cfg of a rehearsal; None where none is given."""
    return migration.plan.rehearsed.airflow_cfg


def check_file(migration: Migration, listener: Listener) -> ConfigurationResult:
    """Check the airflow.cfg of a rehearsal with the releases of its plan."""
    path, plan = file_of(migration), migration.plan
    assert path is not None
    return check_configuration(
        migration.runtime(),
        path=path,
        # "2.10.3 to 2.11.2" where the database does not tell them apart; they are of one line.
        source=plan.source_release.partition(" ")[0],
        releases=[*(hop.release for hop in plan.hops), plan.target_release],
        address=migration.final,
        cron_data_intervals=plan.cron_data_intervals,
        listener=listener,
    )


def check_configuration(
    runtime: Runtime,
    *,
    path: str,
    source: str,
    releases: Sequence[str],
    address: DatabaseAddress,
    cron_data_intervals: bool | None,
    listener: Listener,
) -> ConfigurationResult:
    """Write out what of the file the target wants otherwise; the file is read, and is no Airflow's configuration.

    :param source: release that the file was written for
    :param releases: those of the hops, the target last
    :param address: the database that the target will use
    :param cron_data_intervals: what the plan wants of [scheduler] create_cron_data_intervals
    :raises InvalidInputError: there is no such file, or it is no airflow.cfg
    :raises ToolError: a release's Airflow cannot be started
    """
    file = Path(path).expanduser()
    options = read_options(file)
    target, settings = find_release(releases[-1]), Settings.of(options)
    if not isinstance(runtime, VenvRuntime):
        return _unread(path, len(options))
    known: list[Knowledge] = []
    for name in dict.fromkeys(releases):
        listener(f"Asking Airflow {name} about {len(settings.entries)} settings of {file.name}")
        known.append(_ask(runtime, find_release(name), settings))
        settings.carry(known[-1])
    point_connections(settings, address)
    changes = [*settings.changes(known[-1]), *new_settings(settings, known[-1], cron_data_intervals)]
    changes.sort(key=lambda each: (not each.required, not each.after))
    commands = commands_between(find_release(source), known)
    lint = known[-1].lint
    return ConfigurationResult(
        release=str(target),
        path=path,
        options=len(options),
        lint=None if lint is None else tuple(each["message"] for each in lint),
        changes=tuple(changes),
        commands=commands,
        findings=tuple(findings_of(changes, commands, lint=lint, source=find_release(source), target=target)),
    )


def _ask(runtime: VenvRuntime, release: Release, settings: Settings) -> Knowledge:
    lines: list[str] = []
    code = runtime.run_script(str(release), Path(tell_settings.__file__), {"options": settings.options}, lines.append)
    answers = [line for line in lines if line.startswith(tell_settings.MARK)]
    if code or not answers:
        # What it printed may hold a value.
        raise ToolError(
            f"its Python ended with {code} and no answer",
            where=f"settings of Airflow {release}",
            remedy="Retry the task; if it ends so again, leave airflow_cfg out",
        )
    return Knowledge.from_answer(release, json.loads(answers[0].removeprefix(tell_settings.MARK)))


def _unread(path: str, options: int) -> ConfigurationResult:
    unread = Finding(
        check="configuration_unread",
        severity="info",
        summary="the runtime is a pod, which cannot be asked about settings: airflow_cfg was not checked",
        remedy="A rehearsal from a connection with runtime kind venv checks it",
    )
    return ConfigurationResult(
        release="", path=path, options=options, lint=None, changes=(), commands={}, findings=(unread,)
    )
