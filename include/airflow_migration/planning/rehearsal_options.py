"""What the person asked for: the params of one rehearsal, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.planning.options import DATA_ONLY, TRANSFERS, Options

if TYPE_CHECKING:
    from typing_extensions import Self

OF_THE_CUT_OVER = frozenset(
    {
        "tables",
        "backup",
        "drain_timeout",
        "on_drain_timeout",
        "require_approval",
        "unpause",
        "fence_source",
        "max_rehearsal_age_days",
    }
)
"""Params of ``migrate_airflow`` that mean nothing to a rehearsal; their defaults are the plan's."""

REHEARSED_TRANSFERS = tuple(each for each in TRANSFERS if each != DATA_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalOptions(Options):
    """Params of ``rehearse_migration``: those of the migration that is rehearsed, and its own.

    :param scratch_conn_id: connection to the server for the scratch databases; None is the target's
    :param max_source_load: active sessions of others on the source's server above which copying slows down
    :param jobs: sessions that copy at most
    :param dags_folder: where DAG files can be read; None takes the target connection's
    :param dag_parse_timeout: seconds for each DAG file; None gives it what the target would
    :param airflow_cfg: file whose settings the target is asked about; None for none
    """

    scratch_conn_id: str | None = None
    max_source_load: int = 8
    jobs: int = 2
    dags_folder: str | None = None
    dag_parse_timeout: float | None = None
    airflow_cfg: str | None = None

    @classmethod
    def params(cls) -> frozenset[str]:
        return frozenset(cls.__dataclass_fields__) - OF_THE_CUT_OVER

    @classmethod
    def from_params(cls, params: Mapping[str, Any], given: Sequence[str]) -> Self:
        # A dataclass with slots is another class than the one that super() alone would mean.
        options = super(RehearsalOptions, cls).from_params(params, given)
        if options.transfer == DATA_ONLY:
            raise InvalidInputError(
                f"transfer {DATA_ONLY} cannot be rehearsed: rows alone are not upgraded",
                where="params of the run",
                remedy="Use transfer auto; migrate_airflow itself checks rows alone before anything is touched",
            )
        for name, least in (("max_source_load", 0), ("jobs", 1)):
            value = getattr(options, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(
                    f"{name} is {value!r}", where="params of the run", remedy=f"Use a whole number from {least} on"
                )
        options._require_timeout()
        return options

    def _require_timeout(self) -> None:
        value = self.dag_parse_timeout
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise InvalidInputError(
                f"dag_parse_timeout is {value!r}",
                where="params of the run",
                remedy="Use a number of seconds above 0, or null for the target's own dagbag_import_timeout",
            )

    @property
    def scratch(self) -> str:
        """The connection to the server for the scratch databases."""
        return self.scratch_conn_id or self.target_conn_id
