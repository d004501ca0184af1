"""The machine's own Chromium, as a person at a control Airflow has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Frame, Page, sync_playwright

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no Chromium (Debian: apt-get install chromium)"
FLAGS = (
    # Its sandbox refuses root, as whom containers run it. It only sees pages of this machine.
    "--no-sandbox",
    "--disable-gpu",
    # It asks nobody but the pages that it is sent to.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. While it runs, its thread can run no event loop of asyncio."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def log_in(page: Page, url: str, name: str, password: str) -> None:
    """By Airflow's own form; the page ends up where the form leads."""
    page.goto(f"{url}/auth/login")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda now: "/auth/" not in now)


def violations(page: Page | Frame) -> list[str]:
    """What axe finds against WCAG and its own best practices, one line for each rule and element.

    A frame inside of the page is not looked into; hand it over by itself.
    """
    return [
        f"{each['id']}: {', '.join(map(str, node['target']))}: {node['failureSummary']}"
        for each in Axe().run(page).response["violations"]
        for node in each["nodes"]
    ]


def take(page: Page, folder: Path | None, name: str) -> None:
    """A picture for the documentation, if one is wanted.

    :param folder: where pictures are kept; None takes none
    """
    if folder is not None:
        page.screenshot(path=folder / f"{name}.png", animations="disabled", caret="hide")
