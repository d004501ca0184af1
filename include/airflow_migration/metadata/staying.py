"""What a migration of rows alone leaves behind, so that a comparison can say why it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Staying:
    """:param tables: tables of the source that stay behind → why
    :param columns: table that travels → columns that became NULL
    :param schemas: why tables of others in schemas of their own stay behind; empty where they travel
    """

    tables: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    schemas: str = ""


NOTHING = Staying()
