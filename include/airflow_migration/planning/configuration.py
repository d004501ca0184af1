"""What an airflow.cfg says, and what a release says of it; a value that anybody would hide is shown nowhere."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import Release

Option = tuple[str, str]

SECRETIVE = re.compile(r"secret|pass|token|key|conn|uri|url|backend|auth(?!_manager)|login|user|kwargs|headers", re.I)
HARMLESS = re.compile(r"true|false|none|-?\d+(\.\d+)?|[\w.:,]*(executor|authmanager)", re.I)
LARGEST = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """One setting that becomes another; only switches, numbers and class names are shown, never another value.

    :param before: as the file has it; empty when it is new
    :param after: as the target wants it; empty when it has no use for it
    :param why: one sentence
    :param required: the target does not understand the old one, or understands something else
    """

    before: str
    after: str
    why: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What a release says of older settings (`runtimes/tell_settings.py`).

    :param lint: what its `airflow config lint` finds; None before 2.11, which has none
    :param renamed: old → new option that it reads under the old name still
    :param sections: old → new section, likewise
    :param values: option → the value that it takes instead of an old default
    :param commands: command that it has no more → what to use instead
    """

    release: Release
    lint: tuple[Mapping[str, Any], ...] | None
    renamed: Mapping[Option, Option]
    sections: Mapping[str, str]
    values: Mapping[Option, str]
    executors: tuple[str, ...]
    auth_manager: str
    commands: Mapping[str, str]
    sensitive: frozenset[Option]

    @classmethod
    def from_answer(cls, release: Release, answer: Mapping[str, Any]) -> Knowledge:
        return cls(
            release=release,
            lint=None if answer["lint"] is None else tuple(answer["lint"]),
            renamed={(each[0], each[1]): (each[2], each[3]) for each in answer["renamed"]},
            sections=answer["sections"],
            values={(each[0], each[1]): each[2] for each in answer["values"]},
            executors=tuple(answer["executors"]),
            auth_manager=answer["auth_manager"],
            commands=answer["commands"],
            sensitive=frozenset((each[0], each[1]) for each in answer["sensitive"]),
        )


def read_options(path: Path) -> dict[Option, str]:
    """Every option that the file sets, values as they are written: these hold secrets.

    :raises InvalidInputError: it cannot be read, or is no airflow.cfg; no line of it is told
    """

    def refuse(problem: str) -> InvalidInputError:
        return InvalidInputError(
            problem,
            where=f"param airflow_cfg: {path}",
            remedy="Give the path of an airflow.cfg that this Airflow can read, or leave it out",
        )

    parser = configparser.RawConfigParser(strict=False, default_section="\0", allow_no_value=True)
    try:
        if path.stat().st_size > LARGEST:
            raise refuse("the file is larger than any airflow.cfg")
        parser.read_string(path.read_text("utf-8-sig"))
    except OSError as err:
        raise refuse(f"the file cannot be read ({err.strerror})") from None
    except UnicodeDecodeError:
        raise refuse("the file is no UTF-8 text") from None
    except configparser.Error as err:
        raise refuse(f"the file is no airflow.cfg ({type(err).__name__})") from None
    return {
        (section.lower(), option): value or ""
        for section in parser.sections()
        for option, value in parser.items(section)
    }


def written(option: Option, value: str, sensitive: frozenset[Option] = frozenset()) -> str:
    """The setting as it would stand in the file, with a value only if nobody would hide it."""
    if option in sensitive or SECRETIVE.search(option[1]):
        return f"{named(option)} = ***"
    return f"{named(option)} = {value if HARMLESS.fullmatch(value) else '…'}"


def named(option: Option) -> str:
    return f"[{option[0]}] {option[1]}"
