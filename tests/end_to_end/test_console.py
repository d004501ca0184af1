"""The console in a real browser, beside a real Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser import log_in

from demo.stage import DAG_ID, Stage

CONSOLE = "/migrations/"

pytestmark = pytest.mark.timeout(1500)
expect.set_options(timeout=60_000)


@contextmanager
def person(browser: Browser, stage: Stage, name: str) -> Iterator[Page]:
    """A page of somebody who has logged in."""
    with browser.new_context(base_url=stage.control.url) as context:
        page = context.new_page()
        log_in(page, stage.control.url, *stage.control.login(name))
        yield page


@pytest.fixture(scope="module")
def admin(browser: Browser, stage: Stage) -> Iterator[Page]:
    """A page of a person who may do everything."""
    with person(browser, stage, "admin") as page:
        yield page


def test_the_navigation_leads_to_the_console(admin: Page) -> None:
    admin.goto("/")
    admin.get_by_role("link", name="Migrations").click()
    expect(admin.frame_locator("iframe").get_by_role("heading", level=1)).to_have_text("Migrations")


def test_without_a_login_there_is_no_console(browser: Browser, stage: Stage) -> None:
    with browser.new_context(base_url=stage.control.url) as context:
        page = context.new_page()
        page.goto(CONSOLE)
        expect(page.get_by_label("Password")).to_be_visible()


def test_a_report_is_refused_to_whom_nothing_was_granted(browser: Browser, stage: Stage) -> None:
    with person(browser, stage, "stranger") as page:
        answer = page.goto(f"{CONSOLE}reports/{DAG_ID}/demo")
        assert answer is not None
        assert answer.status == 403
