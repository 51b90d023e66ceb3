"""Plain words for the codes that the pipeline publishes, so that page, server-rendered text and state.json agree."""

from __future__ import annotations

from edgeward.signal.numeric import KINDS, Kind

_MODES = {
    "LOCAL": "AI local",
    "LOCAL_PREVIOUS": "AI local — previous bundle",
    "CLOUD": "AI remote",
    "THRESHOLD_ONLY": "Threshold only",
    "NO_AI": "No AI",
    "NOT_ASKED": "AI not asked",
}
_REASONS = {
    "bad_output": "the AI gave output that cannot be right",
    "bad_scores": "the AI gave output that cannot be right",
    "budget": "the AI answered too late",
    "cloud_down": "the scoring server does not answer",
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
    "population": "the AI is not made for such a patient",
    "probation": "the AI is back and on probation",
    "saturated": "the signal is off scale",
    "source_lost": "no signal from the monitor",
    "stale": "the measurements are too old",
    "starting": "the AI is starting",
    "too_little": "too little is measured",
    "update": "the bundle is being replaced",
}


def mode_title(mode: str) -> str:
    """Few big words for a rung of the fallback ladder; an unknown rung is shown as it is named, never as "AI local"."""
    return _MODES.get(mode, mode.replace("_", " ").capitalize())


def reason_words(reason: str) -> str:
    """Plain words for a reason code; a sentence that is no known code is shown as it stands."""
    return _REASONS.get(reason.strip().lower().replace("-", "_"), reason.replace("_", " ").strip())


def mode_words(mode: str, reason: str) -> str:
    """A mode with its reason; a model that is not asked is no fault, and reads as none."""
    title, why = mode_title(mode), reason_words(reason)
    return f"{title}{': ' if mode == 'NOT_ASKED' else ' — '}{why}" if why else title


def age_words(age_ms: float) -> str:
    """An age for a reader at three metres: ``5 s``, ``2 min``, ``3 h``."""
    seconds = max(0, int(age_ms // 1000))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


_OUTBOX = {
    "disk-error": "the disk fails: what waits would be lost at a restart",
    "disk-full": "the disk is full: what waits would be lost at a restart",
    "hl7-hung-up": "it hangs up",
    "hl7-no-answer": "it does not acknowledge",
    "internal": "the record cannot be sent",
    "set-aside": "the outbox was damaged and begun anew",
    "tls": "the certificates are not accepted",
    "unreachable": "nobody answers",
}


def outbox_words(code: str) -> str:
    """Why something cannot leave for the record; an unknown code is shown as it is."""
    return _OUTBOX.get(code, code)


_UNITS = {"mm[Hg]": "mmHg", "Cel": "°C", "1": "", "10*3/uL": "10³/µL", "L/min": "l/min", "mL": "ml"}
_TASKS = {
    "ecg-beat": ("Heartbeats", "Beats"),
    "sepsis": ("Sepsis risk", "Sepsis"),
    "sepsis-risk": ("Sepsis risk", "Sepsis"),
    "hypotension": ("Low pressure ahead", "Pressure"),
    "deterioration": ("Deterioration risk", "Worsening"),
    "vitals-forecast": ("Forecast", "Forecast"),
}
_PRESSURES = {"abp_mean": "Mean arterial pressure", "nibp_mean": "Mean cuff pressure", "abp_sys": "Systolic pressure"}
_ITEMS = {"spo2": "SpO₂", "oxygen": "Air or oxygen", "systolic": "Systolic pressure"}


def unit_words(unit: str) -> str:
    """A UCUM code as people write it."""
    return _UNITS.get(unit, unit)


def kind_words(kind: str) -> str:
    """A kind of numeric as a sentence names it."""
    return _PRESSURES.get(kind, KINDS[Kind(kind)].label)


def task_words(task: str, *, short: bool = False) -> str:
    """A task's name for people; ``short``: in one word where there is one."""
    unknown = task.replace("_", " ").replace("-", " ").strip().capitalize()
    return _TASKS.get(task, (unknown, unknown))[short]


def item_words(item: str) -> str:
    """An item of NEWS2 for people."""
    return _ITEMS.get(item, item.replace("_", " ").capitalize())
