"""Which of Airflow's migrations run between two heads."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.metadata.releases import applied_revisions, surrounding_releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """The stretch from one head to a later one, asked by alembic revision."""

    applied: frozenset[str]
    wanted: frozenset[str]

    @classmethod
    def between(cls, head: str, target_head: str) -> Crossing:
        """Look both heads up; one between two releases, of an upgrade that stopped, will do.

        :raises InvalidInputError: a head is of no release known here
        """
        for each in (head, target_head):
            surrounding_releases(each)
        return cls(applied=applied_revisions(head), wanted=applied_revisions(target_head))

    def starts_after(self, revision: str) -> bool:
        """Whether the database has `revision` behind it already."""
        return revision in self.applied

    def reaches(self, revision: str) -> bool:
        """Whether the database has `revision` behind it afterwards."""
        return revision in self.wanted

    def crosses(self, revision: str) -> bool:
        """Whether `revision` runs on this stretch."""
        return self.reaches(revision) and not self.starts_after(revision)
