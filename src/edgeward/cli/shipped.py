"""Where the bundles lie that come with Edgeward."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edgeward.kernel.errors import ConfigError

_FOLDER = Path(str(resources.files("edgeward.bundle"))) / "shipped"


def shipped_names() -> list[str]:
    """The names of the bundles that come with Edgeward."""
    return sorted(path.stem for path in _FOLDER.glob("*.ewb"))


def shipped_bundle(name: str) -> Path:
    """The file of the shipped bundle ``name``; ``ConfigError`` when Edgeward ships none of that name."""
    path = _FOLDER / f"{name}.ewb"
    if not path.is_file():
        raise ConfigError("bundle-not-shipped", f"Edgeward ships no bundle {name!r}; name one with --bundle")
    return path
