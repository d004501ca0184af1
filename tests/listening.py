"""What tests listen with."""

from __future__ import annotations

from airflow_migration.progress import Progress


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[Progress | str] = []

    def __call__(self, what: Progress | str) -> None:
        self.said.append(what)

    @property
    def text(self) -> str:
        return "\n".join(map(str, self.said))

    @property
    def progress(self) -> list[Progress]:
        return [each for each in self.said if isinstance(each, Progress)]
