"""Plain words for the codes that the pipeline publishes, so that page, server-rendered text and state.json agree."""

from __future__ import annotations

_MODES = {
    "LOCAL": "AI local",
    "LOCAL_PREVIOUS": "AI local — previous bundle",
    "CLOUD": "AI remote",
    "THRESHOLD_ONLY": "Threshold only",
    "NO_AI": "No AI",
}
_REASONS = {
    "bad_output": "the AI gave output that cannot be right",
    "bad_scores": "the AI gave output that cannot be right",
    "budget": "the AI answered too late",
    "crashed": "the AI stopped",
    "dwell": "the AI is back and on probation",
    "engine_bad_output": "the AI gave output that cannot be right",
    "engine_crashed": "the AI stopped",
    "engine_hung": "the AI does not answer",
    "engine_not_ready": "the AI is starting",
    "flat": "the signal is flat",
    "gap": "samples are missing",
    "golden_failed": "the AI failed its self-test",
    "hung": "the AI does not answer",
    "late": "the AI answered too late",
    "lead_off": "a lead is off",
    "low_pressure": "the pressure is low already",
    "no_bundle": "no bundle is installed",
    "no_input": "no valid signal",
    "no_valid_inputs": "no valid signal",
    "noise": "the signal is too noisy",
    "not_ready": "the AI is starting",
    "probation": "the AI is back and on probation",
    "saturated": "the signal is off scale",
    "source_lost": "no signal from the monitor",
    "starting": "the AI is starting",
    "update": "the bundle is being replaced",
}


def mode_title(mode: str) -> str:
    """Few big words for a rung of the fallback ladder; an unknown rung is shown as it is named, never as "AI local"."""
    return _MODES.get(mode, mode.replace("_", " ").capitalize())


def reason_words(reason: str) -> str:
    """Plain words for a reason code; a sentence that is no known code is shown as it stands."""
    return _REASONS.get(reason.strip().lower().replace("-", "_"), reason.replace("_", " ").strip())


def age_words(age_ms: float) -> str:
    """An age for a reader at three metres: ``5 s``, ``2 min``, ``3 h``."""
    seconds = max(0, int(age_ms // 1000))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
