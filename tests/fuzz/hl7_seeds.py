"""Synthetic messages, each shaped like those of one kind of gateway or monitor; the odd things in them are real."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("seeds") / "hl7"


def names() -> list[str]:
    """Every seed, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.hl7"))


def seed(name: str) -> bytes:
    """One message as a gateway sends it: segments end with CR. The files have line feeds, to be readable."""
    return (FOLDER / f"{name}.hl7").read_bytes().replace(b"\n", b"\r")
