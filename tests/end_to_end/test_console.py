"""The console in a real browser, beside a migration that a real Airflow carries out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, Frame, Page, expect
from psycopg import sql
from tests.browser import log_in, take, violations
from tests.conftest import NewDatabase
from tests.polling import until

from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from demo.stage import CONTROL_DATABASE, DAG_ID, Stage

RUN, FAILED = "cut_over_night", "no_such_source"
ROLL_BACK = "roll_back_migration"
CONSOLE = "/migrations/"
REPORT = f"{CONSOLE}reports/{DAG_ID}/{RUN}"
TASKS = f"/dags/{DAG_ID}/dagRuns/{RUN}/taskInstances"
DEADLINE = 400.0
LONG = DEADLINE * 1000
REHEARSALS = 500

# An upgrade of so few rows would be over between two looks at it: each of its revisions takes a tenth of a second more.
SLOW_UPGRADE = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.12); RETURN new; END $$;
CREATE TRIGGER linger AFTER UPDATE ON alembic_version FOR EACH ROW EXECUTE FUNCTION linger();
"""
# Keeps every share that a bar of a run has shown, by its name.
WATCH = """run => {
    window.seen = {};
    const look = () => {
        for (const bar of document.querySelectorAll(`[aria-label$="${run}"] progress[value]`)) {
            const shares = (window.seen[bar.ariaLabel] ??= []);
            if (shares.at(-1) !== bar.position) shares.push(bar.position);
        }
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
    look();
}"""
# Two years of nightly rehearsals of a source that grows, while what was found is mended.
REHEARSE = """
WITH rehearsed AS (
    INSERT INTO asset (name, uri, "group", extra, created_at, updated_at)
    SELECT {name}, {name}, 'migration', '{{}}', now(), now() WHERE NOT EXISTS (SELECT FROM asset WHERE name = {name})
    RETURNING id
), rehearsal AS (
    SELECT number, 'scheduled__' || to_char(at, 'YYYY-MM-DD') AS run_id, at, at + interval '23 minutes' AS ended,
        240 - number / 8.0 + 12 * sin(number * 0.7) + 8 * sin(number * 2.3) AS downtime
    FROM (SELECT number, now() - number * interval '1 day' AS at FROM generate_series(1, {count}) AS number) AS day
), run AS (
    INSERT INTO dag_run (dag_id, run_id, run_type, state, run_after, logical_date, queued_at, start_date, end_date,
        triggered_by, conf)
    SELECT 'rehearse_migration', run_id, 'scheduled', 'success', at, at, at, at, ended, 'TIMETABLE', '{{}}'
    FROM rehearsal
)
INSERT INTO asset_event (asset_id, source_dag_id, source_task_id, source_run_id, timestamp, extra)
SELECT coalesce((SELECT id FROM rehearsed), (SELECT id FROM asset WHERE name = {name})), 'rehearse_migration',
    'rehearsal_complete', run_id, ended, json_build_object(
        'run_id', run_id, 'verified', true, 'seconds', 1380, 'report', 'reports/' || run_id || '/report.json',
        'downtime_seconds', downtime, 'downtime_low', downtime * 0.85, 'downtime_high', downtime * 1.3,
        'source_bytes', 48000000000 - number::bigint * 12000000,
        'findings', json_build_object('blocker', number / 60 % 3, 'warning', 2 + number / 25 % 7, 'info', 3))
FROM rehearsal
"""

pytestmark = pytest.mark.timeout(1500)
expect.set_options(timeout=60_000)


@dataclass(kw_only=True)
class Night:
    """What people at browsers have seen of one migration.

    :param plan: what the console showed before the approval
    :param refusal: what it said to somebody who may only look, and approved
    :param focused: what the Tab key led to, up to the button that approves
    :param trouble: what it said while there was no API server
    :param before: shares of each bar until then
    :param bars: and in the end
    :param violations: of what axe asks for, while the plan waits, and while a step runs
    :param requests: to Airflow's API, by a page that is loaded when the run is over
    """

    plan: str
    refusal: str
    focused: list[str]
    trouble: str
    before: dict[str, list[float]]
    bars: dict[str, list[float]]
    violations: list[str]
    requests: int


