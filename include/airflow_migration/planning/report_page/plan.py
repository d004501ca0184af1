"""What the run was to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_migration.planning.report import ROLL_BACK
from airflow_migration.planning.report_page.figures import moment, several, span
from airflow_migration.planning.report_page.markup import NOTHING, Html, Node, facts, listing, section, tag
from airflow_migration.planning.report_page.verdict import kind_of
from airflow_migration.progress import amount

TRANSFERS = {
    "clone": "clone, within one server",
    "dump": "dump and restore, across two servers",
    "data_only": "rows alone, into the target's own database",
}
KEYS = {
    "swap": "the target takes the source's key",
    "reencrypt": "values are rewritten with the target's key",
    "keep": "nothing is done, the target's key reads everything",
}


def plan(report: Mapping[str, Any]) -> Html:
    """The section of the plan; a run that preflight refused has none."""
    made = report.get("plan")
    if not made:
        return NOTHING
    pairs = _roll_back(made) if kind_of(report) == ROLL_BACK else _migration(made)
    return section("plan", "Plan", facts(pairs))


def rehearsed(report: Mapping[str, Any]) -> Html:
    """The section of the last rehearsal before a migration."""
    before = report.get("rehearsal")
    if not before:
        return NOTHING
    news = listing(map(str, before.get("news") or ()))
    new = tag("h3", "What preflight found new since then") if news else None
    return section("rehearsal", "The rehearsal before it", facts(_rehearsal(before)), new, news)


def _rehearsal(before: Mapping[str, Any]) -> Iterator[tuple[str, Node]]:
    get = before.get
    yield "Run", get("run_id")
    yield "When", moment(get("finished"))
    yield "Verified", None if get("verified") is None else "yes" if before["verified"] else "no"
    yield "Found", ", ".join(several(count, severity) for severity, count in (get("findings") or {}).items() if count)
    yield "Size of the source", amount(before["source_bytes"], "bytes") if get("source_bytes") else None
    if "history_days" in before:
        days = before["history_days"]
        yield "History", "all of it" if days is None else several(days, "day")
    yield "Predicted downtime", span(before["downtime"]) if get("downtime") else None


def _migration(made: Mapping[str, Any]) -> Iterator[tuple[str, Node]]:
    get = made.get
    yield "Source", _deployment(get("source_release"), get("source_database"), get("source_server"))
    if get("source_size") is not None:
        active = get("active_dags")
        more = "" if active is None else f", {several(active, 'active DAG')}"
        yield "Size", amount(int(made["source_size"]), "bytes") + more
    yield "Target", _deployment(get("target_release"), get("target_database"), get("target_server"))
    if "hops" in made:
        releases = [str(get("source_release")), *(str(hop["release"]) for hop in made["hops"])]
        yield "Upgrades", " → ".join(releases) if made["hops"] else "none is needed"
    yield "Transfer", TRANSFERS.get(str(get("transfer")), get("transfer"))
    yield "Fernet key", KEYS.get(str(get("fernet")), get("fernet"))
    cutoff = get("history_cutoff")
    yield "History", f"runs since {moment(cutoff)}" if cutoff else "all of it" if "hops" in made else None
    yield "Frozen copy", _code(get("frozen_database"))
    yield "Working database", _code(get("working_database"))
    yield "Set aside", _code(get("set_aside_as"))
    settings = (get("settings") or {}).items()
    yield "Settings of the target", listing(_code(f"{name}={value}") for name, value in settings)


def _roll_back(made: Mapping[str, Any]) -> Iterator[tuple[str, Node]]:
    get = made.get
    yield "Migration", str(made["options"]["migration_id"])
    yield "Its state before", get("state")
    yield "Source", _code(get("source_database"))
    yield "Target", _deployment(None, get("target_database"), get("target_server"))
    yield "Handed over", "yes" if get("handed_over") else "no"
    yield "Source fenced", "yes" if get("fenced") else "no"
    yield "Active DAGs of before", get("active_dags")
    yield "Backups", "removed" if made["options"].get("purge") else "kept"


def _deployment(release: object, database: object, server: object) -> Html:
    name = f"Airflow {release}, database " if release else "database "
    return tag("span", name, _code(database), f" on {server}" if server else None)


def _code(text: object) -> Html | None:
    return tag("code", str(text)) if text else None
