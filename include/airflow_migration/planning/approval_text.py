"""Tell who approves a plan what it means: what is paused and for how long, what is repaired, what is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_migration.metadata.findings import Finding
from airflow_migration.planning import history, last_rehearsal
from airflow_migration.planning.cron_timetables import IN_WORDS
from airflow_migration.planning.keys import KEEP, REENCRYPT, SWAP
from airflow_migration.planning.plan import CLONE, Plan
from airflow_migration.planning.report_page.figures import duration, span
from airflow_migration.planning.users_and_roles import USERS_AND_ROLES, USERS_WITHOUT_ROLES
from airflow_migration.progress import amount

_KEY_SENTENCES = {
    SWAP: "The target gets the source's fernet key.",
    REENCRYPT: "The encrypted values of the working database are rewritten with the target's fernet key.",
    KEEP: "The target keeps its fernet key, and no value is rewritten.",
}
_HISTORY_SENTENCE = (
    "Runs before {} are taken out of it, with all that hangs on them; unfinished runs and each DAG's last ones stay in."
)
LOST = "_lost"
"""How the checks are named that count what leaves Airflow's own tables."""
NOT_CARRIED = frozenset(
    {history.CHECK, "left_out", "log_folder", "subdags", "undecryptable", USERS_AND_ROLES, USERS_WITHOUT_ROLES}
)
"""Other checks of what stays behind, or is of no use at the target."""
LARGEST = 5


def subject(plan: Plan) -> str:
    """One line: from where to where, and how long the DAGs are paused."""
    told = plan.prediction
    paused = f"{plan.active_dags} DAG(s) paused"
    if told:
        paused += f" for about {duration(told['seconds'])}"
    return f"Airflow {plan.source_release} → {plan.target_release}, {paused}: approve {plan.migration_id}"


def body(plan: Plan) -> str:
    """The whole plan as Markdown."""
    lost = [each for each in plan.findings if is_lost(each)]
    repaired = [each for each in plan.findings if each.repair and each.count and each not in lost]
    others = [
        each
        for each in plan.findings
        if each not in lost and each not in repaired and each.severity != "ok" and each.check != last_rehearsal.CHECK
    ]
    parts = [
        [
            f"**Source** {plan.source_release}: database `{plan.source_database}` on {plan.source_server},"
            f" {amount(plan.source_size, 'bytes')}.",
            f"**Target** {plan.target_release}: database `{plan.target_database}` on {plan.target_server}.",
        ],
        _section("What will be paused, and how long", _pausing(plan)),
        _section("Last rehearsal", _rehearsal(plan)),
        _section("What will happen", what_happens(plan), "{}. {}".format),
        _section("What will be repaired", map(_in_words, repaired)),
        _section("What cannot be carried", map(_in_words, lost)),
        _section("What else was found", map(_in_words, others)),
    ]
    return "\n".join(line for part in parts for line in [*part, ""])


def is_lost(finding: Finding) -> bool:
    """Whether it tells of something that does not arrive, or is of no use there."""
    return finding.severity != "ok" and (finding.check.endswith(LOST) or finding.check in NOT_CARRIED)


def _section(
    title: str, sentences: Iterable[str], line: Callable[[int, str], str] = lambda _, sentence: f"- {sentence}"
) -> list[str]:
    lines = [line(number, sentence) for number, sentence in enumerate(sentences, 1)]
    return [f"### {title}", "", *(lines or ["Nothing."])]


def _pausing(plan: Plan) -> Iterator[str]:
    options = plan.options
    yield f"All DAGs of the source are paused ({plan.active_dags} are active now; they are remembered)."
    yield (
        f"Running tasks may end: {plan.in_flight} are in flight now; the wait is at most {options.drain_timeout} s,"
        f" then the run will {options.on_drain_timeout}."
    )
    told = plan.prediction
    if told is None:
        yield "How long it takes after that is not known: no rehearsal of this source and target has measured it."
        return
    yield f"After that the downtime is predicted to be {span(told)}, by {len(told['based_on'])} rehearsal(s)."
    longest = sorted(told["parts"], key=lambda part: -part["seconds"])[:LARGEST]
    yield "Most of it: " + ", ".join(f"{part['step']} {duration(part['seconds'])}" for part in longest) + "."
    for choice in told.get("choices", ()):
        yield f"With {_choice(choice, plan)} it would be {span(choice)}."


