"""Size of a device install: a fresh environment with the core dependencies only, listed by package.

python bench/device_size.py [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Install into a fresh environment and measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="make the environment here and leave it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch) / "device"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        python = folder / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", str(ROOT)]
        subprocess.run(pip, check=True)
        (packages,) = (folder / "lib").glob("python3*/site-packages")
        rows = sorted(((size(path), path.name) for path in packages.iterdir()), reverse=True)
        total = sum(bytes_ for bytes_, _ in rows)
        print(f"{total / 1e6:.1f} MB installed (the interpreter itself not counted)")
        for bytes_, name in rows[:12]:
            print(f"  {bytes_ / 1e6:8.1f} MB  {name}")


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


if __name__ == "__main__":
    main()
