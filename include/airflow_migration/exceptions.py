"""Errors of the migration; `retryable` tells the DAG whether another try can help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class MigrationError(Exception):
    """A step of a migration failed.

    :param problem: what was seen; must not hold secrets, it reaches logs and XCom
    :param where: the step, and the database, row key or file concerned
    :param remedy: what the person can do next
    """

    retryable = False

    def __init__(self, problem: str, *, where: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}. {remedy}.")
        self.problem, self.where, self.remedy = problem, where, remedy


class InvalidInputError(MigrationError):
    """A param, a connection or a file says something that cannot be done; nothing was changed."""


class PreflightError(MigrationError):
    """The source or target is not fit to start; nothing was changed.

    :param findings: all that preflight found, as JSON; empty where it did not come so far
    """

    def __init__(self, problem: str, *, where: str, remedy: str, findings: Sequence[Mapping[str, object]] = ()) -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.findings = tuple(findings)


class ServerUnreachableError(MigrationError):
    """A server did not answer in time; a later try may succeed."""

    retryable = True


class ToolError(MigrationError):
    """A client program (pg_dump, airflow, uv) failed; its last lines are in the problem."""

    retryable = True


class OwnershipError(MigrationError):
    """A database of that name exists that this migration did not create; it is never touched."""


class VerificationError(MigrationError):
    """The working database does not hold what the frozen clone holds; nothing was unpaused."""


class DrainTimeoutError(MigrationError):
    """Tasks of the source still run at the deadline."""
