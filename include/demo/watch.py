"""Show in the terminal what the run's tasks do, from Airflow's REST API and their logs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

POLL_SECONDS = 1.0
DEADLINE_SECONDS = 3600.0
FINISHED = ("success", "failed", "skipped", "upstream_failed", "removed")
COLOURS = {"success": "green", "failed": "red", "upstream_failed": "red", "skipped": "dim", "up_for_retry": "yellow"}


@dataclass(slots=True)
class Watch:
    """What was shown already."""

    states: dict[str, str | None] = field(default_factory=dict)
    offsets: dict[Path, int] = field(default_factory=dict)


def watch_run(console: Console, api: httpx.Client, dag_id: str, run_id: str, logs: Path) -> str:
    """Print every change until the run has ended.

    :returns: the run's state
    """
    watch, deadline = Watch(), time.monotonic() + DEADLINE_SECONDS
    while True:
        state = str(_get(api, f"/dags/{dag_id}/dagRuns/{run_id}")["state"])
        instances = _get(api, f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100")["task_instances"]
        for path in sorted(logs.glob(f"dag_id={dag_id}/run_id={run_id}/task_id=*/*.log")):
            for line in _new_lines(path, watch):
                console.print(f"           [dim]{line}[/dim]", soft_wrap=True, markup=True)
        for instance in sorted(instances, key=lambda each: str(each["start_date"] or "~")):
            _show_change(console, instance, watch)
        if state in ("success", "failed") or time.monotonic() > deadline:
            console.print(f"\nThe run ended: [bold]{state}[/bold]")
            return state
        time.sleep(POLL_SECONDS)


def _get(api: httpx.Client, path: str) -> Any:
    answer = api.get(path)
    answer.raise_for_status()
    return answer.json()


def _show_change(console: Console, instance: dict[str, Any], watch: Watch) -> None:
    name, state = instance["task_id"], instance["state"]
    if watch.states.get(name) == state or state not in (*FINISHED, "running", "up_for_retry", "deferred"):
        return
    watch.states[name] = state
    seconds = f"{instance['duration']:7.1f} s" if state in FINISHED and instance["duration"] else " " * 9
    colour = COLOURS.get(state, "cyan")
    console.print(f"{seconds}  [{colour}]{state:<16}[/{colour}] {name}", soft_wrap=True)


def _new_lines(path: Path, watch: Watch) -> Iterator[str]:
    """What our package has logged since the last look, without the noise of Airflow itself."""
    with path.open("rb") as file:
        file.seek(watch.offsets.get(path, 0))
        content = file.read()
    complete = content.rpartition(b"\n")[0] + b"\n" if b"\n" in content else b""
    watch.offsets[path] = watch.offsets.get(path, 0) + len(complete)
    for line in complete.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "airflow_migration" in str(entry.get("logger", "")):
            yield str(entry.get("event", "")).replace("[", r"\[")
