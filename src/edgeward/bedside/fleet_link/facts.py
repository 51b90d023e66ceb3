"""What a device is and how much room it has, read from the machine itself and from nothing that its vendor claims.

An accelerator counts only where all of it is there: the runtime's own library, what that library needs, and the
device's file. Nothing is imported for the question: ONNX Runtime would cost the rim some thirty megabytes.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import edgeward
from edgeward.exchange.checkin import Facts
from edgeward.exchange.words import Accelerator, Machine
from edgeward.kernel.limits import BEDS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

_MIB = 1 << 20
_INTEL = "0x8086"
_MACHINES = {"x86_64": Machine.X86_64, "amd64": Machine.X86_64, "aarch64": Machine.AARCH64, "arm64": Machine.AARCH64}
_NVIDIA = ("nvidia0", "nvhost-gpu", "nvmap")
"""Device files of NVIDIA's cards, and of its Jetson boards."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the machine tells of itself; another root in tests."""

    proc: Path = Path("/proc")
    dev: Path = Path("/dev")
    sys: Path = Path("/sys")


def facts_of(folder: Path, beds: int, places: Places | None = None) -> Facts:
    """The inventory; ``folder``: on the disk where bundles are kept. What cannot be found out is 0 or OTHER."""
    places = places or Places()
    return Facts(
        machine=_MACHINES.get(platform.machine().lower(), Machine.OTHER),
        accelerator=accelerator(places, _package),
        cores=min(max(os.cpu_count() or 1, 1), 4_096),
        memory_mib=_memory_mib(places),
        disk_mib=_disk_mib(folder)[0],
        beds=min(beds, BEDS_MAX),
        software=_version(edgeward.__version__),
    )


def free_mib(folder: Path) -> int:
    """What may still be written where bundles are kept, in MiB; 0 where nobody can tell."""
    return _disk_mib(folder)[1]


def accelerator(places: Places, find: Callable[[str], Path | None]) -> Accelerator:
    """What models can run on beside the processor; ``find``: a package's folder, None where there is none."""
    runtime = find("onnxruntime")
    nvidia = any((places.dev / name).exists() for name in _NVIDIA)
    if runtime is not None and nvidia:
        if _has(runtime, "tensorrt") and find("tensorrt") is not None:
            return Accelerator.TENSORRT
        if _has(runtime, "cuda"):
            return Accelerator.CUDA
    if _intel(places) and (find("openvino") is not None or (runtime is not None and _has(runtime, "openvino"))):
        return Accelerator.OPENVINO
    return Accelerator.NONE


def _has(runtime: Path, provider: str) -> bool:
    return (runtime / "capi" / f"libonnxruntime_providers_{provider}.so").exists()


def _intel(places: Places) -> bool:
    """A graphics or neural unit by Intel: the only ones that OpenVINO drives beside processors."""
    vendors = [*places.sys.glob("class/drm/renderD*/device/vendor"), *places.sys.glob("class/accel/*/device/vendor")]
    return any(_text(path).strip() == _INTEL for path in vendors)


def _package(name: str) -> Path | None:
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found is not None and found.origin else None


def _memory_mib(places: Places) -> int:
    found = re.search(r"^MemTotal:\s+(\d+) kB$", _text(places.proc / "meminfo"), re.MULTILINE)
    return int(found[1]) >> 10 if found else 0


def _disk_mib(folder: Path) -> tuple[int, int]:
    """The disk's size, and what an ordinary user may still write."""
    try:
        stat = os.statvfs(folder)
    except OSError:
        return 0, 0
    return stat.f_blocks * stat.f_frsize // _MIB, stat.f_bavail * stat.f_frsize // _MIB


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except OSError:
        return ""


def _version(text: str) -> str:
    found = re.match(r"\d{1,6}\.\d{1,6}\.\d{1,6}", text)
    return found[0] if found else "0.0.0"
