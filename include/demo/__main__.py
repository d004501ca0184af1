"""`make demo`: a metadata database written by Airflow 1.10.15 becomes a working 3.3.2, by our DAG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from airflow_migration.exceptions import MigrationError
from airflow_migration.links.routes import run_route
from demo.stage import DAG_ID, RUN_ID, Stage
from demo.summary import print_summary

REPOSITORY = Path(__file__).parents[2]


def main() -> int:
    """Run the demo; the exit code is 0 only for a verified migration."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the control Airflow and Postgres running")
    parser.add_argument("--stop", action="store_true", help="stop what --keep left running")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    build = REPOSITORY / "build"
    stage = Stage(folder=build / "demo", runtimes=build / "runtimes", console=console)
    if arguments.stop:
        stage.stop()
        return 0
    try:
        stage.set_up()
        report = stage.migrate()
        print_summary(console, report, stage.report)
        if arguments.keep:
            name, password = stage.control.login()
            console.print(f"\nAirflow runs on {stage.control.url}{run_route(DAG_ID, RUN_ID)}", soft_wrap=True)
            console.print(f"Login: {name} / {password}      Stop it with: make demo-stop")
        return 0 if report["verified"] and report["status"] == "success" else 1
    except MigrationError as err:
        console.print(f"[red]{err}[/red]")
        return 1
    finally:
        if not arguments.keep:
            stage.stop()


if __name__ == "__main__":
    sys.exit(main())
