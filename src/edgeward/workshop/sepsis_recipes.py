"""The three forests of a sepsis bundle: the model, vital signs alone, and the plain baseline that it must beat."""

from __future__ import annotations

from edgeward.signal.stay_channels import CHANNELS, VITALS
from edgeward.signal.stay_features import NAMES
from edgeward.workshop.sepsis_train import Part, Recipe

_VITAL_WORDS = frozenset(
    {"map_any", "shock_index", "pulse_pressure", "temp_off", "hours_in", "hours_before", "age_y", "male"}
    | {channel.name for channel in VITALS}
)
VITAL_NAMES: tuple[str, ...] = tuple(name for name in NAMES if name.split(".")[0] in _VITAL_WORDS)
"""Features that need nothing but a monitor and who the patient is."""
LAST_NAMES: tuple[str, ...] = (*(f"{channel.name}.last" for channel in CHANNELS), "hours_in", "age_y", "male")
"""The newest values alone."""

FULL = Recipe("full", NAMES, parts=(Part("gain"), Part("gain", 600, 0.06, random_thresholds=True), Part("label")))
VITALS_ONLY = Recipe("vitals", VITAL_NAMES, parts=(Part("gain"), Part("label")), feature_share=0.25)
BASELINE = Recipe(
    "baseline",
    LAST_NAMES,
    parts=(Part(rounds=150),),
    leaves=31,
    rows_in_leaf_min=20,
    feature_share=1.0,
    row_share=1.0,
    l2=0.0,
    bins=255,
    well_share=1.0,
)
"""The library as it comes, but for a learning rate of 0.05 and 150 rounds."""
RECIPES = (FULL, VITALS_ONLY, BASELINE)
