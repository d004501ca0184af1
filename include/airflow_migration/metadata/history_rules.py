"""Say which rows of a metadata database are too old to travel: old runs, with all that hangs on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from airflow_migration.metadata.last_runs import automated
from airflow_migration.metadata.repairs.catalog import Tables, read_tables
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.references import ForeignKey, read_foreign_keys

Part = sql.Composable
Over = Callable[[str], Part]
"""SQL over the row that has the given alias."""

RUN_TABLES = (
    "task_instance",
    "asset_partition_dag_run",
    "dag_run_note",
    "dagrun_asset_event",
    "dagrun_dataset_event",
    "deadline",
    "hitl_detail",
    "rendered_task_instance_fields",
    "sensor_instance",
    "sla_miss",
    "task_fail",
    "task_instance_history",
    "task_instance_note",
    "task_map",
    "task_reschedule",
    "task_state_store",
    "xcom",
)
"""Tables whose rows belong to one run; by which columns depends on the release. The first is asked by others."""
_RUN_IDS = ("dag_run_id", "dagrun_id", "created_dag_run_id")
_TRIGGERED = {"dataset": "dataset_triggered", "asset": "asset_triggered"}
"""Stem of the events' tables before and from 3.0 on → type of the runs that they start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which rows of a table stay behind and which travel; each is the other's opposite.

    Both begin with (NOT) EXISTS where the table may be long, which Postgres joins by hash at any size. Other
    forms become a search for each row once they do not fit into work_mem.
    """

    stays: Over
    travels: Over


def kept_conditions(conn: Session, cutoff: datetime) -> Mapping[str, Part]:
    """Which rows travel, for every table of this database that history_days filters: SQL over `t`.

    Fit for WHERE, also with AND. A run travels when it is not older than `cutoff`, is unfinished, is the last
    of its DAG or the last from which the scheduler goes on, or comes right before an unfinished one, whose
    tasks may depend on it. Rows of a run go with it. Rows that belong to no run travel, but for old ones of
    `log` and `job`.

    :param conn: session on a database of any release, not filtered yet
    :param cutoff: with a time zone; compared with the logical date
    """
    return {table: rule.travels("t") for table, rule in history_rules(conn, cutoff).items()}


def history_rules(conn: Session, cutoff: datetime) -> dict[str, Rule]:
    """The rules behind `kept_conditions`, also for tables of others that refer to filtered ones."""
    tables, limit = read_tables(conn), sql.Literal(cutoff)
    runs = _Runs(tables["dag_run"], limit)
    rules = {"dag_run": staying(lambda a: runs.find(a, id="id"))}
    for table in RUN_TABLES:
        if table in tables:
            rules[table] = _of_run(runs, tables[table], rules)
    rules |= _of_details(tables, rules) | _backfills(tables, runs, limit) | _log_and_job(tables, runs, limit)
    for stem in _TRIGGERED:
        if f"{stem}_event" in tables:
            rules |= _events(tables, stem, runs, limit)
    return dict(sorted(_with_dependents(rules, read_foreign_keys(conn)).items()))


def staying(*queries: Over) -> Rule:
    """Rows stay for which one of these queries finds something."""
    return Rule(
        stays=lambda a: sql.SQL(" OR ").join(sql.SQL("EXISTS ({})").format(query(a)) for query in queries),
        travels=lambda a: sql.SQL(" AND ").join(sql.SQL("NOT EXISTS ({})").format(query(a)) for query in queries),
    )


def hanging(parent: str, rule: Rule, columns: Collection[str], parent_columns: Collection[str]) -> Over:
    """Finds the row of `parent` that stays and at which these columns of a row point."""

    def query(alias: str) -> Part:
        above = alias + "p"
        return sql.SQL("SELECT FROM {} {} WHERE {} AND ({})").format(
            sql.Identifier(parent),
            sql.Identifier(above),
            _same(above, parent_columns, alias, columns),
            rule.stays(above),
        )

    return query


class _Runs:
    """The runs that stay behind."""

    def __init__(self, columns: Collection[str], cutoff: Part) -> None:
        new = "logical_date" in columns
        self.date = "logical_date" if new else "execution_date"
        # From 3.0 on a run may have no logical date; run_after is never NULL.
        self.moment = sql.SQL("coalesce(r.logical_date, r.run_after)" if new else "r.execution_date")
        self.query = sql.SQL(
            "(SELECT id, dag_id, run_id, date FROM ("
            "SELECT r.id, r.dag_id, r.run_id, r.{date} AS date, {moment} AS moment, {finished} AS finished,"
            " lead({finished}) OVER w AS next_finished, {automated} AS automated,"
            " max({moment}) FILTER (WHERE {automated}) OVER (PARTITION BY r.dag_id) AS last_automated"
            " FROM dag_run r WINDOW w AS (PARTITION BY r.dag_id ORDER BY {moment} NULLS FIRST, r.id)) looked_at"
            # The last run of a DAG has no next one.
            " WHERE moment < {cutoff} AND finished AND next_finished AND NOT (automated AND moment = last_automated))"
        ).format(
            date=sql.Identifier(self.date),
            moment=self.moment,
            finished=sql.SQL("coalesce(r.state IN ('success', 'failed'), false)"),
            automated=sql.SQL(f"coalesce({automated(columns)}, false)"),
            cutoff=cutoff,
        )

    def find(self, alias: str, **match: str) -> Part:
        """A query for the staying run of a row; `match`: the run's column → the row's."""
        return sql.SQL("SELECT FROM {} old WHERE {}").format(
            self.query, _same("old", match.keys(), alias, match.values())
        )


def _same(alias: str, columns: Iterable[str], other: str, other_columns: Iterable[str]) -> Part:
    pairs = zip(columns, other_columns, strict=True)
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(alias, mine), sql.Identifier(other, theirs)) for mine, theirs in pairs
    )


def _of_run(runs: _Runs, columns: Collection[str], rules: Mapping[str, Rule]) -> Rule:
    if {"dag_id", "run_id"} <= set(columns):
        return staying(lambda a: runs.find(a, dag_id="dag_id", run_id="run_id"))
    if {"dag_id", "execution_date"} <= set(columns):
        return staying(lambda a: runs.find(a, dag_id="dag_id", date="execution_date"))
    if "ti_id" in columns:
        return staying(hanging("task_instance", rules["task_instance"], ("ti_id",), ("id",)))
    run = next(name for name in _RUN_IDS if name in columns)
    return staying(lambda a: runs.find(a, id=run))


def _of_details(tables: Tables, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """What belongs to a run by way of something else."""
    found = {}
    if "hitl_detail_history" in tables:
        tries = "task_instance_history"
        found["hitl_detail_history"] = staying(hanging(tries, rules[tries], ("ti_history_id",), ("task_instance_id",)))
    if "callback_id" in tables.get("deadline", {}):
        found["callback"] = staying(hanging("deadline", rules["deadline"], ("id",), ("callback_id",)))
    return found


def _backfills(tables: Tables, runs: _Runs, cutoff: Part) -> dict[str, Rule]:
    """A backfill travels while it is not complete, and with any of its runs."""
    if "backfill" not in tables:
        return {}
    kept = sql.SQL("(SELECT b.backfill_id FROM dag_run b WHERE b.backfill_id IS NOT NULL AND NOT EXISTS ({}))").format(
        runs.find("b", id="id")
    )

    def write(text: str) -> Over:
        return lambda a: sql.SQL(text).format(a=sql.Identifier(a), cutoff=cutoff, kept=kept)

    backfill = Rule(
        stays=write("({a}.completed_at < {cutoff} AND {a}.id NOT IN {kept})"),
        travels=write("({a}.completed_at IS NULL OR {a}.completed_at >= {cutoff} OR {a}.id IN {kept})"),
    )
    its = hanging("backfill", backfill, ("backfill_id",), ("id",))
    return {"backfill": backfill, "backfill_dag_run": staying(its, lambda a: runs.find(a, id="dag_run_id"))}


def _events(tables: Tables, stem: str, runs: _Runs, cutoff: Part) -> dict[str, Rule]:
    """Events travel that are new, were made or consumed by a run that travels, or still wait for other events."""
    kept = _kept_events(tables, stem, runs, cutoff)

    def query(alias: str) -> Part:
        return sql.SQL("SELECT FROM ({}) kept WHERE kept.id = {}").format(kept, sql.Identifier(alias, "id"))

    event = Rule(
        stays=lambda a: sql.SQL("NOT EXISTS ({})").format(query(a)),
        travels=lambda a: sql.SQL("EXISTS ({})").format(query(a)),
    )
    dependents = {f"{stem}_alias_{stem}_event": "event_id"}
    if stem == "asset":
        dependents["partitioned_asset_key_log"] = "asset_event_id"
    return {f"{stem}_event": event} | {
        table: staying(hanging(f"{stem}_event", event, (column,), ("id",)))
        for table, column in dependents.items()
        if table in tables
    }


def _kept_events(tables: Tables, stem: str, runs: _Runs, cutoff: Part) -> sql.Composed:
    parts = [
        "SELECT e.id FROM {event} e WHERE e.timestamp >= {cutoff}",
        "SELECT e.id FROM {event} e JOIN dag_run m ON m.dag_id = e.source_dag_id AND m.run_id = e.source_run_id"
        " WHERE NOT EXISTS ({maker})",
        "SELECT c.event_id FROM {consumed} c WHERE NOT EXISTS ({consumer})",
        # A run that events start consumes all since the one before it.
        "SELECT e.id FROM {event} e JOIN {queue} q ON q.{asset} = e.{asset} WHERE e.timestamp > coalesce("
        "(SELECT max({moment}) FROM dag_run r WHERE r.dag_id = q.target_dag_id AND r.run_type = {type}), '-infinity')",
    ]
    if stem == "asset" and "partitioned_asset_key_log" in tables:
        parts.append(
            "SELECT k.asset_event_id FROM partitioned_asset_key_log k JOIN asset_partition_dag_run p"
            " ON p.id = k.asset_partition_dag_run_id WHERE NOT EXISTS ({partition})"
        )
    return sql.SQL(" UNION ALL ".join(parts)).format(
        event=sql.Identifier(f"{stem}_event"),
        consumed=sql.Identifier(f"dagrun_{stem}_event"),
        queue=sql.Identifier(f"{stem}_dag_run_queue"),
        asset=sql.Identifier(f"{stem}_id"),
        type=sql.Literal(_TRIGGERED[stem]),
        moment=runs.moment,
        cutoff=cutoff,
        maker=runs.find("m", id="id"),
        consumer=runs.find("c", id="dag_run_id"),
        partition=runs.find("p", id="created_dag_run_id"),
    )


def _log_and_job(tables: Tables, runs: _Runs, cutoff: Part) -> dict[str, Rule]:
    """Audit rows of a run go with it, the others, as jobs, by their time."""
    keys: list[dict[str, str]] = []
    if "run_id" in tables["log"]:
        keys.append({"dag_id": "dag_id", "run_id": "run_id"})
    dates = [name for name in ("execution_date", "logical_date") if name in tables["log"]]
    keys += [{"dag_id": "dag_id", "date": name} for name in dates]

    def of_old(alias: str) -> list[Part]:
        return [sql.SQL("EXISTS ({})").format(runs.find(alias, **key)) for key in keys]

    def of_any(alias: str) -> list[Part]:
        named = [{runs.date if mine == "date" else mine: theirs for mine, theirs in key.items()} for key in keys]
        return [
            sql.SQL("EXISTS (SELECT FROM dag_run anyone WHERE {})").format(_same("anyone", k.keys(), alias, k.values()))
            for k in named
        ]

    def log_travels(alias: str) -> Part:
        new = sql.SQL("{a}.dttm IS NULL OR {a}.dttm >= {cutoff}").format(a=sql.Identifier(alias), cutoff=cutoff)
        by_time = sql.SQL("({})").format(sql.SQL(" OR ").join([new, *of_any(alias)]))
        return sql.SQL(" AND ").join([*(sql.SQL("NOT {}").format(old) for old in of_old(alias)), by_time])

    last_seen = "coalesce({a}.latest_heartbeat, {a}.end_date, {a}.start_date)"
    travels = f"({last_seen} IS NULL OR {last_seen} >= {{cutoff}} OR {{a}}.state = 'running')"

    def job_travels(alias: str) -> Part:
        return sql.SQL(travels).format(a=sql.Identifier(alias), cutoff=cutoff)

    return {"log": _opposite(log_travels), "job": _opposite(job_travels)}


def _opposite(travels: Over) -> Rule:
    return Rule(stays=lambda a: sql.SQL("({}) IS NOT TRUE").format(travels(a)), travels=travels)


def _with_dependents(rules: dict[str, Rule], keys: Iterable[ForeignKey]) -> dict[str, Rule]:
    """Also the tables whose rows point at rows that stay, and those that point at these."""
    pointing = [(key.child, key) for key in keys if key.child is not None and key.child not in rules]
    wanted = set(rules)
    while new := {child for child, key in pointing if key.parent in wanted} - wanted:
        wanted |= new
    found = dict(rules)
    while pending := sorted(wanted - found.keys()):
        complete = [
            each for each in pending if all(k.parent in found for c, k in pointing if c == each and k.parent in wanted)
        ]
        # Tables that point at each other in a circle are taken by what they point at besides.
        for child in complete or pending:
            parents = [key for name, key in pointing if name == child and key.parent in found]
            queries = [hanging(key.parent, found[key.parent], key.columns, key.parent_columns) for key in parents]
            if queries:
                found[child] = staying(*queries)
    return found
