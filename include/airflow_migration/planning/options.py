"""What the person asked for: the params of one migration, checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.table_choice import DEFAULT
from airflow_migration.planning import cron_timetables
from airflow_migration.planning.keys import FERNET
from airflow_migration.planning.repairs import SAFE, allowed

if TYPE_CHECKING:
    from typing_extensions import Self

DATA_ONLY = "data_only"
TRANSFERS = ("auto", "clone", "dump", DATA_ONLY)
PREVIOUSLY_ACTIVE = "previously_active"
LISTS = ("repairs", "tables", "unpause")
"""Params that may be a list."""
LONGEST = 36_500
"""Days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Params of ``migrate_airflow``, each as it is named there.

    :param target_database: None is the target connection's own database
    :param tables: of transfer ``data_only``: ``default``, or tables that travel, in which ``default`` and ``users``
        stand for theirs
    :param history_days: only runs newer than this travel; None is all
    :param repairs: ``safe``, ``all``, or ids of the repairs that may run
    :param drain_timeout: seconds
    :param unpause: ``previously_active``, ``none``, or DAG ids
    :param max_rehearsal_age_days: when the last rehearsal is older, preflight warns; None does not ask for one
    """

    source_conn_id: str = "migration_source"
    target_conn_id: str = "migration_target"
    transfer: str = "auto"
    target_database: str | None = None
    tables: str | tuple[str, ...] = DEFAULT
    fernet: str = "swap"
    history_days: int | None = None
    backup: bool = True
    repairs: str | tuple[str, ...] = SAFE
    cron_timetable: str = cron_timetables.DATA_INTERVAL
    drain_timeout: int = 3600
    on_drain_timeout: str = "fail"
    require_approval: bool = True
    unpause: str | tuple[str, ...] = PREVIOUSLY_ACTIVE
    fence_source: bool = True
    max_rehearsal_age_days: int | None = 14

    @classmethod
    def params(cls) -> frozenset[str]:
        """Names of the params that the DAG offers."""
        return frozenset(cls.__dataclass_fields__)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], given: Sequence[str]) -> Self:
        """Read a run's params.

        :param given: the keys of the run's conf; Airflow itself lets unknown ones pass
        :raises InvalidInputError: a key is unknown or a value is not one of those that work
        """
        known = cls.params()
        refuse_unknown(known, given)
        values = {name: params[name] for name in known if name in params}
        for name in LISTS:
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        options = cls(**values)
        options._require("transfer", TRANSFERS)
        options._require("fernet", FERNET)
        options._require("cron_timetable", cron_timetables.CHOICES)
        options._require_days("history_days", "all history")
        options._require_days("max_rehearsal_age_days", "no warning")
        options._require_tables()
        allowed(options.repairs)
        options._require("on_drain_timeout", ("fail", "proceed"))
        if isinstance(options.unpause, str):
            options._require("unpause", (PREVIOUSLY_ACTIVE, "none"))
        return options

    def _require_days(self, name: str, null: str) -> None:
        days = getattr(self, name)
        if days is not None and (isinstance(days, bool) or not isinstance(days, int) or not 0 <= days <= LONGEST):
            raise InvalidInputError(
                f"{name} is {days!r}",
                where="params of the run",
                remedy=f"Use a whole number of days from 0 to {LONGEST}, or null for {null}",
            )

    def _require_tables(self) -> None:
        if self.tables == DEFAULT:
            return
        named = isinstance(self.tables, tuple) and all(isinstance(name, str) and name for name in self.tables)
        if not named or not self.tables:
            raise InvalidInputError(
                f"tables is {self.tables!r}", where="params of the run", remedy=f"Use {DEFAULT}, or a list of tables"
            )
        if self.transfer != DATA_ONLY:
            raise InvalidInputError(
                f"tables is given, but transfer is {self.transfer}, with which the whole database travels",
                where="params of the run",
                remedy=f"Leave tables out, or set transfer to {DATA_ONLY}",
            )

    def _require(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise InvalidInputError(
                f"{name} is {value!r}", where="params of the run", remedy=f"Use one of: {', '.join(allowed)}"
            )


def refuse_unknown(known: Collection[str], given: Iterable[str]) -> None:
    """:raises InvalidInputError: the run's conf has a key that is none of the known ones"""
    if unknown := sorted(set(given) - set(known)):
        raise InvalidInputError(
            f"unknown param(s) {', '.join(unknown)}",
            where="params of the run",
            remedy=f"Use only: {', '.join(sorted(known))}",
        )
