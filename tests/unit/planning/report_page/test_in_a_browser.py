"""What a browser makes of the page of every kind of report, by day, by night, and on a phone."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser
from tests.browser import violations
from tests.unit.planning.report_page.test_report_page import EVERY

from airflow_migration.planning.report_page import page_of


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_a_report_is_for_everybody(browser: Browser, scheme: Literal["light", "dark"], width: int) -> None:
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}) as context:
        page, found = context.new_page(), {}
        for kind, report in EVERY.items():
            page.set_content(page_of(report))
            found[kind] = violations(page)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found[kind].append("it is wider than the screen")
    assert not any(found.values()), found
