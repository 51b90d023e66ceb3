"""Where the bundles lie that come with Edgeward."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edgeward.kernel.errors import ConfigError


def shipped_bundle(name: str) -> Path:
    """The file of the shipped bundle ``name``; ``ConfigError`` when Edgeward ships none of that name."""
    path = Path(str(resources.files("edgeward.bundle"))) / "shipped" / f"{name}.ewb"
    if not path.is_file():
        raise ConfigError("bundle-not-shipped", f"Edgeward ships no bundle {name!r}; name one with --bundle")
    return path