@contextmanager
def person(browser: Browser, stage: Stage, name: str, **how: Any) -> Iterator[Page]:
    """A page of somebody who has logged in.

    :param how: what Playwright calls options of a context
    """
    with browser.new_context(base_url=stage.control.url, **how) as context:
        page = context.new_page()
        log_in(page, stage.control.url, *stage.control.login(name))
        yield page


@pytest.fixture(scope="module")
def admin(browser: Browser, stage: Stage) -> Iterator[Page]:
    """A page of a person who may do everything."""
    with person(browser, stage, "admin", viewport={"width": 1280, "height": 1000}) as page:
        yield page


@pytest.fixture(scope="module")
def night(
    browser: Browser,
    stage: Stage,
    admin: Page,
    corpus: Callable[[str], DatabaseAddress],
    new_database: NewDatabase,
    fernet_key: Secret,
    tmp_path_factory: pytest.TempPathFactory,
    restart_api_server: Callable[[], None],
    pictures: Path | None,
) -> Night:
    source = new_database("airflow_2_10", corpus("2.10.5").database)
    with source.connect(read_only=False) as session:
        session.execute(SLOW_UPGRADE)
        session.execute("UPDATE dag SET is_paused = false")
    begin(stage, source, fernet_key, tmp_path_factory.mktemp("target") / "airflow.env")
    console = open_console(admin)
    button = console.get_by_role("button", name="Approve")
    expect(button).to_be_visible(timeout=LONG)
    plan = console.locator("main").inner_text()
    take(admin, pictures, "console-plan")
    found = violations(console)
    wait_until_asked(stage)
    with person(browser, stage, "reader") as page:
        refusal = tries_to_approve(page)
    console.evaluate(WATCH, RUN)
    focused = tab_to(admin, console, "Approve")
    admin.keyboard.press("Enter")
    console.wait_for_function("() => (window.seen['upgrade 1'] ?? []).length > 1", timeout=LONG)
    console.evaluate("() => window.scrollTo(0, 0)")
    take(admin, pictures, "console")
    found += violations(console)
    before = console.evaluate("() => window.seen")
    restart_api_server()
    # Read in one go: it is gone as soon as the API answers again.
    trouble = console.wait_for_function("() => document.querySelector('[role=alert]').textContent", timeout=LONG)
    expect(console.get_by_role("heading", level=2).first).to_have_text("Migration success", timeout=LONG)
    return Night(
        plan=plan,
        refusal=refusal,
        focused=focused,
        trouble=str(trouble.json_value()),
        before=before,
        bars=console.evaluate("() => window.seen"),
        violations=found,
        requests=len(load(admin)),
    )


@pytest.fixture(scope="module")
def years(night: Night, stage: Stage) -> Night:
    """The same, when hundreds of rehearsals came before it."""
    values = {"name": sql.Literal("airflow_migration/rehearsal"), "count": sql.Literal(REHEARSALS)}
    with stage.server.address.on(CONTROL_DATABASE).connect(read_only=False) as session:
        session.execute(sql.SQL(REHEARSE).format(**values))
    return night


# --- what is promised ---


def test_without_a_login_there_is_no_console(browser: Browser, stage: Stage) -> None:
    with browser.new_context(base_url=stage.control.url) as context:
        page = context.new_page()
        page.goto(CONSOLE)
        expect(page.get_by_label("Password")).to_be_visible()


def test_the_plan_is_read_and_approved_in_the_console(night: Night) -> None:
    assert "airflow_2_10" in night.plan
    assert "2.11.2 → 3.3.2" in night.plan


def test_who_may_only_look_cannot_approve(night: Night) -> None:
    assert "not answer" in night.refusal


def test_the_tab_key_leads_to_everything_up_to_the_approval(night: Night) -> None:
    assert night.focused[0] == "Refresh"
    assert night.focused[-1] == "Approve"
    assert "Graph and logs" in night.focused


def test_the_bars_move(night: Night) -> None:
    # Another step may measure one thing after the other.
    for name in ("upgrade 1", "Steps done"):
        assert night.bars[name] == sorted(night.bars[name])
    assert 0 <= night.before["upgrade 1"][0] < night.before["upgrade 1"][-1] <= 1
    assert night.bars["Steps done"][-1] == 1


