"""The recipe of one picture: the options of the run, and the rules of every field that names it.

Pure. Both `migrate --optimize` and `reoptimize` make their recipes here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from r2maint.images.recipe import Recipe


class PictureRule(Protocol):
    """What a field asks of its pictures; `conf.FieldRule` is one."""

    @property
    def max_size(self) -> tuple[int, int] | None: ...
    @property
    def max_bytes(self) -> int | None: ...
    @property
    def to(self) -> str: ...


def strictest(
    recipe: Recipe, rules: Sequence[PictureRule], overrides: Collection[str] = ()
) -> Recipe:
    """Return the recipe that satisfies every field's rule, but for what was given by hand."""
    encodings = {rule.to for rule in rules if rule.to}
    if encodings and "to" not in overrides:
        # Where fields disagree, the format that more programs read.
        recipe = replace(recipe, to=encodings.pop() if len(encodings) == 1 else "webp")
    boxes = [rule.max_size for rule in rules if rule.max_size]
    if boxes and "max_size" not in overrides:
        widths, heights = zip(*boxes, *[recipe.max_size] * bool(recipe.max_size), strict=True)
        recipe = replace(recipe, max_size=(min(widths), min(heights)))
    limits = [rule.max_bytes for rule in rules if rule.max_bytes]
    return replace(recipe, max_bytes=min(limits)) if limits else recipe
