"""The recipe of one picture, by the rules of the fields that name it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from r2maint.conf import FieldRule
from r2maint.images import Recipe


def strictest(
    recipe: Recipe, rules: Sequence[FieldRule], overrides: Collection[str] = ()
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
