"""Preflight and verification from a terminal, without an Airflow: ``python -m airflow_migration --help``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.deployments.environment import deployment_from_environment, variable_of
from airflow_migration.exceptions import MigrationError, PreflightError
from airflow_migration.metadata.findings import Finding
from airflow_migration.planning import from_outside, repairs
from airflow_migration.planning.keys import FERNET
from airflow_migration.planning.options import DATA_ONLY, TRANSFERS, Options
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.preflight import draw_plan
from airflow_migration.postgres.databases import tidy
from airflow_migration.progress import Listener, Progress
from airflow_migration.terminal import show

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DEFAULTS = Options()
GOOD, WARNINGS, BAD, MISUSED = 0, 1, 2, 3
EPILOG = """\
The connections are read from the environment, as Airflow reads them, so that no password is in a command line:

  AIRFLOW_CONN_MIGRATION_SOURCE='airflow-deployment://login:password@host:5432/database?secret_fernet_key=...'
  AIRFLOW_CONN_MIGRATION_TARGET='{"conn_type": "airflow_deployment", "host": "host", "login": "login",
      "password": "...", "schema": "database", "extra": {"secret_fernet_key": "...", "airflow_version": "3.3.2"}}'

exit code: 0 nothing stands in the way, or verified; 1 warnings; 2 blockers, or not verified; 3 wrong use, or a
server cannot be reached
"""
PLAN_ID = "preflight"
"""Stands for the migration that has no id yet, in the names that the plan shows."""


class _Parser(argparse.ArgumentParser):
    """Ends wrong use with 3, as 2 says that something was found; its texts are kept as they are laid out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(MISUSED, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    :returns: the exit code
    """
    given = _parser().parse_args(argv)
    try:
        result, code = given.command(given)
    except PreflightError as err:
        if given.json and err.findings:
            _write_json({"findings": err.findings})
        return _complain(err, BAD)
    except MigrationError as err:
        return _complain(err, MISUSED)
    except psycopg.Error as err:
        return _complain(tidy(err, where=given.name), MISUSED)
    if given.json:
        _write_json(asdict(result))
    else:
        show(result)
    return int(code)


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    shared.add_argument("--source-conn-id", default=DEFAULTS.source_conn_id, metavar="ID", help="default: %(default)s")
    shared.add_argument("--target-conn-id", default=DEFAULTS.target_conn_id, metavar="ID", help="default: %(default)s")
    shared.add_argument(
        "--to", metavar="RELEASE", help="the target's release; default: what its connection says, or the newest"
    )
    shared.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    shared.add_argument("-v", "--verbose", action="store_true", help="say on standard error what is being done")
    parser = _Parser(prog="python -m airflow_migration", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="name", metavar="preflight | verify")
    preflight = commands.add_parser("preflight", description=_preflight.__doc__, parents=[shared])
    _add_preflight_options(preflight)
    preflight.set_defaults(command=_preflight)
    verify = commands.add_parser("verify", description=_verify.__doc__, parents=[shared])
    verify.add_argument("--source-database", metavar="NAME", help="the frozen clone, beside the source's database")
    verify.add_argument("--target-database", metavar="NAME", help="the upgraded database, beside the target's")
    verify.add_argument("--migration-id", metavar="ID", help="run id whose ledger explains what was moved")
    _add_tables(verify, default=None, when="after data_only, what has travelled")
    verify.set_defaults(command=_verify)
    return parser


def _add_preflight_options(parser: argparse.ArgumentParser) -> None:
    whole = parser.add_argument_group("params of the migration", "the first two also without a target")
    whole.add_argument("--history-days", type=int, metavar="DAYS")
    whole.add_argument(
        "--repairs",
        type=_word_or_list(repairs.CHOICES),
        default=DEFAULTS.repairs,
        metavar="WHICH",
        help="safe (default), all, or ids separated by commas; '' is none",
    )
    whole.add_argument("--transfer", choices=TRANSFERS, default=DEFAULTS.transfer)
    _add_tables(whole, default=DEFAULTS.tables, when="with --transfer data_only")
    whole.add_argument("--fernet", choices=FERNET, default=DEFAULTS.fernet)
    whole.add_argument("--target-database", metavar="NAME")
    whole.add_argument("--no-backup", action="store_true")


def _add_tables(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, *, default: str | tuple[str, ...] | None, when: str
) -> None:
    parser.add_argument(
        "--tables",
        type=_word_or_list((DEFAULTS.tables,)),
        default=default,
        metavar="WHICH",
        help=f"{when}: default, or tables separated by commas; default and users stand for theirs",
    )


def _word_or_list(words: Collection[object]) -> Callable[[str], str | tuple[str, ...]]:
    """Reads one of the words, or a list."""
    return lambda text: text if text in words else tuple(each.strip() for each in text.split(",") if each.strip())


def _preflight(given: argparse.Namespace) -> tuple[DataclassInstance, int]:
    """Check a source, and the plan to move it, and change nothing. Without a target the source alone is checked."""
    source = deployment_from_environment(given.source_conn_id, os.environ)
    options = Options.from_params(
        {
            "source_conn_id": given.source_conn_id,
            "target_conn_id": given.target_conn_id,
            "history_days": given.history_days,
            "repairs": given.repairs,
            "transfer": given.transfer,
            "tables": given.tables,
            "fernet": given.fernet,
            "target_database": given.target_database,
            "backup": not given.no_backup,
        },
        given=(),
    )
    result: Plan | from_outside.SourcePreflight
    if variable_of(given.target_conn_id) in os.environ or given.target_conn_id != DEFAULTS.target_conn_id:
        result = draw_plan(
            options=options,
            migration_id=PLAN_ID,
            control_run=None,
            source=source,
            target=_to(deployment_from_environment(given.target_conn_id, os.environ), given.to),
            bin_path=None,
            listener=_listener(given),
        )
    else:
        result = from_outside.look_at_source(
            source,
            to=given.to,
            history_days=options.history_days,
            may_run=repairs.allowed(options.repairs),
            listener=_listener(given),
        )
    return result, _worst(result.findings)


def _verify(given: argparse.Namespace) -> tuple[DataclassInstance, int]:
    """Compare a frozen clone, or a source at rest, with the upgraded database, and write nothing."""
    source = deployment_from_environment(given.source_conn_id, os.environ)
    target = deployment_from_environment(given.target_conn_id, os.environ)
    if given.tables is not None:  # the same words as the param, and refused alike
        Options.from_params({"transfer": DATA_ONLY, "tables": given.tables}, given=())
    result = from_outside.compare(
        _on(source, given.source_database),
        _on(target, given.target_database),
        to=given.to,
        migration_id=given.migration_id,
        listener=_listener(given),
        tables=given.tables,
    )
    return result, GOOD if result.verified else BAD


def _to(deployment: Deployment, release: str | None) -> Deployment:
    return replace(deployment, airflow_version=release) if release else deployment


def _on(deployment: Deployment, database: str | None) -> Deployment:
    return replace(deployment, address=deployment.address.on(database)) if database else deployment


def _worst(findings: Sequence[Finding]) -> int:
    severities = {finding.severity for finding in findings}
    if "blocker" in severities:
        return BAD
    return WARNINGS if "warning" in severities else GOOD


def _listener(given: argparse.Namespace) -> Listener:
    def say(message: Progress | str) -> None:
        sys.stderr.write(f"{message}\n")

    def ignore(message: Progress | str) -> None:
        """Nobody has asked."""

    return say if given.verbose else ignore


def _write_json(content: Mapping[str, object]) -> None:
    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _complain(err: MigrationError, code: int) -> int:
    sys.stderr.write(f"{err}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
