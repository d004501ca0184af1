"""A deployment whose settings are an ``airflow.cfg``."""

from __future__ import annotations

import configparser
import io
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from airflow_migration.deployments.settings_file import SettingsFile, split_at_database

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|$)")
_SECTION = re.compile(r"\[(.+)\]")
_BEFORE_VALUE = re.compile(r"\s*.*?\s*[=:][^\S\r\n]*")
# Airflow sends every value through os.path.expandvars, from which nothing can be protected (configuration.py).
_EXPANDED = re.compile(r"\$(?:\w|\{)")


@dataclass(slots=True)
class _Entry:
    """A section's head, or an option with its value.

    :param first: index of its first line
    :param end: index after its last line
    """

    section: str
    option: str | None
    first: int
    end: int
    indent: str


class AirflowCfg(SettingsFile):
    """Options in sections, as Python's configparser reads them, names as they are written.

    What the environment of the processes sets instead of the file is not seen here.
    """

    kind = "airflow_cfg"

    def get(self, name: str) -> str | None:
        """The value of an option, with configparser's ``%%`` resolved."""
        section, option = _split_name(name)
        try:
            return self._parse(self._text).get(section, option, fallback=None)
        except configparser.InterpolationError:
            # Its text holds the value.
            raise self._refusal(
                f"[{section}] {option} holds a % that is no part of a reference", "Write %% for a % in that file"
            ) from None

    def _written(self, name: str) -> str | None:
        section, option = _split_name(name)
        return self._parse(self._text).get(section, option, fallback=None, raw=True)

    def _spell(self, name: str, value: str) -> str:
        return value.replace("%", "%%")

    def _with_database(self, written: str, database: str) -> str:
        if "%(" in written:
            raise self._refusal("the connection string is put together from other options", "Write it out in one piece")
        if _EXPANDED.search(database):
            raise self._refusal(
                f'Airflow would take a part of the name "{database}" for a variable',
                "Choose a target_database without $ before a letter or brace",
            )
        before, after = split_at_database(written)
        return before + database.replace("%", "%%") + after

    def _with(self, values: Mapping[str, str]) -> str:
        lines = [line for line in _LINE.findall(self._text) if line]
        for name, written in values.items():
            _set(lines, *_split_name(name), written)
        text = "".join(lines)
        self._confirm(text, values)
        return text

    def _without(self, names: Collection[str]) -> str:
        lines = [line for line in _LINE.findall(self._text) if line]
        unwanted = {_split_name(name) for name in names}
        gone = {
            number
            for entry in _entries(lines)
            if (entry.section, entry.option) in unwanted
            for number in range(entry.first, entry.end)
        }
        return "".join(line for number, line in enumerate(lines) if number not in gone)

    def _confirm(self, text: str, values: Mapping[str, str]) -> None:
        """See that the new text says what it should and else what the old one said.

        :raises InvalidInputError: it does not; the file is still as it was
        """
        wanted = _content(self._parse(self._text))
        for name, written in values.items():
            section, option = _split_name(name)
            wanted.setdefault(section, {})[option] = written
        if _content(self._parse(text)) != wanted:
            raise self._refusal(
                f"{', '.join(values)} cannot be set without changing other options",
                "Set it by hand once, in one line, or use control manual",
            )

    def _parse(self, text: str) -> configparser.ConfigParser:
        parser = configparser.ConfigParser()
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            # Lines end as in a file that is opened as text.
            parser.read_file(io.StringIO(text, newline=None))
        except configparser.Error as err:
            # Its text holds lines of the file.
            number = getattr(err, "lineno", None) or next((at for at, _ in getattr(err, "errors", [])), None)
            raise self._refusal(
                f"the file is no airflow.cfg ({type(err).__name__}" + (f" at line {number})" if number else ")")
            ) from None
        return parser


def _split_name(name: str) -> tuple[str, str]:
    """Section and option of ``AIRFLOW__SECTION__OPTION``."""
    _, section, option = name.split("__", 2)
    return section.lower(), option.lower()


def _content(parser: configparser.ConfigParser) -> dict[str, dict[str, str]]:
    return {section: dict(parser.items(section, raw=True)) for section in parser.sections()}


def _entries(lines: list[str]) -> Iterator[_Entry]:
    """The file's sections and options, told apart as configparser does: a deeper line goes on with the value."""
    entry: _Entry | None = None
    section, depth = "", 0
    for number, line in enumerate(lines):
        content = line.strip()
        if not content or _is_comment(line):
            continue
        indent = line[: len(line) - len(line.lstrip())]
        if entry and entry.option is not None and len(indent) > depth:
            entry.end = number + 1
            continue
        if entry:
            yield entry
        depth = len(indent)
        head = _SECTION.match(content)
        if head:
            section = head[1]
        option = None if head else (re.split(r"[=:]", content, maxsplit=1)[0].rstrip())
        entry = _Entry(section, option, number, number + 1, indent)
    if entry:
        yield entry


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("#", ";"))


def _set(lines: list[str], section: str, option: str, written: str) -> None:
    """Give an option a value in place, or add it where it belongs."""
    entries = [entry for entry in _entries(lines) if entry.section == section]
    present = next((entry for entry in entries if entry.option == option), None)
    if present is None:
        _add(lines, entries, section, f"{option} = {written}")
        return
    first = lines[present.first]
    match = _BEFORE_VALUE.match(first)
    before = match[0] if match else f"{option} = "
    if before.endswith((" =", " :")):
        before += " "
    # Comments between the lines of a long value stay.
    kept = [line for line in lines[present.first + 1 : present.end] if _is_comment(line) or not line.strip()]
    lines[present.first : present.end] = [before + written + _line_end(first), *kept]


def _add(lines: list[str], entries: list[_Entry], section: str, assignment: str) -> None:
    """Put an option below its commented default, or at its section's end, which may have to be added too."""
    newline = next((_line_end(line) for line in lines if _line_end(line)), "\n")
    if not entries:
        _insert(lines, len(lines), ["", f"[{section}]", assignment] if lines else [f"[{section}]", assignment], newline)
        return
    end = next((entry.first for entry in _entries(lines) if entry.first > entries[-1].first), len(lines))
    option = assignment.partition(" ")[0]
    default = re.compile(rf"\s*[#;]\s*{re.escape(option)}\s*[=:]")
    inside = {number for entry in entries if entry.option for number in range(entry.first, entry.end)}
    place = entries[-1].end
    for number in range(entries[0].first, end):
        if default.match(lines[number]) and number not in inside:
            place = number + 1
    indent = next((entry.indent for entry in entries if entry.option is not None), "")
    _insert(lines, place, [indent + assignment], newline)


def _insert(lines: list[str], place: int, texts: list[str], newline: str) -> None:
    if place and not _line_end(lines[place - 1]):
        lines[place - 1] += newline
    lines[place:place] = [text + newline for text in texts]


def _line_end(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]
