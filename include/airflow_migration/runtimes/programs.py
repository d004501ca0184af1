"""Find a program that a wheel brings, uv or ruff: the one that is installed beside this package, else on PATH."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path

from airflow_migration.exceptions import InvalidInputError


def find_program(name: str, *, what: str, where: str, remedy: str) -> Path:
    """The program of the Python package of that name.

    :param what: what it is for, for the person without it
    :raises InvalidInputError: there is none
    """
    try:
        return Path(getattr(import_module(name), f"find_{name}_bin")())
    except (ImportError, AttributeError, FileNotFoundError):
        found = shutil.which(name)
    if found is None:
        raise InvalidInputError(f"{name}, which {what}, is not installed", where=where, remedy=remedy)
    return Path(found)
