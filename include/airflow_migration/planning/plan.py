"""Everything that a migration has decided before it touches anything, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.staying import NOTHING, Staying
from airflow_migration.metadata.table_choice import TableChoice
from airflow_migration.planning.hops import Hop
from airflow_migration.planning.options import LISTS, Options
from airflow_migration.planning.rehearsal_options import RehearsalOptions
from airflow_migration.postgres.databases import derived_name

CLONE = "clone"
DUMP = "dump"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decisions of one migration.

    :param token: stands for the migration in names of databases and files
    :param transfer: ``clone``, ``dump`` or ``data_only``, resolved
    :param fernet: ``swap``, ``reencrypt`` or ``keep``, resolved
    :param repairs: ids of those that may run
    :param frozen_database: copy of the source on its own server, never changed
    :param working_database: becomes `target_database` at the end; with ``data_only`` it is that from the start
    :param set_aside_as: name that the fresh database which has the target's name now will get
    :param users_schema: where the source has its FAB tables, if not among Airflow's others
    :param source_size: bytes
    :param active_dags: DAGs that are active now
    :param in_flight: task instances that the drain would wait for now
    :param cron_data_intervals: what the target's setting has to be; None leaves it as it is
    :param history_cutoff: runs before this moment (ISO 8601) stay behind; None where all travel
    :param settings: settings that the target needs and does not have, as environment variables
    :param tables: which of them travel; None where the whole database does
    :param last_rehearsal: of this source and target, as `last_rehearsal.consult` tells it; None where there is none
    :param prediction: of the downtime, as `predict_downtime` makes it; None where nothing has measured it
    """

    migration_id: str
    token: str
    options: Options
    transfer: str
    fernet: str
    repairs: tuple[str, ...]
    source_release: str
    source_head: str
    target_release: str
    target_head: str
    hops: tuple[Hop, ...]
    source_database: str
    source_server: str
    target_server: str
    frozen_database: str
    working_database: str
    target_database: str
    set_aside_as: str | None
    source_size: int
    active_dags: int
    in_flight: int
    findings: tuple[Finding, ...]
    cron_data_intervals: bool | None = None
    history_cutoff: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    users_schema: str | None = None
    target_cluster: str | None = None
    tables: TableChoice | None = None
    last_rehearsal: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None

    @property
    def needs_dump(self) -> bool:
        return self.transfer != CLONE or self.options.backup

    @property
    def in_place(self) -> bool:
        """Rows alone go into the database that the target has, and no other is made."""
        return self.tables is not None

    @property
    def choice(self) -> TableChoice:
        """The tables of a migration that is `in_place`."""
        assert self.tables is not None
        return self.tables

    def travels(self, table: str) -> bool:
        """Whether a table of the source does, if it has it."""
        return self.tables is None or table in self.tables.travel

    @property
    def staying(self) -> Staying:
        """What of the source stays behind."""
        return NOTHING if self.tables is None else self.tables.staying

    @property
    def history_moment(self) -> datetime | None:
        """`history_cutoff`, to be compared with."""
        return None if self.history_cutoff is None else datetime.fromisoformat(self.history_cutoff)

    @property
    def label(self) -> str:
        """Comment on the databases that this migration makes."""
        return label_of(self.migration_id)

    @property
    def rehearsal(self) -> RehearsalOptions | None:
        """The options of a rehearsal; None for a migration."""
        return self.options if isinstance(self.options, RehearsalOptions) else None

    @property
    def rehearsed(self) -> RehearsalOptions:
        """The options of what must be a rehearsal.

        :raises InvalidInputError: it is a migration
        """
        if self.rehearsal is None:
            raise InvalidInputError(
                "the plan is of a migration", where="rehearsal", remedy="Trigger rehearse_migration anew"
            )
        return self.rehearsal

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        values = dict(data)
        options = dict(values["options"])
        options |= {name: tuple(options[name]) for name in LISTS if isinstance(options[name], list)}
        values["options"] = (RehearsalOptions if "scratch_conn_id" in options else Options)(**options)
        values["repairs"] = tuple(values["repairs"])
        values["hops"] = tuple(Hop(**hop) for hop in values["hops"])
        values["findings"] = tuple(
            Finding(**(finding | {name: tuple(finding.get(name, ())) for name in ("evidence", "hops")}))
            for finding in values["findings"]
        )
        if values.get("tables") is not None:
            values["tables"] = TableChoice.from_json(values["tables"])
        return cls(**values)


def chosen_names(plan: Plan) -> dict[str, object]:
    """What a roll back must know of a plan, for the journal of the source."""
    return {
        "token": plan.token,
        "transfer": plan.transfer,
        "target_connection": plan.options.target_conn_id,
        "frozen_database": plan.frozen_database,
        "working_database": plan.working_database,
        "target_database": plan.target_database,
        "target_cluster": plan.target_cluster,
    }


def dump_name(token: str) -> str:
    """Of the dump's directory."""
    return f"airflow-migration-{token}"


def label_of(migration_id: str) -> str:
    """Comment on the databases that a migration makes."""
    return f"airflow_migration {migration_id}"


def frozen_name(source_database: str, token: str) -> str:
    return derived_name(source_database, f"__frozen_{token}")


def working_name(target_database: str, token: str) -> str:
    return derived_name(target_database, f"__{token}")


def scratch_names(target_database: str, token: str) -> tuple[str, str]:
    """Of the copy of the source that a rehearsal makes, and of its working database."""
    working = derived_name(target_database, f"__rehearsal_{token}")
    return derived_name(target_database, f"__rehearsal_{token}_source"), working


def set_aside_name(target_database: str, token: str) -> str:
    return derived_name(target_database, f"__before_{token}")
