"""The words that devices and the fleet share: states of an update, why one failed, what a device is."""

from __future__ import annotations

from enum import StrEnum


class UpdateState(StrEnum):
    """Where a family's update stands on one device.

    ::

        IDLE → OFFERED → DOWNLOADING → VERIFIED → STAGED → (safe moment) ACTIVATED → SOAKING → COMMITTED
                 ╰──────────┴────────────┴──────────┴─→ FAILED      ╰──────────┴─→ ROLLED_BACK
    """

    IDLE = "idle"
    OFFERED = "offered"
    """Signed metadata name a bundle that this device shall take; it waits for its window, its room or its turn."""
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    """The whole file is here and its hash is the signed one."""
    STAGED = "staged"
    """In the inactive slot; golden vectors, latency and memory hold; it runs beside the current one as a shadow."""
    ACTIVATED = "activated"
    """It was put in charge at a safe moment; the one before stays warm."""
    SOAKING = "soaking"
    """It serves and is watched."""
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    """It served, and the one before serves again."""
    FAILED = "failed"
    """It never served; the one in use never stopped."""


UPDATE_ENDS = frozenset({UpdateState.COMMITTED, UpdateState.ROLLED_BACK, UpdateState.FAILED})


class Why(StrEnum):
    """Why an update did not end in COMMITTED, or what it waits for. Words of this list alone leave a device."""

    OTHER = "other"
    """Something that has no word here; the device's own log says what."""
    # it waits
    WINDOW_CLOSED = "window-closed"
    BED_IN_USE = "bed-in-use"
    NO_INPUT = "no-input"
    """The shadow has nothing to be compared on."""
    UNREACHABLE = "repository-unreachable"
    # trust
    NOT_SIGNED = "not-signed"
    """What was ordered is not what signed metadata name."""
    TRUST = "trust-refused"
    CLOCK = "clock-wrong"
    DOWNLOAD_HASH = "download-hash"
    DELTA_UNFIT = "delta-unfit"
    # the device
    DISK_FULL = "disk-full"
    DISK_ERROR = "disk-error"
    BUNDLE_REFUSED = "bundle-refused"
    BUNDLE_OLDER = "bundle-older"
    REFUSED_BEFORE = "refused-before"
    # the health gate
    GOLDEN_FAILED = "golden-failed"
    TOO_SLOW = "trial-too-slow"
    MEMORY = "trial-memory"
    TRIAL_CRASHED = "trial-crashed"
    SHADOW_DISAGREES = "shadow-disagrees"
    SHADOW_FAILED = "shadow-failed"
    NO_SAFE_MOMENT = "no-safe-moment"
    SOAK_FAILED = "soak-failed"
    # ends by other hands
    WITHDRAWN = "withdrawn"
    INTERRUPTED = "interrupted"
    """Cut short by reboots more often than is allowed."""


class Rung(StrEnum):
    """Which intelligence stands beside the patients, as ``bedside.fallback`` names it.

    Its NOT_ASKED is one stay's and never leaves the device.
    """

    LOCAL = "LOCAL"
    LOCAL_PREVIOUS = "LOCAL_PREVIOUS"
    CLOUD = "CLOUD"
    THRESHOLD_ONLY = "THRESHOLD_ONLY"
    NO_AI = "NO_AI"


class Machine(StrEnum):
    """A processor's architecture."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    OTHER = "other"


class Accelerator(StrEnum):
    """What a device can run models on beside its processor."""

    NONE = "none"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"
    OTHER = "other"