def test_progress_survives_a_restart_of_the_api_server(night: Night, stage: Stage) -> None:
    """The page that was open goes on by itself, from where it was."""
    assert "asked again" in night.trouble
    stood = night.before["Steps done"]
    assert night.bars["Steps done"][: len(stood)] == stood
    assert len(night.bars["Steps done"]) > len(stood)
    with stage.control.client() as api:
        left = api.get(f"{TASKS}/upgrade_1/xcomEntries/progress").raise_for_status().json()["value"]
    left = json.loads(left) if isinstance(left, str) else left
    assert left["done"] / left["total"] >= night.before["upgrade 1"][-1]


def test_the_plan_and_what_runs_are_for_everybody(night: Night) -> None:
    assert night.violations == []


def test_after_a_failure_the_console_says_what_to_do(night: Night, admin: Page) -> None:
    admin.goto(f"{CONSOLE}?dag_id={ROLL_BACK}&run_id={FAILED}")
    failed = admin.get_by_role("region", name=FAILED)
    expect(failed.get_by_role("heading", name="allow connections failed")).to_be_visible()
    expect(failed.get_by_role("term")).to_have_text(["Problem", "Where", "Remedy"])
    expect(failed.get_by_role("definition").nth(1)).to_contain_text(FAILED)
    expect(failed.get_by_role("heading", name="What to do now")).to_be_visible()
    assert violations(admin) == []
    failed.get_by_role("link", name="Log of allow connections").click()
    expect(admin).to_have_url(re.compile(f"/runs/{FAILED}/tasks/allow_connections"))


def test_the_report_opens_from_the_console(night: Night, admin: Page) -> None:
    run = open_console(admin).get_by_role("region", name=RUN)
    with admin.expect_popup() as opened:
        run.get_by_role("link", name="Report", exact=True).click()
    expect(opened.value.get_by_role("heading", level=1)).to_contain_text("every row is accounted for")
    assert opened.value.url.endswith(REPORT)
    opened.value.close()


def test_a_run_has_a_tab_with_its_own_progress(night: Night, admin: Page) -> None:
    admin.goto(f"/dags/{DAG_ID}/runs/{RUN}")
    admin.get_by_role("link", name="Migration", exact=True).click()
    shown = admin.frame_locator("iframe")
    expect(shown.get_by_role("region", name=RUN)).to_be_visible()
    expect(shown.get_by_role("heading", name="History")).to_have_count(0)


def test_whom_nothing_was_granted_sees_nothing(night: Night, browser: Browser, stage: Stage) -> None:
    with person(browser, stage, "stranger") as page:
        page.goto(CONSOLE)
        expect(page.get_by_role("heading", level=2)).to_have_text("Nothing to see")
        assert RUN not in page.content()
        answer = page.goto(REPORT)
        assert answer is not None
        assert answer.status == 403


def test_hundreds_of_rehearsals_cost_no_more_requests(years: Night, admin: Page, pictures: Path | None) -> None:
    assert len(load(admin)) == years.requests < 10
    rows = admin.get_by_role("row")
    shown = rows.count()
    assert shown < REHEARSALS
    expect(admin.get_by_role("img", name=re.compile("Downtime of .* rehearsals"))).to_be_visible()
    admin.get_by_role("heading", name="History").evaluate("heading => heading.scrollIntoView()")
    take(admin, pictures, "console-history")
    more = admin.get_by_role("button", name="Show more")
    for page in range(1, 5):
        more.click()
        expect(rows.nth(shown + 25 * (page - 1))).to_be_visible()
    expanded = rows.count()
    assert expanded > 100
    with admin.expect_response(re.compile("/dagRuns/list")):
        admin.get_by_role("button", name="Refresh").click()
    admin.wait_for_load_state("networkidle")
    assert rows.count() == expanded
    expect(more).to_be_visible()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_console_is_for_everybody(
    years: Night, browser: Browser, stage: Stage, scheme: Literal["light", "dark"], width: int
) -> None:
    with person(browser, stage, "admin", color_scheme=scheme, viewport={"width": width, "height": 844}) as page:
        load(page)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_report_is_for_everybody(night: Night, browser: Browser, stage: Stage, pictures: Path | None) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True}
    # The report's policy forbids scripts, and axe is one.
    with person(browser, stage, "admin", color_scheme="dark", bypass_csp=True, **phone) as page:
        page.goto(REPORT)
        take(page, pictures, "report-on-a-phone")
        assert violations(page) == []


