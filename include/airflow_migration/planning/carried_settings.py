"""Carry the settings of a file from release to release, as each release would read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_migration.metadata.releases import Release
from airflow_migration.planning.configuration import Knowledge, Option, SettingChange, named, written

SUFFIXES = ("_cmd", "_secret")
"""Airflow takes a value from what `option_cmd` prints, or from its secrets backend by the name in `option_secret`."""
LONGEST_CHAIN = 5
MIGRATE_SINCE = (2, 7)
"""`db migrate` stands for `db init` and `db upgrade`, which 3.0 has not any more and says nothing of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An option on its way through the releases.

    :param value: as the file has it
    :param origin: what the file calls it
    :param now: the value that it has to have, when that is another one
    :param shown: what to write for it where the value itself is hidden
    :param why: the last reason for a change
    """

    value: str
    origin: Option
    now: str | None = None
    shown: str | None = None
    why: str = ""

    @property
    def current(self) -> str:
        """The value that it has by now."""
        return self.value if self.now is None else self.now


@dataclass(slots=True)
class Settings:
    """The options of the file under the names that they have by now.

    :param gone: those that have no meaning any more
    """

    entries: dict[Option, Entry]
    gone: list[Entry] = field(default_factory=list)

    @classmethod
    def of(cls, options: Mapping[Option, str]) -> Settings:
        return cls({option: Entry(value=value, origin=option) for option, value in options.items()})

    @property
    def options(self) -> list[list[str]]:
        """As the script in the runtime wants them."""
        return [[*option, entry.current] for option, entry in self.entries.items()]

    def carry(self, known: Knowledge) -> None:
        """Give everything the name, place and value that this release has for it."""
        for option, value in known.values.items():
            self.change(option, now=value, why=f"Airflow {known.release} takes its new default for this old one")
        if known.release.number >= (3,):
            for rule in known.lint or ():
                self._apply(rule)
        for option in list(self.entries):
            if option[0] in known.sections:
                new = known.sections[option[0]]
                self._move(option, (new, option[1]), f"section [{option[0]}] is called [{new}]")
        for _ in range(LONGEST_CHAIN):
            for old, renamed in known.renamed.items():
                self._rename(old, renamed, f"Airflow {known.release} calls it so")

    def change(self, option: Option, *, why: str, now: str | None = None, shown: str | None = None) -> None:
        """Give an option that is there another value."""
        if option in self.entries:
            self.entries[option] = replace(self.entries[option], now=now, shown=shown, why=why)

    def _apply(self, rule: Mapping[str, Any]) -> None:
        option = (str(rule["section"]), str(rule["option"]))
        if rule["kind"] == "renamed":
            self._rename(option, (rule["to"][0], rule["to"][1]), rule["message"])
        elif rule["kind"] == "removed" and option in self.entries:
            self.gone.append(replace(self.entries.pop(option), why=rule["message"]))

    def _rename(self, old: Option, new: Option, why: str) -> None:
        for suffix in ("", *SUFFIXES):
            self._move((old[0], old[1] + suffix), (new[0], new[1] + suffix), why)

    def _move(self, old: Option, new: Option, why: str) -> None:
        if old not in self.entries or old == new:
            return
        entry = self.entries.pop(old)
        if new in self.entries:
            self.gone.append(replace(entry, why=f"{named(new)} is set as well, and counts"))
        else:
            self.entries[new] = replace(entry, why=why)

    def changes(self, target: Knowledge) -> Iterator[SettingChange]:
        """What has another name, place or value at the target, or no meaning."""
        for option, entry in self.entries.items():
            if option == entry.origin and entry.now is None and entry.shown is None:
                continue
            plain = written(option, entry.current, target.sensitive)
            yield SettingChange(
                before=written(entry.origin, entry.value, target.sensitive),
                after=f"{named(option)} = {entry.shown}" if entry.shown else plain,
                why=entry.why,
                required=bool(entry.shown) or (option != entry.origin and not _still_read(entry.origin, target)),
            )
        for entry in self.gone:
            before = written(entry.origin, entry.value, target.sensitive)
            yield SettingChange(before=before, after="", why=entry.why, required=False)


def _still_read(option: Option, target: Knowledge) -> bool:
    """Whether the target takes the option under its old name."""
    section, name = option
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return (section, name) in target.renamed or section in target.sections


def commands_between(source: Release, known: Sequence[Knowledge]) -> dict[str, str]:
    """Command of the source → command of the target, both without ``airflow``.

    :param known: the releases on the way, the target last
    """
    met: dict[str, str] = {}
    line = source.number[0]
    for each in known:
        if each.release.number[0] != line:
            line = each.release.number[0]
            met = dict(each.commands) | {old: each.commands.get(new, new) for old, new in met.items()}
    if source.number < (2,):
        # What a release between has brought and the next one renamed was never typed at the source.
        met = {old: new for old, new in met.items() if " " not in old}
    if known[-1].release.number >= MIGRATE_SINCE:
        met = {old: "db migrate" if new in ("db init", "db upgrade") else new for old, new in met.items()}
    return met
