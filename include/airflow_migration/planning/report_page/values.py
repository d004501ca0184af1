"""Parts of a report that are written as they are: names, values, lists and tables of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_migration.planning.report_page.markup import NOTHING, Html, Node, facts, listing, more, section, table, tag

SHOWN = 12
"""Lines of a list or table from which on it is folded."""


def part(id: str, title: str, value: object) -> Html:
    """A section of any JSON; none where there is nothing in it.

    Sentences come first, as they say in words what the rest says in numbers.
    """
    if not isinstance(value, Mapping):
        return section(id, title, _block("All of it", value))
    words = value.get("sentences") or value.get("in_words") or ()
    rest = {name: each for name, each in value.items() if name not in ("sentences", "in_words")}
    spoken = tag("p", words) if isinstance(words, str) else listing(map(str, words))
    return section(id, title, spoken, _mapping(rest))


def _mapping(value: Mapping[str, Any]) -> Html:
    short = facts((_name(name), _short(each)) for name, each in value.items() if not _is_long(each))
    blocks = [_titled(_name(name), each) for name, each in value.items() if _is_long(each) and each]
    return tag("div", short, *blocks) if short or blocks else NOTHING


def _titled(title: str, value: object) -> Html:
    content = _block(title, value)
    if isinstance(value, Sequence) and len(value) > SHOWN:
        return more(f"{title} ({len(value)})", content)
    return tag("div", tag("h3", title), content) if content else NOTHING


def _block(title: str, value: object) -> Html:
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(each, Mapping) for each in value):
            names = list(dict.fromkeys(name for each in value for name in each))
            rows = ([_short(each.get(name)) or "" for name in names] for each in value)
            return table(title, [_name(name) for name in names], rows)
        return listing(_short(each) for each in value)
    return tag("p", _short(value)) if value not in (None, "") else NOTHING


def _is_long(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str))


def _short(value: object) -> Node:
    """A value within a line."""
    if value is None or isinstance(value, Html):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, Mapping):
        return "; ".join(f"{_name(str(name))}: {_short(each)}" for name, each in value.items() if each is not None)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(_short(each)) for each in value)
    return str(value)


def _name(key: str) -> str:
    return re.sub(r"\bdag(s?)\b", r"DAG\1", key.replace("_", " ").capitalize(), flags=re.IGNORECASE)
