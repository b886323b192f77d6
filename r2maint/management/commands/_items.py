"""The items of a report: as mappings, and of text only those that are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from r2maint.rendering.as_text import MAX_ROWS

Test = Callable[[Any], bool]


class ReportItems:
    """Items as mappings, again for every reading; those that are fine left out unless wanted."""

    def __init__(
        self,
        items: Iterable[Any],
        *,
        is_fine: Test,
        is_urgent: Test,
        everything: bool,
        is_brief: bool,
    ) -> None:
        """With `is_brief` only what text shows is given: what is urgent first, then the rest."""
        self._items = items
        self._is_fine = is_fine
        self._is_urgent = is_urgent
        self._everything = everything
        self._is_brief = is_brief
        self._brief: tuple[list[Any], int] | None = None

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        items = self._survey()[0] if self._is_brief else self._wanted()
        return (item.as_dict() for item in items)

    def __length_hint__(self) -> int:
        return self._survey()[1] if self._is_brief else NotImplemented

    def _survey(self) -> tuple[list[Any], int]:
        """Return the items text shows, and how many there are; all are read once.

        What somebody must act on comes before what went well.
        """
        if self._brief is None:
            urgent, calm, count = list[Any](), list[Any](), 0
            for item in self._wanted():
                count += 1
                of_kind = urgent if self._is_urgent(item) else calm
                if len(of_kind) < MAX_ROWS:
                    of_kind.append(item)
            self._brief = [*urgent, *calm][:MAX_ROWS], count
        return self._brief

    def _wanted(self) -> Iterator[Any]:
        return (each for each in self._items if self._everything or not self._is_fine(each))
