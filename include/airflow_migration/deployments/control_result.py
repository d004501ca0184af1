"""What an act on a deployment has done, or has left to a person."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """What was changed in a deployment's settings, or must be changed by a person.

    :param changed: names of settings, or what was started
    :param instructions: what is left to be done by hand
    :param backup: path of the settings as they were before
    :param done_by_hand: instructions that somebody said to have followed
    :param confirmed_by: who
    """

    kind: str
    changed: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    backup: str | None = None
    done_by_hand: tuple[str, ...] = ()
    confirmed_by: str | None = None

    def and_then(self, later: ControlResult) -> ControlResult:
        """Both as one."""
        return ControlResult(
            kind=self.kind,
            changed=self.changed + later.changed,
            instructions=self.instructions + later.instructions,
            backup=self.backup or later.backup,
        )
