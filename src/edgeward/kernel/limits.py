"""Every ceiling of Edgeward, with the relations between them asserted at import.

A limit stands here, and only here, so that a reader can see at one place what a device can be made to hold or wait for.
"""

from __future__ import annotations

# --- waves
MODEL_RATE_HZ = 250
"""Rate of every ECG inside Edgeward after resampling; one sample period is the ECG budget."""
RATE_HZ_MIN = 100.0
"""Below this an R peak spans too few samples to be timed within the ±10 ms that RR features need."""
RATE_HZ_MAX = 10_000.0
LEADS_MAX = 16
BLOCK_SAMPLES_MAX = 65_536
"""Samples of one lead in one block from a source."""
ECG_ABS_MAX_MV = 50.0
"""Beyond it the unit or gain is wrong: a surface ECG stays within ±5 mV (IEC 60601-2-27)."""
RING_S = 12
"""Seconds of recent samples that a bed keeps."""

# --- beds
BEDS_MAX = 64
"""Beds that one device serves."""

# --- latency
ECG_BUDGET_MS = 4.0
"""From the last sample of a window to its scores."""
ENGINE_HANG_MS = 200
"""An engine silent for this long is taken for hung, killed and replaced."""
CANDIDATE_HANG_MS = 5_000
"""The same of one in its trial or in the shadow: nobody waits for it, and a busy device is not its fault."""
ENGINE_IDLE_MS = 400
"""An engine that nobody has asked for this long is asked for a golden vector."""
ENGINE_LOOK_MS = 100
"""How often an engine is looked after, asked or not."""
NOTICE_MS_MAX = 1_000
"""A failure is shown within this time."""

# --- bundle
BUNDLE_BYTES_MAX = 1 << 30
BUNDLE_MEMBERS_MAX = 64
MANIFEST_BYTES_MAX = 1 << 20
GOLDEN_VECTORS_MAX = 256

# --- delta: none of these is a delta's own choice, so a hostile one costs no more than an honest one
DELTA_STEPS_MAX = 1 << 16
"""Steps of one delta: copies, literals and tensors; a network has about two for each tensor."""
DELTA_PLAN_BYTES_MAX = 1 << 20
"""The steps and the directory of runs, unpacked."""
DELTA_DICTIONARY_BYTES = 8 << 20
"""LZMA's dictionary for literals: what unpacking holds, whatever the delta says."""
DELTA_BLOCK_BYTES = 1 << 18
"""Bytes that a device reads, unpacks or writes at a time."""
DELTA_RUN_SYMBOLS = 1 << 24
"""Tensor elements that share one set of frequencies."""
DELTA_LANES_MAX = 2_048
"""Coder states that advance together; a run of full length takes 8,192 turns."""
DELTA_LANE_SYMBOLS = 4_096
"""Elements of one lane in a run that is too short to use every lane."""

# --- HL7v2
HL7_MESSAGE_BYTES_MAX = 1 << 20
"""One message; twelve leads of one second as text are a tenth of it."""
HL7_JOINED_MAX = 256
"""Messages that a sender joined in one MLLP block."""
HL7_SEGMENTS_MAX = 4_096
HL7_FIELDS_MAX = 512
"""Fields of one HL7 segment; the longest that the standard defines has under sixty."""
HL7_IDENTIFIERS_MAX = 32
"""Identifiers of one patient in one message."""
HL7_PATIENTS_MAX = 64
"""Patients in one message: as many as a device has beds."""
HL7_WAVE_SAMPLES_MAX = 65_536
CODE_CHARS_MAX = 256
"""A code, its system or its name."""
SITE_CODES_MAX = 4_096
"""Lines of a site's table of codes."""

# --- trust
METADATA_BYTES_MAX = 5 << 20

assert 1000.0 / MODEL_RATE_HZ == ECG_BUDGET_MS, "the ECG budget is one sample period"
assert RATE_HZ_MIN < MODEL_RATE_HZ < RATE_HZ_MAX
assert ECG_BUDGET_MS < ENGINE_HANG_MS < NOTICE_MS_MAX
assert 2 * ENGINE_LOOK_MS <= ENGINE_HANG_MS, "an engine has two looks' time to answer"
assert ENGINE_IDLE_MS + ENGINE_HANG_MS + 3 * ENGINE_LOOK_MS < NOTICE_MS_MAX, "a hung idle engine is noticed in time"
assert MANIFEST_BYTES_MAX < BUNDLE_BYTES_MAX
assert DELTA_LANES_MAX * DELTA_LANE_SYMBOLS <= DELTA_RUN_SYMBOLS, "a full run uses every lane"
assert DELTA_PLAN_BYTES_MAX >= 15 * DELTA_STEPS_MAX, "a plan holds as many steps as it may name"
