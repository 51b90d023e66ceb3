"""What leaves a bed: each effect as a kind and a plain object, the same for the page and the JSON lines.

No message holds a patient's name or number: a bed has none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.effects import AdvisoryChanged, BeatFound, QualityChanged, RateChanged, WaveReady
from edgeward.bedside.verdict import Verdict
from edgeward.kernel.clock import NS_PER_MS

if TYPE_CHECKING:
    from edgeward.bedside.decide import Advisory
    from edgeward.bedside.effects import Effect
    from edgeward.bedside.fallback import Banner
    from edgeward.bedside.feed import Message as Message


def message_of(effect: Effect) -> Message | None:
    """The message of an effect; None for those that stay inside the device."""
    match effect:
        case Verdict():
            return "beat", _verdict(effect)
        case RateChanged(bpm):
            return message_of_rate(bpm)
        case QualityChanged(leads):
            return "quality", {"leads": {name: flag.value if flag else "ok" for name, flag in leads.items()}}
        case AdvisoryChanged(advisory):
            return "advisory", _advisory(advisory)
        case WaveReady(index, samples, usable):
            micro = np.rint(samples * 1000.0).astype(int)
            return "wave", {"i": index, "v": micro.tolist(), "bad": (~usable.any(axis=1)).tolist()}
        case BeatFound(index):
            return "qrs", {"i": index}
        case _:
            return None


def message_of_rate(bpm: int | None) -> Message:
    """The heart rate in beats per minute, None when it is not known."""
    return "rate", {"hr_bpm": bpm, "age_ms": 0}


def mode_message(banner: Banner, now_ns: int) -> Message:
    """The mode banner: which rung, why, and for how long."""
    return "mode", {
        "mode": banner.mode.value,
        "reason": banner.reason.value if banner.reason else "",
        "since_ms": (now_ns - banner.since_ns) // NS_PER_MS,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "i": verdict.index,
        "cls": verdict.beat_class.name if verdict.beat_class is not None else "?",
        "probability": round(verdict.probability, 4) if verdict.probability is not None else None,
        "rr_ms": verdict.rr_ms,
        "verdict": verdict.outcome.value,
        "why": verdict.reason.value if verdict.reason else "",
        "latency_us": verdict.latency_ns // 1000,
    }


def _advisory(advisory: Advisory) -> dict[str, Any]:
    return {
        "id": f"{advisory.code}-{advisory.raised_index}",
        "code": advisory.code,
        "text": advisory.text,
        "priority": advisory.priority.value,
        "raised_ms_ago": 0,
        "active": advisory.active,
    }
