"""The sepsis model's recipes, small enough for a test."""

from __future__ import annotations

from dataclasses import replace

from edgeward.workshop.sepsis_recipes import RECIPES

SMALL = tuple(
    replace(
        recipe,
        parts=tuple(replace(part, rounds=25) for part in recipe.parts),
        leaves=6,
        rows_in_leaf_min=10,
        l2=1.0,
        well_share=0.9,
    )
    for recipe in RECIPES
)
