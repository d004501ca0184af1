"""Everything that a migration has decided before it touches anything, as plain JSON and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.staying import NOTHING, Staying
from airflow_migration.metadata.table_choice import TableChoice
from airflow_migration.planning.cron_timetables import IN_WORDS
from airflow_migration.planning.hops import Hop
from airflow_migration.planning.keys import KEEP, REENCRYPT, SWAP
from airflow_migration.planning.options import LISTS, Options
from airflow_migration.planning.rehearsal_options import RehearsalOptions
from airflow_migration.postgres.databases import derived_name
from airflow_migration.progress import amount

CLONE = "clone"
DUMP = "dump"
_KEY_SENTENCES = {
    SWAP: "The target gets the source's fernet key.",
    REENCRYPT: "The encrypted values of the working database are rewritten with the target's fernet key.",
    KEEP: "The target keeps its fernet key, and no value is rewritten.",
}
_HISTORY_SENTENCE = (
    "Runs before {} are taken out of it, with all that hangs on them; unfinished runs and each DAG's last ones stay in."
)


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

    def in_words(self) -> str:
        """The plan as Markdown, for the person who approves it."""
        lines = [
            f"**Source** {self.source_release}: database `{self.source_database}` on {self.source_server},"
            f" {amount(self.source_size, 'bytes')}.",
            f"**Target** {self.target_release}: database `{self.target_database}` on {self.target_server}.",
            "",
            "What will happen:",
            "",
            *(f"{number}. {sentence}" for number, sentence in enumerate(self._sentences(), 1)),
            "",
            "What was found:",
            "",
            *(f"- {_in_words(finding)}" for finding in self.findings if finding.severity != "ok"),
        ]
        return "\n".join(lines)

    def _naming(self) -> str:
        if self.cron_data_intervals:
            return "logical dates keep the meaning that they had on the source"
        return "a cron's runs are named for the moment at which they start"

    def _copying(self) -> Iterator[str]:
        if self.tables is not None:
            names = ", ".join(self.tables.travel)
            yield f"{len(self.tables.travel)} table(s) of the clone are dumped, rows only: {names}."
            yield "The target's processes are brought to rest."
            yield (
                f"In `{self.target_database}` the target's own rows of these tables are kept in schema"
                " `airflow_migration`, and the dumped rows take their place. No other table is touched."
            )
            return
        if self.needs_dump:
            yield f"The clone is dumped{' as a backup' if self.transfer == CLONE else ''}."
        way = "by template clone" if self.transfer == CLONE else "by pg_dump and pg_restore"
        yield f"The working database `{self.working_database}` is made {way}."

    def _sentences(self) -> list[str]:
        options = self.options
        path = " → ".join([self.source_release, *(hop.release for hop in self.hops)])
        sentences = [
            f"All DAGs of the source are paused ({self.active_dags} are active now; they are remembered).",
            f"Running tasks may end: {self.in_flight} are in flight now; the wait is at most"
            f" {options.drain_timeout} s, then the run will {options.on_drain_timeout}.",
            f"The source is cloned to `{self.frozen_database}`; its sessions are ended for that moment.",
            *self._copying(),
            *([_HISTORY_SENTENCE.format(self.history_cutoff)] if self.history_cutoff else []),
            _KEY_SENTENCES[self.fernet],
            f"The database is repaired and upgraded: {path}." if self.hops else "No upgrade is needed.",
            "What keeps the target's scheduler from going on is mended.",
            "Both copies are compared; any unexplained difference stops here.",
        ]
        if options.fence_source:
            sentences.append("The source's database becomes read-only.")
        if self.set_aside_as:
            sentences.append(f"The target's fresh database is set aside as `{self.set_aside_as}`.")
        if self.in_place:
            sentences.append("The target is started again.")
        else:
            sentences.append(f"The working database becomes `{self.target_database}`, and the target is restarted.")
        if self.settings:
            setting = f"{IN_WORDS} = {self.cron_data_intervals}"
            sentences.append(f"Before that the target gets `{setting}`: {self._naming()}.")
        elif self.cron_data_intervals is False:
            sentences.append(f"On the target {self._naming()}.")
        if options.unpause == "none":
            sentences.append("No DAG is unpaused.")
        elif isinstance(options.unpause, tuple):
            sentences.append(f"These DAGs are unpaused: {', '.join(options.unpause)}.")
        else:
            sentences.append("Exactly the DAGs that were active are unpaused.")
        return sentences


def _in_words(finding: Finding) -> str:
    met = f" (upgrade to {' and '.join(finding.hops)})" if finding.hops else ""
    done = f". {finding.remedy}" if finding.repair else ""
    return f"*{finding.severity}*: {finding.summary}{met}{done}"


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
