"""The manifest: typed and strict."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bundle.archive import read_bundle
from edgeward.bundle.manifest import Manifest, is_member_name
from edgeward.cli.shipped import shipped_bundle
from edgeward.kernel.errors import BundleError
from edgeward.testing.repository import tiny_bundle

GOOD = read_bundle(tiny_bundle()).manifest


def with_field(path: str, value: Any) -> bytes:
    """The good manifest with one field changed; ``path`` is dotted, numbers are list indices."""
    data = json.loads(GOOD.to_json())
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    place: Any = data
    for parent in parents:
        place = place[parent]
    place[last] = value
    return json.dumps(data).encode()


def refusal(raw: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(raw)
    return caught.value.code


def test_manifest_reads_back() -> None:
    """JSON and back is the same manifest, and its bytes are canonical."""
    assert Manifest.from_json(GOOD.to_json()) == GOOD
    assert Manifest.from_json(GOOD.to_json()).to_json() == GOOD.to_json()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "Ecg Beat"),
        ("name", "../evil"),
        ("version", "1.0"),
        ("version", "01.0.0"),
        ("version", "1.0.0-rc1"),
        ("task", "rm-rf"),
        ("preprocessing", "os.system"),
        ("deadline_ms", 0),
        ("deadline_ms", -1.0),
        ("deadline_ms", 1e9),
        ("deadline_ms", float("nan")),
        ("models", []),
        ("inputs", []),
        ("outputs", []),
        ("inputs.0.shape", []),
        ("inputs.0.shape", [1, 2]),
        ("inputs.0.shape", [-1, 0]),
        ("inputs.0.shape", [-1, -1]),
        ("inputs.0.shape", [-1, 1 << 40]),
        ("inputs.0.dtype", "object"),
        ("inputs.0.unit", "µV"),
        ("models.0.backend", "subprocess"),
        ("models.0.precision", "fp64"),
        ("models.0.member", "elsewhere.onnx"),
        ("default_model", "int8"),
        ("golden.tolerance", {}),
        ("golden.tolerance", {"fp32": float("nan")}),
        ("golden.tolerance", {"fp32": -1e-3}),
        ("golden.tolerance", {"fp32": 1.0}),
        ("golden.count", -1),
        ("golden.count", 257),
        ("decision", 5),
        ("preprocessing_params", []),
        ("inputs.0.name", 7),
        ("golden.member", "elsewhere.npz"),
        ("hashes", {}),
        ("hashes.manifest.json", "0" * 64),
    ],
)
def test_field_off_the_allow_list_is_refused(path: str, value: Any) -> None:
    """Each field that does not hold is refused and named."""
    if path == "hashes.manifest.json":
        data = json.loads(GOOD.to_json())
        data["hashes"]["manifest.json"] = value
        raw = json.dumps(data).encode()
    else:
        raw = with_field(path, value)
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(raw)
    assert caught.value.code == "manifest-field"
    assert "bundle is refused" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "manifest-not-json"),
        (b"{", "manifest-not-json"),
        (b"\xff", "manifest-not-json"),
        (b"[]", "manifest-not-json"),
        (b"[" * 100_000, "manifest-not-json"),
        (b"{}", "manifest-schema"),
        (b'{"schema": 2}', "manifest-schema"),
        (b'{"schema": 1}', "manifest-malformed"),
        (b" " * ((1 << 20) + 1), "manifest-too-large"),
    ],
)
def test_bytes_that_are_no_manifest_are_refused(raw: bytes, code: str) -> None:
    """Anything else than a manifest is refused by its own code."""
    assert refusal(raw) == code


@pytest.mark.parametrize("path", ["classes", "licences"])
@pytest.mark.parametrize("value", ["NSVFQ", [1], None, {"N": 1}])
def test_list_of_words_that_is_none_is_refused(path: str, value: Any) -> None:
    """A word is not a list of its letters."""
    assert refusal(with_field(path, value)) == "manifest-malformed"


@pytest.mark.parametrize("path", ["surprise", "inputs.0.surprise", "models.0.import", "golden.pickle"])
def test_unknown_field_is_refused(path: str) -> None:
    """A field that is not on the list is manifest-malformed."""
    assert refusal(with_field(path, "x")) == "manifest-malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(field=st.sampled_from(sorted(json.loads(GOOD.to_json()))), value=JSON)
def test_field_of_any_other_type_is_refused_or_harmless(field: str, value: Any) -> None:
    """Whatever JSON stands in a field, reading gives a manifest or a BundleError, never another exception."""
    try:
        manifest = Manifest.from_json(with_field(field, value))
    except BundleError:
        return
    assert manifest.name == GOOD.name or field == "name"


@given(part=st.sampled_from(["inputs.0", "outputs.0", "models.0"]), data=st.data())
def test_inner_field_of_any_other_type_is_refused_or_harmless(part: str, data: st.DataObject) -> None:
    """The same for the fields of tensors and models."""
    holder = json.loads(GOOD.to_json())[part[:-2]][0]
    field = data.draw(st.sampled_from(sorted(holder)))
    try:
        Manifest.from_json(with_field(f"{part}.{field}", data.draw(JSON)))
    except BundleError:
        return


def test_a_bundle_for_features_of_an_earlier_version_says_so() -> None:
    """A model of 1.0 would be fed features it has not learnt: refused, and the operator is told what to install."""
    with pytest.raises(BundleError, match="built for this version") as caught:
        Manifest.from_json(with_field("preprocessing", "beat-window-1"))
    assert caught.value.code == "preprocessing-former"


@pytest.mark.parametrize("name", ["model.onnx", "a/b", "0", "x_y-z.1"])
def test_plain_member_names_are_taken(name: str) -> None:
    """Lower case, at most one folder."""
    assert is_member_name(name)


def test_the_shipped_bundle_keeps_its_bytes() -> None:
    """A bundle packed by an older Edgeward reads, and writes the same manifest again."""
    bundle = read_bundle(shipped_bundle("ecg-beat").read_bytes())
    assert b'"missing"' not in bundle.manifest.to_json()
    told = replace(
        bundle.manifest, inputs=(replace(bundle.manifest.inputs[0], missing=True), *bundle.manifest.inputs[1:])
    )
    assert Manifest.from_json(told.to_json()).inputs[0].missing
