"""What the target's settings must say because of the migration itself: its database, its dates, its users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from airflow_migration.planning.carried_settings import SUFFIXES, Settings
from airflow_migration.planning.configuration import Knowledge, Option, SettingChange, named, written
from airflow_migration.planning.users_and_roles import FAB
from airflow_migration.postgres.address import DatabaseAddress

CONNECTIONS: Mapping[Option, str] = {
    ("database", "sql_alchemy_conn"): "postgresql+psycopg2",
    ("core", "sql_alchemy_conn"): "postgresql+psycopg2",
    ("celery", "result_backend"): "db+postgresql",
    ("celery", "celery_result_backend"): "db+postgresql",
}
"""Options that name the metadata database, and how their values begin."""
EXECUTOR: Option = ("core", "executor")
AUTH_MANAGER: Option = ("core", "auth_manager")
CRON: Option = ("scheduler", "create_cron_data_intervals")
TRUE = ("t", "true", "1")
NEW_DATABASE = "the target's metadata database"


def point_connections(settings: Settings, address: DatabaseAddress) -> None:
    """Have whatever names the metadata database name the target's; a broker or another backend stays."""
    place = f"{address.server}/{address.database}"
    for option, begin in CONNECTIONS.items():
        entry = settings.entries.get(option)
        if entry and _is_metadata(option, entry.value) and not _names(entry.value, address):
            settings.change(option, shown=f"{begin}://{address.user}:***@{place}", why=f"{NEW_DATABASE} is {place}")
        for suffix in SUFFIXES:
            indirect = (option[0], option[1] + suffix)
            settings.change(indirect, shown=f"… (what it gives must name {place})", why=f"{NEW_DATABASE} is {place}")


def _is_metadata(option: Option, value: str) -> bool:
    return option[0] != "celery" or value.startswith("db+")


def _names(value: str, address: DatabaseAddress) -> bool:
    try:
        url = urlsplit(value.removeprefix("db+"))
        return (url.hostname, url.port or 5432, url.path) == (address.host, address.port, f"/{address.database}")
    except ValueError:
        return False


def new_settings(settings: Settings, target: Knowledge, cron_data_intervals: bool | None) -> Iterator[SettingChange]:
    """What the file does not say, or not rightly.

    :param cron_data_intervals: what the plan wants of that setting; None leaves it as it is
    """
    yield from _executors(settings, target)
    cron = settings.entries.get(CRON)
    is_on = cron is not None and cron.value.strip().lower() in TRUE
    if cron_data_intervals is not None and is_on != cron_data_intervals:
        yield SettingChange(
            before=written(CRON, cron.value) if cron else "",
            after=f"{named(CRON)} = {cron_data_intervals}",
            why="logical dates go on as the migration's param cron_timetable has it",
            required=True,
        )
    if (
        target.release.number >= (3,)
        and "SimpleAuthManager" in target.auth_manager
        and AUTH_MANAGER not in settings.entries
    ):
        yield SettingChange(
            before="",
            after=f"{named(AUTH_MANAGER)} = {FAB}",
            why="by default users and roles of the source stay unused; needs the provider fab",
            required=False,
        )


def _executors(settings: Settings, target: Knowledge) -> Iterator[SettingChange]:
    entry = settings.entries.get(EXECUTOR)
    if not entry or not target.executors:
        return
    # Since 2.10 several with commas, each perhaps behind an alias; with a dot it is a class of somebody's own.
    names = [part.strip().rpartition(":")[2] for part in entry.current.split(",")]
    if unknown := [name for name in names if "." not in name and name not in target.executors]:
        yield SettingChange(
            before=written(EXECUTOR, entry.value),
            after=f"{named(EXECUTOR)} = one of {', '.join(target.executors)}",
            why=f"Airflow {target.release} has no {', '.join(unknown)}",
            required=True,
        )
