"""The page of every kind of report: whole, safe, readable, and never better than what happened."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import date
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from airflow_migration.planning.report_page import page_of, plain_page, style

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta", "br"}
ERROR = {"problem": f"duplicate key {EVIL}", "where": "upgrade_1", "remedy": "Clear the task"}


def step(name: str, at: int | None = None, seconds: int = 1, error: Any = None) -> dict[str, Any]:
    """:param at: minute; None for a step that left nothing"""
    if at is None:
        return {"task_id": name, "result": None, "error": error}
    day = "2026-11-22T02:"
    return {
        "task_id": name,
        "started": f"{day}{at:02}:00+00:00",
        "finished": f"{day}{at:02}:{seconds:02}+00:00",
        "seconds": float(seconds),
        "result": {},
        "error": error,
    }


def finding(severity: str, **more: Any) -> dict[str, Any]:
    texts = {"check": f"check {EVIL}", "severity": severity, "summary": f"3 rows {EVIL}", "remedy": "Mend"}
    rows = {"count": 3, "evidence": [f"row {EVIL}"], "hops": ["3.3.2"], "sql": f"SELECT '{EVIL}'", "repair": None}
    return texts | rows | more


ENTRY = {"table": "xcom", "table_after": "xcom", "rows_in": 1200, "rows_out": 1203, "unaccounted": 0,
         "causes": [{"cause": f"moved {EVIL}", "rows": 7}, {"cause": "made by the upgrade", "rows": -10}],
         "changed": [{"cause": "value repaired", "rows": 2}], "nulled": []}  # fmt: skip
VERIFICATION = {
    "verified": True,
    "problems": [],
    "contents": [{"table": "xcom", "rows": 1200, "missing": 7, "added": 10, "changed": 0, "cause": EVIL}],
    "encrypted": {"readable": 4, "encrypted": 4},
    "heads": {"expected": "a", "found": "a"},
    "samples": [{"command": "variables get x", "finding": f"shown {EVIL}", "matches": True}],
    "sequences": {"behind": []},
    "seconds": 2.0,
}
PLAN = {
    "options": {"require_approval": True},
    "source_release": "1.10.15",
    "source_database": f"airflow {EVIL}",
    "source_server": "db:5432",
    "source_size": 25_000_000,
    "active_dags": 1,
    "target_release": "3.3.2",
    "target_database": "airflow_3",
    "target_server": "db:5432",
    "hops": [{"release": "2.11.2"}, {"release": "3.3.2"}],
    "transfer": "clone",
    "fernet": "swap",
    "history_cutoff": None,
    "frozen_database": "frozen",
    "working_database": "working",
    "set_aside_as": None,
    "settings": {"AIRFLOW__A__B": EVIL},
}
MIGRATION: dict[str, Any] = {
    "schema_version": 2,
    "package_version": "0.1.0",
    "kind": "migration",
    "run_id": "manual__1",
    "migration_id": "manual__1",
    "started": "2026-11-22T02:00:00+00:00",
    "finished": "2026-11-22T02:20:00+00:00",
    "status": "success",
    "verified": True,
    "downtime": {"seconds": 70.0, "cut_over_seconds": 75.0, "drain_seconds": 5.0},
    "plan": PLAN,
    "findings": [finding("warning"), finding("info"), finding("ok")],
    "steps": [step("preflight", 0), step("pause_dags", 10), step("upgrade_1", 11, 40), step("upgrade_2"),
              step("unpause_dags", 12)],
    "repairs": [{"id": "connection_type", "before_hop": "1", "count": 2, "details": [EVIL]}],
    "ledger": [ENTRY, ENTRY | {"table": "dag", "table_after": "dag", "rows_out": 1200, "causes": [], "changed": []}],
    "verification": VERIFICATION,
    "forecast": {"at": "2026-11-22T02:12:00+00:00", "runs_at_once": 2, "differing": 1, "without_schedule": 0, "dags": [
        {"dag_id": f"etl {EVIL}", "schedule": "0 0 * * *", "target_next": None, "at_once": 2,
         "differences": [{"kind": "ends", "text": f"ends {EVIL}"}]}]},
    "left_to_do": [f"Restart it {EVIL}"],
    "rehearsal": {"run_id": "scheduled__1", "finished": "2026-11-20T02:00:00+00:00", "verified": True,
                  "findings": {"blocker": 0, "warning": 2}, "source_bytes": 20_000_000, "history_days": 30,
                  "downtime": {"seconds": 60.0, "low": 50.0, "high": 65.0}, "news": [f"New warning {EVIL}"]},
    "prediction_and_truth": {"predicted": 60.0, "low": 50.0, "high": 65.0, "measured": 70.0},
}  # fmt: skip
FAILED = MIGRATION | {
    "status": "failed", "verified": False, "downtime": None, "verification": None, "ledger": [], "forecast": None,
    "steps": [step("preflight", 0), step("pause_dags", 10), step("upgrade_1", error=ERROR), step("upgrade_2")],
}  # fmt: skip
REFUSED = FAILED | {"plan": None, "findings": [finding("blocker")], "repairs": [], "left_to_do": [],
                    "steps": [step("preflight", error=ERROR), step("pause_dags")]}  # fmt: skip
COMPARISON = {
    "run_id": f"scheduled__0 {EVIL}", "finished": "2026-11-15T02:00:00+00:00", "words": [f"1 finding is new {EVIL}"],
    "not_comparable": [], "verified": {"before": True, "now": True},
    "source_bytes": {"before": 1_000_000, "now": 2_000_000},
    "downtime": {"before": None, "now": {"seconds": 130.0, "low": 100.0, "high": 7300.0}},
    "findings": {"came": [{"check": "a", "before": None, "now": "warning", "count_before": 0, "count": 1234,
                           "summary": f"rows {EVIL}"}], "went": [], "changed": []},
    "steps": [{"name": "verify", "before": 1.0, "now": 2.5, "release": None, "title": None}],
    "revisions": [{"name": "abc", "before": 1.0, "now": 2.5, "release": "3.3.2", "title": f"Adds {EVIL}"}],
}  # fmt: skip
DAG_FILES = {
    "release": "3.3.2", "folder": f"/dags{EVIL}", "count": 212, "dags": 1, "import_timeout": 30.0, "timeout": 31.5,
    "parse_seconds": 80.5,
    "files": [{"path": f"a{EVIL}.py", "dag_ids": [], "seconds": 31.5, "cpu_seconds": None, "trouble": "timed_out",
               "error": f"not imported {EVIL}", "line": 7, "remedy": f"write {EVIL}"},
              {"path": f"b{EVIL}.py", "dag_ids": [f"etl {EVIL}"], "seconds": 0.5, "cpu_seconds": 0.25, "trouble": None,
               "error": "", "line": None, "remedy": ""}],
    "rules": [{"rule": "AIR301", "name": "airflow3-removal", "count": 3, "files": 2,
               "places": [{"path": f"b{EVIL}.py", "line": 3, "message": f"removed {EVIL}", "fix": ""}]}],
}  # fmt: skip
CONFIGURATION = {
    "release": "3.3.2", "path": f"/airflow{EVIL}.cfg", "options": 12, "lint": [f"moved {EVIL}"],
    "changes": [{"before": f"[a] b = {EVIL}", "after": "[c] b = 1", "why": EVIL, "required": True},
                {"before": "", "after": "[c] d = True", "why": "new", "required": False},
                {"before": "[a] e = …", "after": "", "why": "gone", "required": False}],
    "commands": {"worker": f"celery worker {EVIL}"},
}  # fmt: skip
REHEARSAL = MIGRATION | {
    "kind": "rehearsal", "downtime": None, "rehearsal": None, "prediction_and_truth": None,
    "prediction": {"seconds": 130.0, "low": 100.0, "high": 7300.0, "based_on": ["scheduled__1"],
                   "parts": [{"step": "clone", "seconds": 1.5, "low": 1.0, "high": 9.0, "from": f"measured {EVIL}"}],
                   "choices": [{"history_days": 30, "transfer": "clone", "backup": True, "seconds": 60.0, "low": 1.0,
                                "high": 99.0}]},
    "comparison": COMPARISON,
    "dag_files": DAG_FILES,
    "configuration": CONFIGURATION,
}  # fmt: skip
ROLL_BACK = {
    "schema_version": 2, "package_version": "0.1.0", "kind": "roll_back", "run_id": "manual__2",
    "migration_id": "manual__1", "status": "success", "source_resumed": True, "dags_active": 2, "dags_missing": [EVIL],
    "lost_runs": 1, "dropped": [f"working {EVIL}"], "kept": ["frozen"], "left_to_do": [],
    "plan": {"options": {"migration_id": "manual__1", "purge": False}, "state": "closed", "source_database": EVIL},
    "steps": [step("pause_target", 1), step("restart_target", 2, 30, ERROR)],
}  # fmt: skip
EVERY = {"migration": MIGRATION, "failed": FAILED, "refused": REFUSED, "rehearsal": REHEARSAL, "roll back": ROLL_BACK}


class Page(HTMLParser):
    """What a browser sees of it."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__()
        self.source = page_of(report)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(self.source.replace("<wbr>", ""))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    @property
    def text(self) -> str:
        return " ".join(each for tag, texts in self.texts.items() if tag != "style" for each in texts)

    def values_of(self, attribute: str) -> list[str]:
        return [str(found[attribute]) for _, found in self.tags if attribute in found]


