"""Which Airflow releases must upgrade the database, one after the other, to reach the target."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import (
    Release,
    applied_revisions,
    known_releases,
    release,
    require_release_head,
    trees,
    version_number,
)

MAX_HOPS = 3
WHERE = "plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One upgrade by one release.

    :param number: 1 for the first
    :param from_head: alembic head before it
    :param release: Airflow release that does it
    :param head: alembic head after it
    """

    number: int
    from_head: str
    release: str
    head: str


def plan_hops(from_head: str, target: str, *, limit: int = MAX_HOPS) -> tuple[Hop, ...]:
    """The upgrades from a database's head to a release; none when the head is the release's already.

    3.0 dropped the older part of its migration history, so that it upgrades databases of 2.7.0 and later
    only (``airflow/migrations/versions`` of 3.0.0 to 3.3.2): what is older goes through the newest 2.x.

    :param from_head: as `releases.read_head` gives it
    :param target: release to arrive at
    :param limit: most upgrades that the caller can run
    :raises InvalidInputError: the head is of no release, the target is unknown or older, or it is too far
    """
    goal = release(target)
    at = require_release_head(from_head)
    if goal in at:
        return ()
    if goal.number < at[0].number:
        raise InvalidInputError(
            f"the source's database is of Airflow {_span(at)}, the target {goal} is older",
            where=WHERE,
            remedy=f"Airflow cannot take a database back: choose a target from {at[0]} on",
        )
    path = [goal]
    while not _upgrades(path[0], at[0].head):
        path.insert(0, _step_before(path[0]))
    if len(path) > limit:
        raise InvalidInputError(
            f"Airflow {_span(at)} to {goal} takes {len(path)} upgrades ({', '.join(map(str, path))}), "
            f"at most {limit} are run in one migration",
            where=WHERE,
            remedy=f"Migrate to {path[limit - 1] if limit else at[0]} first, then from there",
        )
    heads = [at[0].head, *(each.head for each in path)]
    return tuple(
        Hop(number=number, from_head=heads[number - 1], release=each.version, head=each.head)
        for number, each in enumerate(path, start=1)
    )


def _upgrades(goal: Release, head: str) -> bool:
    """Whether the release's own migration history reaches back to this head."""
    tree = [each for each in trees() if version_number(each.since) <= goal.number][-1]
    return tree.first in applied_revisions(head)


def _step_before(goal: Release) -> Release:
    """The newest release of the history before the goal's: it knows the most and was mended the most."""
    tree = [each for each in trees() if version_number(each.since) <= goal.number][-1]
    return [each for each in known_releases() if each.number < version_number(tree.since)][-1]


def _span(releases: tuple[Release, ...]) -> str:
    return str(releases[0]) if len(releases) == 1 else f"{releases[0]} to {releases[-1]}"