def _choice(choice: Mapping[str, Any], plan: Plan) -> str:
    if choice["history_days"] != plan.options.history_days:
        days = choice["history_days"]
        return "all history" if days is None else f"history_days {days}"
    return "backup false"


def _rehearsal(plan: Plan) -> Iterator[str]:
    yield from (_in_words(each) for each in plan.findings if each.check == last_rehearsal.CHECK)
    if plan.last_rehearsal:
        news: Sequence[str] = plan.last_rehearsal["news"]
        yield from (f"Since then: {sentence}" for sentence in news)
        if not news:
            yield "Since then nothing has come, gone or grown that preflight sees."


def _in_words(finding: Finding) -> str:
    met = f" (upgrade to {' and '.join(finding.hops)})" if finding.hops else ""
    done = f". {finding.remedy}" if finding.remedy else ""
    return f"**{finding.severity}**: {finding.summary}{met}{done}"


def what_happens(plan: Plan) -> list[str]:
    """Every act, in its order."""
    return [
        "All DAGs of the source are paused, and running tasks may end.",
        f"The source is cloned to `{plan.frozen_database}`; its sessions are ended for that moment.",
        *_copying(plan),
        *_upgrading(plan),
        *_handing_over(plan),
        _unpausing(plan),
    ]


def _copying(plan: Plan) -> Iterator[str]:
    if plan.tables is not None:
        names = ", ".join(plan.tables.travel)
        yield f"{len(plan.tables.travel)} table(s) of the clone are dumped, rows only: {names}."
        yield "The target's processes are brought to rest."
        yield (
            f"In `{plan.target_database}` the target's own rows of these tables are kept in schema"
            " `airflow_migration`, and the dumped rows take their place. No other table is touched."
        )
        return
    if plan.needs_dump:
        yield f"The clone is dumped{' as a backup' if plan.transfer == CLONE else ''}."
    way = "by template clone" if plan.transfer == CLONE else "by pg_dump and pg_restore"
    yield f"The working database `{plan.working_database}` is made {way}."


def _upgrading(plan: Plan) -> Iterator[str]:
    if plan.history_cutoff:
        yield _HISTORY_SENTENCE.format(plan.history_cutoff)
    yield _KEY_SENTENCES[plan.fernet]
    path = " → ".join([plan.source_release, *(hop.release for hop in plan.hops)])
    yield f"The database is repaired and upgraded: {path}." if plan.hops else "No upgrade is needed."
    yield "What keeps the target's scheduler from going on is mended."
    yield "Both copies are compared; any unexplained difference stops here."


def _handing_over(plan: Plan) -> Iterator[str]:
    if plan.options.fence_source:
        yield "The source's database becomes read-only."
    if plan.set_aside_as:
        yield f"The target's fresh database is set aside as `{plan.set_aside_as}`."
    if plan.in_place:
        yield "The target is started again."
    else:
        yield f"The working database becomes `{plan.target_database}`, and the target is restarted."
    if plan.settings:
        setting = f"{IN_WORDS} = {plan.cron_data_intervals}"
        yield f"Before that the target gets `{setting}`: {_naming(plan)}."
    elif plan.cron_data_intervals is False:
        yield f"On the target {_naming(plan)}."


def _naming(plan: Plan) -> str:
    if plan.cron_data_intervals:
        return "logical dates keep the meaning that they had on the source"
    return "a cron's runs are named for the moment at which they start"


def _unpausing(plan: Plan) -> str:
    asked = plan.options.unpause
    if asked == "none":
        return "No DAG is unpaused."
    if isinstance(asked, tuple):
        return f"These DAGs are unpaused: {', '.join(asked)}."
    return "Exactly the DAGs that were active are unpaused."
