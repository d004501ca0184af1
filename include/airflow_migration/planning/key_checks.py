"""See before anything is touched whether the keys read what the source has encrypted."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_migration.deployments.control import configured_fernet_keys
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.encryption import EncryptionSurvey, read_keys, survey
from airflow_migration.metadata.findings import Finding, blocker
from airflow_migration.metadata.repairs.registry import QUARANTINE
from airflow_migration.planning.keys import KEEP, REENCRYPT, SWAP, Keys
from airflow_migration.postgres.address import Session

EXAMPLES = 10
GIVE_SOURCE = "Give all fernet keys of the source, newest first, as secret_fernet_key of its connection"
GIVE_TARGET = "Give it as secret_fernet_key of the target's connection, or where its control reads it"
TARGET_KEY = "target_fernet_key"


def check_keys(conn: Session, keys: Keys, asked: str, target: Deployment) -> Iterator[Finding]:
    """Whether what is encrypted in the source can be read now, and will be by the target.

    :param conn: session in the source's database
    :param asked: the run's param `fernet`
    """
    if keys.fernet != SWAP:
        problem = _target_problem(keys, target)
        if problem:
            yield blocker(TARGET_KEY, *problem)
            return
    if keys.fernet != asked:
        yield _info("the source has no fernet key to give, so the target keeps its own")
    found = survey(conn, keys.clone)
    unread = _unread_by_any(found, keys)
    if unread:
        yield unread
        if unread.repair is None:
            return
    readable = found.encrypted - found.unreadable
    if keys.fernet != SWAP and readable and not keys.target:
        yield blocker(
            TARGET_KEY,
            f"the target's fernet key is not known, and fernet is {keys.fernet}",
            f"{GIVE_TARGET}, or use fernet swap",
            count=readable,
        )
    elif keys.fernet == KEEP and readable:
        yield _kept(survey(conn, keys.target), readable)
    else:
        if not unread:
            yield _ok(f"The key reads all {readable} encrypted value(s)")
        if keys.fernet == REENCRYPT:
            yield _info("what is encrypted is rewritten with the target's key, in the new database only")


def check_source_keys(conn: Session, keys: Keys) -> Iterator[Finding]:
    """Whether what is encrypted in the source can be read, whatever the target may be."""
    found = survey(conn, keys.clone)
    yield _unread_by_any(found, keys) or _ok(f"The key reads all {found.encrypted} encrypted value(s)")


def _target_problem(keys: Keys, target: Deployment) -> tuple[str, str] | None:
    """What is wrong with the target's keys themselves."""
    given = target.fernet_keys
    if given and _words(given.reveal()) != _words(configured_fernet_keys(target).reveal()):
        return (
            "the target's connection gives other fernet keys than its control reads",
            "Correct secret_fernet_key of the target's connection, or remove it",
        )
    if keys.target:
        try:
            read_keys(keys.target)
        except InvalidInputError as err:
            return f"the target's fernet key: {err.problem}", GIVE_TARGET
    return None


def _words(keys: str) -> list[str]:
    return [key.strip() for key in keys.split(",") if key.strip()]


def _unread_by_any(found: EncryptionSurvey, keys: Keys) -> Finding | None:
    """The finding for values of the source that no known key reads; the repair is not for a wrong key."""
    flagged = sum(column.flagged_plain_text for column in found.columns)
    if found.verdict in ("no key given", "wrong key"):
        said = "the fernet key is wrong" if keys.source else "no fernet key is given"
        summary = f"{found.encrypted} value(s) of the source are encrypted and {said}"
        return blocker("fernet_key", summary, GIVE_SOURCE, count=found.encrypted, evidence=_rows(found))
    count = found.unreadable + flagged
    if not count:
        return None
    return Finding(
        check="undecryptable",
        severity="warning",
        summary=f"{count} encrypted value(s) of the source cannot be decrypted",
        count=count,
        evidence=_rows(found),
        remedy="They are cleared in the new database; the ciphertext is kept in its schema airflow_migration",
        repair=QUARANTINE,
    )


def _kept(found: EncryptionSurvey, readable: int) -> Finding:
    """:param found: by the target's key
    :param readable: values that this key or the source's reads
    """
    unread = readable - found.encrypted + found.unreadable
    if unread:
        return blocker(
            TARGET_KEY,
            f"fernet is keep, and the target's key does not read {unread} of {readable} encrypted"
            " value(s) of the source",
            "Use fernet reencrypt or swap, or append the source's keys to the target's",
            count=unread,
            evidence=_rows(found),
        )
    return _ok(f"The target's key reads all {readable} encrypted value(s)")


def _rows(found: EncryptionSurvey) -> tuple[str, ...]:
    rows = [
        f"{column.table}.{column.column}: {name}"
        for column in found.columns
        for name in (*column.unreadable_rows, *column.flagged_plain_text_rows)
    ]
    return tuple(rows[:EXAMPLES])


def _ok(summary: str) -> Finding:
    return Finding(check="fernet_key", severity="ok", summary=summary)


def _info(summary: str) -> Finding:
    return Finding(check="fernet_key", severity="info", summary=summary)
