"""Members of a sepsis bundle that only evaluation reads.

``BASELINE_MEMBER``: the plain baseline's trees; ``COMPANIONS_MEMBER``: thresholds of what stands beside the model;
``SEEN_MEMBER``: sorted 64-bit fingerprints of the stays that trained it, so that none of them is ever scored.
"""

from __future__ import annotations

BASELINE_MEMBER = "baseline.npz"
COMPANIONS_MEMBER = "companions.json"
SEEN_MEMBER = "seen.npy"
