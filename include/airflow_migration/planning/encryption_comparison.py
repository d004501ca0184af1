"""Compare encrypted values of two databases by keyed digests, so that no value leaves the session."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Set
from dataclasses import dataclass

from airflow_migration.metadata.encryption import UNREADABLE, Condition, digest_of, read_values
from airflow_migration.postgres.address import Session
from airflow_migration.secret import Secret

EXAMPLES = 20
_ENCRYPTED: tuple[Condition, ...] = ("readable", *UNREADABLE)
_TRANSIENT = ("trigger", "connection_test_request")
"""Only readability is asked of these: 2.9.0 (1949afb29106) writes trigger.kwargs anew, as other text for the
same values, and their rows come and go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Values of one kind: how many, and the first twenty by name."""

    count: int
    first: tuple[str, ...]

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more} more" if more else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionComparison:
    """What became of every value in a column that Airflow encrypts, plain ones included.

    :param values: in the working database
    :param encrypted: of these, how many are marked as encrypted
    :param readable: of the encrypted, how many the target's key decrypts
    :param equal: values that are the same, decrypted, as in the clone
    :param different: those that are not, or are missing
    :param unreadable: those that the source's key reads in the clone, but the target's key does not here
    :param unreadable_before: those that no key read in the clone either; carried over as they were
    :param cleared: those that no key read in the clone either, and that the repair for them has cleared
    """

    values: int
    encrypted: int
    readable: int
    equal: int
    different: Names
    unreadable: Names
    unreadable_before: Names
    cleared: Names

    @property
    def problems(self) -> tuple[str, ...]:
        found = []
        if self.encrypted and not self.readable:
            found.append(f"The target's key reads none of the {self.encrypted} encrypted value(s)")
        if self.unreadable.count:
            found.append(f"The target's key does not read {self.unreadable}")
        if self.different.count:
            found.append(f"Not the value that it was before: {self.different}")
        return tuple(found)


def compare_encryption(
    clone: Session,
    working: Session,
    clone_keys: Secret,
    target_keys: Secret,
    cleared: Set[tuple[str, str, str]] = frozenset(),
    left_out: Collection[str] = (),
) -> EncryptionComparison:
    """Decrypt every value on both sides and compare.

    :param cleared: table, row key and column of what a repair has cleared
    :param left_out: tables that stay behind; what the working database has under their names is not compared
    :raises InvalidInputError: one of the keys is not a Fernet key
    """
    salt = secrets.token_bytes(32)
    before = {
        v.where: (digest_of(v, salt), v.condition, str(v))
        for v in read_values(clone, clone_keys)
        if v.table not in left_out
    }
    gone = _take_cleared(before, cleared)
    seen = encrypted = readable = equal = 0
    different: list[str] = []
    unreadable: list[str] = []
    unreadable_before: list[str] = []
    for value in read_values(working, target_keys):
        if value.table in left_out:
            continue
        seen += 1
        digest, condition, _ = before.pop(value.where, ("", "plain", ""))
        encrypted += value.condition in _ENCRYPTED
        readable += value.condition == "readable"
        same = digest == digest_of(value, salt)
        if value.condition in UNREADABLE:
            (unreadable_before if same and condition in UNREADABLE else unreadable).append(str(value))
        elif same or value.table in _TRANSIENT:
            equal += 1
        else:
            different.append(str(value))
    different += [text for (table, _, _), (_, _, text) in before.items() if table not in _TRANSIENT]
    return EncryptionComparison(
        values=seen,
        encrypted=encrypted,
        readable=readable,
        equal=equal,
        different=_name(different),
        unreadable=_name(unreadable),
        unreadable_before=_name(unreadable_before),
        cleared=_name(gone),
    )


def _take_cleared(
    before: dict[tuple[str, str, str], tuple[str, Condition, str]], cleared: Set[tuple[str, str, str]]
) -> list[str]:
    """Take what no key read out of what must arrive."""
    taken = [where for where in cleared & before.keys() if before[where][1] in UNREADABLE]
    return [before.pop(where)[2] for where in taken]


def _name(names: list[str]) -> Names:
    return Names(count=len(names), first=tuple(sorted(names)[:EXAMPLES]))
