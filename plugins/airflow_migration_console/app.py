"""The console's pages and the reports, each behind Airflow's own login and rights.

Airflow does not authenticate the apps of plugins: every route here depends on its user. What the page shows it asks
of Airflow's REST API with that user's cookie, so nobody sees more of a migration there than in the rest of the UI.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request, Response, status
from fastapi.responses import JSONResponse

from airflow_migration.links.routes import REPORTS, URL_PREFIX
from airflow_migration_console.reports import read_report

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Airflow's UI shows the page in a frame of its own origin.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
# A report is one file with its style in it. Sandboxed, it could not use the reader's login even if it held a script.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'none'; sandbox allow-popups allow-popups-to-escape-sandbox"
)

app = FastAPI(
    title="Migrations",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[Depends(get_user)],
)


@app.middleware("http")
async def secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Headers that hold for whatever is answered."""
    response = await call_next(request)
    response.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    response.headers["Referrer-Policy"] = "same-origin"
    return response


@app.exception_handler(HTTPException)
async def refuse(request: Request, err: HTTPException) -> Response:
    """A person without a login is sent to it; a program is told."""
    wants_page = "text/html" in request.headers.get("accept", "")
    if err.status_code == status.HTTP_401_UNAUTHORIZED and wants_page:
        here = request.scope["root_path"]
        query = f"?{request.url.query}" if request.url.query else ""
        asked = quote(f"{request.url.path}{query}", safe="")
        login = f"{here.removesuffix(URL_PREFIX)}/api/v2/auth/login?next={asked}"
        return Response(status_code=status.HTTP_307_TEMPORARY_REDIRECT, headers={"Location": login})
    return JSONResponse({"detail": err.detail}, status_code=err.status_code, headers=err.headers)


@app.get("/")
def page() -> Response:
    """The page, which is the same for everybody."""
    return static("index.html")


@app.get("/static/{name}")
def static(name: str) -> Response:
    """One of the page's own files; a name is never used as a path."""
    for path in STATIC.iterdir():
        if path.name == name and path.suffix in TYPES:
            return Response(path.read_bytes(), media_type=TYPES[path.suffix], headers={"Cache-Control": "no-cache"})
    raise HTTPException(status.HTTP_404_NOT_FOUND, "There is no such file")


@app.get(
    # A run id may hold a slash.
    REPORTS.removeprefix(URL_PREFIX).replace("{run_id}", "{run_id:path}"),
    dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.XCOM))],
)
def report(dag_id: str, run_id: str, as_json: bool = False) -> Response:
    """The report of a run, for those who may read what its tasks left."""
    content = read_report(dag_id, run_id, "report.json" if as_json else "report.html")
    if content is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "This run has no report, or none yet")
    return Response(
        content,
        media_type="application/json" if as_json else TYPES[".html"],
        headers={"Content-Security-Policy": REPORT_POLICY},
    )
