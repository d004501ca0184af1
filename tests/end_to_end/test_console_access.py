"""What the console gives to whom, asked of a real API server by programs that may not be polite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from demo.stage import DAG_ID, Stage

CONSOLE = "/migrations/"
PAGES = (CONSOLE, f"{CONSOLE}static/console.js", f"{CONSOLE}reports/{DAG_ID}/told")
SECRET = "what nobody may read"
OUTSIDE = (
    "..",
    "../..",
    "%2e%2e",
    "..%2f..%2f..",
    ".",
    "/etc",
    "told/..",
    "*",
    "tol?",
    "%2a",
    "rehearsals/told",
    "told%00",
)

As = Callable[[str], httpx.Client]


@pytest.fixture(scope="module")
def logged_in(stage: Stage) -> Iterator[As]:
    """A client with a person's token."""
    clients: dict[str, httpx.Client] = {}

    def of(name: str) -> httpx.Client:
        if name not in clients:
            user, password = stage.control.login(name)
            login = {"username": user, "password": password}
            token = httpx.post(f"{stage.control.url}/auth/token", json=login, timeout=60).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            clients[name] = httpx.Client(base_url=stage.control.url, headers=headers, timeout=60)
        return clients[name]

    yield of
    for client in clients.values():
        client.close()


@pytest.fixture(scope="module")
def reports(stage: Stage) -> Path:
    """The reports' folder, with those of two runs, and a file beside it that is none."""
    folder = stage.control.home / "migration-reports"
    write_report(folder / "told", run_id="told", page="<h1>Told</h1><script>alert(1)</script>")
    write_report(folder / "other_run", run_id="other:run", page="<h1>Other</h1>")
    write_report(folder / "rehearsals" / "told", run_id="told", page="<h1>Rehearsed</h1>")
    write_report(folder.parent, run_id="..", page=SECRET)
    return folder


def write_report(folder: Path, *, run_id: str, page: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps({"run_id": run_id, "secret": SECRET}))
    (folder / "report.html").write_text(page)


@pytest.mark.parametrize("page", PAGES)
def test_a_program_without_a_login_gets_nothing(stage: Stage, reports: Path, page: str) -> None:
    answer = httpx.get(f"{stage.control.url}{page}", timeout=60)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Not authenticated"}


def test_a_browser_without_a_login_is_sent_there_and_back(stage: Stage) -> None:
    page = f"{CONSOLE}?dag_id={DAG_ID}&run_id=a%2Bb"
    answer = httpx.get(f"{stage.control.url}{page}", headers={"Accept": "text/html"}, timeout=60)
    assert answer.status_code == 307
    assert answer.headers["Location"] == f"/api/v2/auth/login?next={quote(page, safe='')}"


@pytest.mark.parametrize("dag_id", [DAG_ID, "rehearse_migration", "roll_back_migration", "of_somebody_else"])
def test_who_may_not_read_a_run_learns_nothing_of_its_report(logged_in: As, reports: Path, dag_id: str) -> None:
    for run_id in ("told", "no such run"):
        answer = logged_in("stranger").get(f"{CONSOLE}reports/{dag_id}/{run_id}")
        assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


def test_a_report_is_shown_with_all_that_is_in_it_switched_off(logged_in: As, reports: Path) -> None:
    answer = logged_in("admin").get(f"{CONSOLE}reports/{DAG_ID}/told")
    assert "Told" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_each_dag_has_reports_of_its_own(logged_in: As, reports: Path) -> None:
    assert "Rehearsed" in logged_in("admin").get(f"{CONSOLE}reports/rehearse_migration/told").text
    assert logged_in("admin").get(f"{CONSOLE}reports/roll_back_migration/told").status_code == 404
    assert logged_in("admin").get(f"{CONSOLE}reports/of_somebody_else/told").status_code == 404


def test_a_run_whose_folder_has_the_same_name_is_not_taken_for_another(logged_in: As, reports: Path) -> None:
    assert "Other" in logged_in("admin").get(f"{CONSOLE}reports/{DAG_ID}/other:run").text
    assert logged_in("admin").get(f"{CONSOLE}reports/{DAG_ID}/other_run").status_code == 404


@pytest.mark.parametrize("run_id", OUTSIDE)
@pytest.mark.parametrize("dag_id", [DAG_ID, "roll_back_migration"])
def test_no_run_id_leads_out_of_its_folder(logged_in: As, reports: Path, dag_id: str, run_id: str) -> None:
    for shown in (run_id, quote(run_id, safe=""), quote(quote(run_id, safe=""), safe="")):
        answer = logged_in("admin").get(f"{CONSOLE}reports/{dag_id}/{shown}?as_json=true")
        assert SECRET not in answer.text


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e%2fapp.py", "__init__.py", "", "nothing.js"])
def test_nothing_but_the_pages_own_files_is_served(logged_in: As, name: str) -> None:
    assert logged_in("admin").get(f"{CONSOLE}static/{name}").status_code == 404


def test_the_page_runs_no_script_but_its_own(logged_in: As) -> None:
    answer = logged_in("admin").get(CONSOLE)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'self'"
    assert logged_in("admin").get(f"{CONSOLE}static/console.js").headers["Content-Type"].startswith("text/javascript")