# --- how it is brought about ---


def begin(stage: Stage, source: DatabaseAddress, key: Secret, env_file: Path) -> None:
    """Enter both connections; trigger a migration, which waits for its approval, and a roll back without a source."""
    env_file.touch(mode=0o600)
    env_file.write_text(f"AIRFLOW__CORE__FERNET_KEY={Fernet.generate_key().decode()}\n")
    server = {
        "conn_type": "airflow_deployment",
        "host": source.host,
        "port": source.port,
        "login": source.user,
        "password": source.password.reveal(),
    }
    target = {"airflow_version": "3.3.2", "control": {"kind": "env_file", "path": str(env_file)}}
    with stage.control.client() as api:
        for conn_id, schema, extra in (
            ("console_source", source.database, {"secret_fernet_key": key.reveal()}),
            ("console_target", "airflow_3", target),
        ):
            entry = server | {"connection_id": conn_id, "schema": schema, "extra": json.dumps(extra)}
            api.post("/connections", json=entry).raise_for_status()
        for dag_id, run_id, more in (
            (ROLL_BACK, FAILED, {"source_conn_id": FAILED, "migration_id": RUN}),
            (DAG_ID, RUN, {"source_conn_id": "console_source", "backup": False}),
        ):
            run = {"dag_run_id": run_id, "logical_date": None, "conf": more | {"target_conn_id": "console_target"}}
            api.post(f"/dags/{dag_id}/dagRuns", json=run).raise_for_status()


def open_console(page: Page) -> Frame:
    """By the navigation, as a frame of Airflow's own page."""
    page.goto("/")
    page.get_by_role("link", name="Migrations").click()
    frame = page.locator("iframe").element_handle().content_frame()
    assert frame is not None
    expect(frame.get_by_role("heading", level=1)).to_have_text("Migrations")
    return frame


def load(page: Page) -> list[str]:
    """The console as a page of its own, until it has all that it shows.

    :returns: what it has asked of Airflow's API
    """
    asked: list[str] = []
    page.goto("about:blank")  # what was shown before may still be asking
    page.on("request", lambda request: asked.append(request.url) if "/api/v2/" in request.url else None)
    page.goto(CONSOLE)
    expect(page.get_by_role("region", name=RUN)).to_be_visible()
    expect(page.locator("main")).to_have_attribute("aria-busy", "false")
    page.wait_for_load_state("networkidle")
    return asked


def wait_until_asked(stage: Stage) -> None:
    """An answer before 3.3.2's scheduler has noticed the wait fails the try; nobody reads as fast as that."""
    place = f"dag_id={DAG_ID}, task_id=approve_plan, run_id={RUN}"
    noticed = re.compile(f"TaskInstance Finished: {place}, .* state=(awaiting_input|deferred)")
    until(
        lambda: noticed.search(stage.control.log.read_text(errors="replace")),
        seconds=DEADLINE,
        pause=0.5,
        told=lambda: "nobody was asked to approve",
    )


def tries_to_approve(page: Page) -> str:
    """What the console answers."""
    page.goto(CONSOLE)
    page.get_by_role("button", name="Approve").click()
    outcome = page.get_by_role("region", name="approve").get_by_role("status")
    expect(outcome).to_contain_text("You")
    return outcome.inner_text()


def tab_to(page: Page, frame: Frame, wanted: str) -> list[str]:
    """Press the Tab key until something has the focus; the text of what had it before, and a visible mark.

    :returns: from the frame's first element on
    """
    focused: list[str] = []
    frame.locator("h1").click()
    for _ in range(50):
        page.keyboard.press("Tab")
        focused.append(frame.evaluate("() => document.activeElement.textContent"))
        outline = frame.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"nobody sees that {focused[-1]} has the focus"
        if focused[-1] == wanted:
            return focused
    raise AssertionError(f"the Tab key leads to {focused}")
