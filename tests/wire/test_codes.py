"""Codes mean a kind only where code and name agree, and a site's own table comes first."""

from __future__ import annotations

import contextlib
import csv
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.numeric import Kind
from edgeward.wire.codes import CodeTable, site_codes

if TYPE_CHECKING:
    from pathlib import Path

TABLE = CodeTable()


def _code(code: str, name: str) -> str | None:
    try:
        TABLE.look_up("MDC", code, name)
    except InputError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("system", "code", "name", "kind"),
    [
        ("MDC", "147842", "MDC_ECG_HEART_RATE", Kind.HR),
        ("MDC", "147842", "MDC_ECG_CARD_BEAT_RATE", Kind.HR),
        ("MDC", "147842", "", Kind.HR),
        ("", "147842", "MDC_ECG_HEART_RATE", Kind.HR),
        ("MDC", "2::16770", "MDC_ECG_HEART_RATE", Kind.HR),
        ("MDIL", "0002-4182", "HR", Kind.HR),
        ("MDIL", "0002-4182", "HR_Pulse", Kind.HR),
        ("MDIL", "0002-4bb8", "SpO2", Kind.SPO2),
        ("MDIL", "0002-4a05", "NBPs", Kind.NIBP_SYS),
        ("MDIL", "0002-4a15", "ABPs", Kind.ABP_SYS),
        ("MDC", "149530", "MDC_PULS_OXIM_PULS_RATE", Kind.PULSE),
        ("MDC", "150021", "MDC_PRESS_BLD_NONINV_SYS", Kind.NIBP_SYS),
        ("MDC", "150301", "MDC_PRESS_CUFF_SYS", Kind.NIBP_SYS),
        ("MDC", "150303", "MDC_PRESS_CUFF_MEAN", Kind.NIBP_MEAN),
        ("MDC", "150033", "MDC_PRESS_BLD_ART_SYS", Kind.ABP_SYS),
        ("MDC", "150344", "MDC_TEMP", Kind.TEMP),
        ("LN", "8867-4", "Heart rate", Kind.HR),
        ("LOINC", "59408-5", "", Kind.SPO2),
        ("LN", "2345-7", "Glucose [Mass/volume] in Serum or Plasma", Kind.GLUCOSE),
        ("MDC", "69965", "MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS", None),
        ("MDC", "150388", "MDC_TEMP_SKIN", None),
    ],
)
def test_codes_of_the_field(system: str, code: str, name: str, kind: Kind | None) -> None:
    """Context-free, partition-relative and hexadecimal MDC codes and LOINC find their kind."""
    assert TABLE.look_up(system, code, name).kind is kind


@pytest.mark.parametrize(
    ("system", "code", "name", "why"),
    [
        ("MDC", "150456", "CO2", "code-name-mismatch"),
        ("MDC", "150031", "MDC_PRESS_CUFF_SYS", "code-name-mismatch"),
        ("MDC", "150017", "MDC_PRESS_BLD_NONINV_SYS", "code-name-mismatch"),
        ("MDC", "1", "MDC_ECG_HEART_RATE", "code-unknown"),
        ("LN", "3094-0", "Urea", "code-name-mismatch"),
        ("MDC", "192884", "", "code-name-mismatch"),
        ("99MNDRY", "108", "MNDRY_ECG_PAUSE_RATE", "code-unknown"),
        ("99COMEN", "150456", "SpO2", "code-unknown"),
        ("", "101", "HR", "code-unknown"),
        ("MDC", "", "MDC_ECG_HEART_RATE", "code-missing"),
        ("MDC", "9" * 300, "", "code-unknown"),
    ],
)
def test_what_does_not_agree_is_refused(system: str, code: str, name: str, why: str) -> None:
    """Under another's name, a maker's private code without a name, a local code without a line: none is guessed."""
    with pytest.raises(InputError) as refused:
        TABLE.look_up(system, code, name)
    assert refused.value.code == why


def test_a_site_adds_codes_and_names_what_is_meant() -> None:
    """A line with a name goes before one without; both before what is built in."""
    rows = [
        {"code": "101", "name": "HR", "kind": "hr", "unit": "bpm"},
        {"system": "99MNDRY", "code": "108", "kind": "ignore"},
        {"system": "MDC", "code": "150017", "name": "MDC_PRESS_BLD_NONINV_SYS", "kind": "nibp_sys"},
        {"system": "MDC", "code": "150388", "kind": "temp"},
    ]
    table = CodeTable(site_codes(rows))
    heart = table.look_up("", "101", "HR")
    assert (heart.kind, heart.unit) == (Kind.HR, "bpm")
    with pytest.raises(InputError):
        table.look_up("", "101", "RR")
    assert table.look_up("99MNDRY", "108", "anything").kind is None
    assert table.look_up("MDC", "150017", "MDC_PRESS_BLD_NONINV_SYS").kind is Kind.NIBP_SYS
    assert table.look_up("MDC", "150017", "MDC_PRESS_BLD_SYS").kind is None
    assert table.look_up("MDC", "150388", "MDC_TEMP_SKIN").kind is Kind.TEMP
    assert table.look_up("MDC", "150456", "SpO2").kind is Kind.SPO2


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"code": "1"}, "needed"),
        ({"kind": "hr"}, "needed"),
        ({"code": "1", "kind": "pulse_rate"}, "no kind"),
        ({"code": "1", "kind": "hr", "unit": "mmHg"}, "no unit"),
        ({"code": "1", "kind": "hr", "unit": "smoots"}, "no unit"),
        ({"code": "1", "kind": "ignore", "unit": "bpm"}, "needs no unit"),
        ({"code": "1", "kind": "hr", "units": "bpm"}, "unknown"),
        ({"code": 101, "kind": "hr"}, "text"),
        ({"code": "x" * 300, "kind": "hr"}, "text"),
    ],
)
def test_a_wrong_line_is_refused(row: dict[str, object], word: str) -> None:
    """A misspelt line at a bedside must not be ignored."""
    with pytest.raises(ConfigError, match=word) as refused:
        site_codes([row])
    assert refused.value.code == "codes-invalid"


def test_a_line_said_twice_is_refused() -> None:
    """Of two lines for one code and name neither may win silently."""
    row = {"system": "99X", "code": "1", "kind": "hr"}
    with pytest.raises(ConfigError, match="row 2"):
        site_codes([row, {**row, "system": "99x", "kind": "rr"}])


def test_reference_ids_and_terms_are_those_of_openice(shared_data: Path) -> None:
    """Where OpenICE lists a reference id, our code for it is that of OpenICE."""
    path = shared_data / "nomenclature" / "openice_intellivue_terms.csv"
    if not path.is_file():
        pytest.skip("REAL DATA ABSENT: no nomenclature/ in the data folder")
    with path.open(newline="") as stream:
        theirs = {row["refid"]: row["cf_code_if_partition_2_scada"] for row in csv.DictReader(stream)}
    agree = {refid for refid, code in theirs.items() if _code(code, refid) is None}
    assert len(agree) > 100
    # 150344 is MDC_TEMP: under the name of a setting it is refused.
    assert [refid for refid, code in theirs.items() if _code(code, refid) == "code-name-mismatch"] == ["MDC_SETT_TEMP"]


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_looked_up_or_refused(system: str, code: str, name: str) -> None:
    """No code crashes the table."""
    with contextlib.suppress(InputError):
        TABLE.look_up(system, code, name)
