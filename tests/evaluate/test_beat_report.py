"""The EC57 tables: gross, average, paced records, text and JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeward.evaluate.beat_report import BeatReport, RecordResult, align, percent
from edgeward.evaluate.ec57 import Confusion


def _counts(**cells: int) -> Confusion:
    counts = np.zeros((6, 6), dtype=np.int64)
    for name, value in cells.items():
        counts["NSVFQO".index(name[0]), "nsvfqo".index(name[1])] = value
    return Confusion(counts)


REPORT = BeatReport(
    (
        RecordResult("100", _counts(Nn=90, Vv=8, Vn=2, Ss=1, Sn=1, On=1), paced=False),
        RecordResult("101", _counts(Nn=96, No=4, Nv=2), paced=False, withheld=3),
        RecordResult("102", _counts(Qq=50, Vn=50), paced=True),
    ),
    draws=50,
)


def test_gross_pools_beats_and_average_weighs_records_alike() -> None:
    """The two figures of EC57 differ where records differ in size; the average leaves out undefined figures."""
    qrs = REPORT.gross("qrs")
    assert (qrs.tp, qrs.fn, qrs.fp) == (102 + 98 + 100, 4, 1)
    assert REPORT.average("qrs")["se"] == pytest.approx((1 + 98 / 102 + 1) / 3)
    assert REPORT.average("veb")["se"] == pytest.approx(0.8)  # record 101 has no VEB
    assert REPORT.average("veb")["ppv"] == pytest.approx((1.0 + 0.0) / 2)


def test_paced_records_count_for_qrs_only() -> None:
    """The missed VEBs of the paced record stand in no VEB figure."""
    assert [r.record for r in REPORT.members("veb")] == ["100", "101"]
    assert REPORT.gross("veb").se == pytest.approx(0.8)
    assert len(REPORT.members("qrs")) == 3


def test_json_holds_what_readers_rely_on() -> None:
    """qrs, sveb and veb each have se, ppv, fpr, ci, gross and average; records lists every record."""
    got = json.loads(json.dumps(REPORT.to_json(), allow_nan=False))
    for measure in ("qrs", "sveb", "veb"):
        part = got[measure]
        assert {"se", "ppv", "fpr", "ci", "gross", "average"} <= part.keys()
        assert set(part["ci"]) == {"se", "ppv", "fpr"}
        assert part["se"] == part["gross"]["se"]
    assert got["qrs"]["fpr"] is None
    assert got["veb"]["se"] == pytest.approx(0.8)
    assert got["sveb"]["gross"]["tp"] == 1
    assert len(got["veb"]["ci"]["se"]) == 2
    assert got["paced"] == ["102"]
    assert [r["record"] for r in got["records"]] == ["100", "101", "102"]
    assert got["records"][2]["veb"] is None
    assert got["records"][1]["withheld"] == 3
    assert got["qrs"]["gross_without_paced"]["tp"] == 200


def test_text_names_every_record_and_the_paced_ones() -> None:
    """The tables can be read without the JSON."""
    text = REPORT.to_text()
    assert "Paced records, in the QRS figures only: 102" in text
    lines = text.splitlines()
    assert lines[0].split() == [
        "record",
        "beats",
        "QRS",
        "Se",
        "QRS",
        "+P",
        "SVEB",
        "Se",
        "+P",
        "FPR",
        "VEB",
        "Se",
        "+P",
        "FPR",
    ]
    assert lines[1].split()[:4] == ["100", "102", "100.00", "99.03"]
    assert any(line.startswith("VEB") and "80.00" in line for line in lines)


def test_an_empty_report_is_no_crash() -> None:
    """No record gives no figure."""
    empty = BeatReport(())
    assert empty.to_json()["veb"]["se"] is None
    assert "VEB" in empty.to_text()


def test_columns_are_aligned() -> None:
    """The first column to the left, the others to the right."""
    assert align([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc   d"
    assert (percent(None), percent(0.98765)) == ("-", "98.77")