@pytest.fixture(params=EVERY)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(EVERY[request.param])


def test_no_text_of_a_report_becomes_markup(page: Page) -> None:
    assert EVIL in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_it_loads_nothing_and_needs_no_script(page: Page) -> None:
    assert not {"link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    assert not {"src", "style", "srcset"} & {name for _, found in page.tags for name in found}
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]
    assert all(link.startswith("#") for link in page.values_of("href"))
    assert "url(" not in style()
    assert "@import" not in style()


def test_headings_come_in_order_and_links_lead_somewhere(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    ids = Counter(page.values_of("id"))
    assert set(ids.values()) == {1}
    assert {link.removeprefix("#") for link in page.values_of("href")} <= ids.keys()
    sections = [found["id"] for tag, found in page.tags if tag == "section"]
    assert [link.removeprefix("#") for tag, found in page.tags if tag == "a" and (link := str(found["href"]))][
        -len(sections) :
    ] == sections


def test_tables_and_the_picture_can_be_read_aloud(page: Page) -> None:
    kinds = Counter(tag for tag, _ in page.tags)
    assert kinds["caption"] == kinds["table"]
    assert all(found.get("scope") in ("col", "row") for tag, found in page.tags if tag == "th")
    assert dict(page.tags).get("html") == {"lang": "en"}
    for tag, found in page.tags:
        if tag == "svg":
            assert found["role"] == "img"
            assert set(str(found["aria-labelledby"]).split()) <= set(page.values_of("id"))


@pytest.mark.parametrize(
    ("report", "state", "verdict"),
    [
        (MIGRATION, "good", "Migrated, and every row is accounted for"),
        (FAILED, "bad", "The migration stopped at upgrade_1"),
        (REFUSED, "bad", "Refused before anything was touched: 1 blocker"),
        (FAILED | {"verification": VERIFICATION | {"verified": False, "problems": ["dag differs"]}}, "bad", "Stopped"),
        (FAILED | {"steps": []}, "bad", "The migration did not come to its end"),
        (FAILED | {"kind": "rehearsal"}, "bad", "The rehearsal stopped at upgrade_1"),
        (REHEARSAL, "good", "Rehearsed: the migration would go well today"),
        (REHEARSAL | {"findings": [finding("blocker")]}, "warn", "The rehearsal went well, but 1 blocker would refuse"),
        (REHEARSAL | {"steps": FAILED["steps"]}, "warn", "verified, but upgrade_1 failed"),
        (ROLL_BACK, "good", "Taken back"),
        (ROLL_BACK | {"status": "failed"}, "bad", "Not taken back yet: it stopped at restart_target"),
        ({name: value for name, value in ROLL_BACK.items() if name != "kind"}, "good", "Taken back"),
    ],
)  # fmt: skip
def test_the_verdict_comes_first(report: Mapping[str, Any], state: str, verdict: str) -> None:
    page = Page(report)
    assert any(verdict in text for text in page.texts["h1"])
    assert any(verdict in text for text in page.texts["title"])
    assert next(found["class"] for tag, found in page.tags if tag == "header") == state


def test_what_went_wrong_and_the_remedy_stand_beside_the_verdict() -> None:
    header, _, _ = Page(FAILED).source.partition("</header>")
    assert "duplicate key" in header
    assert "Clear the task" in header


def test_every_part_of_a_report_is_on_its_page() -> None:
    text = Page(MIGRATION).text
    for words in (
        "1 min 10 s", "25.0 MB", "1.10.15 → 2.11.2 → 3.3.2", "\N{MINUS SIGN}7 moved", "+10 made by the upgrade",
        "2 in place: value repaired", "1 check found nothing amiss", "Not needed: upgrade_2", "Restart it",
        "1 min (50 s to 1 min 5 s); longer", "connection_type", "2,400 rows in 2 tables", "ends", "scheduled__1",
        "2 warnings", "20.0 MB", "30 days",
        "New warning", "22 Nov 2026, 02:00:00 to 02:20:00 UTC",
    ):  # fmt: skip
        assert words in text, words
    text = Page(REHEARSAL).text
    for words in (
        "2 min 10 s", "1 min 40 s to 2 h 1 min", "clone", "history_days 30", "212", "takes too long",
        "1 finding is new", "2.0 MB", "warning, 1,234", "in order", "abc of 3.3.2",
    ):  # fmt: skip
        assert words in text, words


def test_a_report_of_an_unknown_shape_is_still_shown() -> None:
    page = plain_page({"steps": EVIL, "when": date(2026, 11, 22)})
    assert escape(json.dumps(EVIL)) in page
    assert "2026-11-22" in page


def test_rows_that_are_lost_are_said_to_be() -> None:
    lost = MIGRATION | {"ledger": [ENTRY | {"unaccounted": 5}]}
    assert "✕ 5 unaccounted for" in Page(lost).text
    assert "All are accounted for" not in Page(lost).text


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block))


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("number", [0, 1, 2], ids=["light", "dark", "paper"])
def test_every_colour_can_be_read_on_what_it_stands_on(number: int) -> None:
    """4.5:1 for text and 3:1 for what is drawn, as WCAG 2.2 AA asks (1.4.3, 1.4.11)."""
    blocks = re.findall(r":root \{(.*?)\}", style(), re.S)
    shown = colours(blocks[number])
    pairs = [(text, ground, 4.5) for text in ("text", "soft", "info") for ground in ("page", "card")]
    pairs += [(name, ground, 4.5) for name in ("good", "bad", "warn", "info") for ground in (f"{name}-back", "card")]
    pairs += [("text", "bad-back", 4.5), ("text", "code", 4.5), ("bar", "track", 3.0), ("soft", "track", 3.0)]
    for name, ground, least in pairs:
        light, dark = sorted((luminance(shown[name]), luminance(shown[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (name, ground)


def test_files_with_trouble_are_in_sight_and_the_others_on_demand() -> None:
    _, _, source = Page(REHEARSAL).source.partition('<section id="dag-files"')
    section, _, _ = source.partition("</section>")
    in_sight, _, on_demand = section.partition("<details>")
    assert "Airflow 3.3.2 imports 211 of 212 files with 1 DAG" in in_sight
    assert "takes too long" in in_sight
    assert ".py:7" in in_sight
    assert "1 file imported" in on_demand
    assert "AIR301" in on_demand


def test_settings_that_must_change_are_in_sight() -> None:
    _, _, source = Page(REHEARSAL).source.partition('<section id="configuration"')
    in_sight, _, on_demand = source.partition("</section>")[0].partition("<details>")
    assert "[c] b = 1" in in_sight
    assert "[c] d = True" not in in_sight
    assert all(text in on_demand for text in ("[c] d = True", "(leave it out)", "(not set)", "airflow celery worker"))


def test_what_a_pod_cannot_see_is_told() -> None:
    unseen = {"release": "", "files": [], "changes": [], "commands": {}}
    page = Page(REHEARSAL | {"dag_files": DAG_FILES | unseen, "configuration": CONFIGURATION | unseen})
    assert "only ruff has read them" in page.text
    assert "was not checked" in page.text
