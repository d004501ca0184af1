"""A string that cannot be printed, pickled, copied into a result or turned into JSON by accident."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Holds a password, key or URI.

    :param value: what to hide; an empty string means that there is none
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the call that needs it and for nothing else."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret()"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A Secret cannot be serialized")
