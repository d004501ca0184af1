"""Show a result in a terminal, whatever fields its dataclass has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

WIDTH = 160
"""Columns where the output is no terminal."""
_STYLES = {"blocker": "bold red", "warning": "yellow", "info": "cyan", "ok": "green"}


def show(result: DataclassInstance, console: Console | None = None) -> None:
    """Single values as a list, what repeats as a table each; what is empty is left out."""
    console = console or make_console()
    single = []
    for name, value in _content(result):
        if _is_table(value):
            _show_table(console, _title(name), value)
        elif _is_row(value):
            _show_table(console, _title(name), [value])
        else:
            single.append((name, value))
    if single:
        summary = Table(show_header=False, box=None)
        for name, value in single:
            summary.add_row(_title(name), _text(value))
        console.print(summary)


def make_console() -> Console:
    """What is printed is never read as markup; a pipe gets wide lines instead of eighty characters."""
    console = Console(markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, emoji=False, width=WIDTH)


def _show_table(console: Console, title: str, rows: Sequence[DataclassInstance]) -> None:
    content = [dict(_content(row)) for row in rows]
    names = [each.name for each in fields(rows[0]) if any(each.name in row for row in content)]
    table = Table(title=title, title_justify="left", show_lines=False)
    for name in names:
        table.add_column(_title(name), overflow="fold", justify="right" if _is_number(content, name) else "left")
    for row in content:
        style = _STYLES.get(str(row.get("severity")), "")
        table.add_row(*(_text(row.get(name)) for name in names), style=style)
    console.print(table)


def _content(value: DataclassInstance) -> Iterable[tuple[str, Any]]:
    """The fields that say something; 0 and False do."""
    for each in fields(value):
        found = getattr(value, each.name)
        if found not in (None, "", (), {}, []):
            yield each.name, found


def _is_row(value: object) -> TypeGuard[DataclassInstance]:
    return is_dataclass(value) and not isinstance(value, type)


def _is_table(value: object) -> TypeGuard[Sequence[DataclassInstance]]:
    return isinstance(value, tuple | list) and bool(value) and all(_is_row(each) for each in value)


def _is_number(content: Iterable[dict[str, Any]], name: str) -> bool:
    values = [row[name] for row in content if name in row]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    """One cell; what a terminal could take for a command is replaced."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple | list):
        return "\n".join(_text(each) for each in value)
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(each)}" for key, each in value.items())
    if _is_row(value):
        if type(value).__str__ is not object.__str__:
            return _text(str(value))
        return ", ".join(f"{_title(name)} {_text(each)}" for name, each in _content(value))
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in str(value))
