"""The archive: same members, same bytes; anything else is refused."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bundle.archive import MANIFEST, hash_members, read_bundle, write_bundle
from edgeward.kernel.errors import BundleError
from edgeward.testing.repository import tiny_bundle

RAW = tiny_bundle()
BUNDLE = read_bundle(RAW)


def packed(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, method)
    return buffer.getvalue()


def members() -> list[tuple[str, bytes]]:
    return [(MANIFEST, BUNDLE.manifest.to_json()), *sorted(BUNDLE.members.items())]


def refusal(raw: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(raw)
    return caught.value.code


def test_bundle_reads_back_what_was_packed() -> None:
    """Packing and reading keep every member, and packing again gives the same bytes."""
    assert write_bundle(BUNDLE.manifest, BUNDLE.members) == RAW
    assert BUNDLE.model_bytes() == BUNDLE.members["model.onnx"]
    assert BUNDLE.golden_bytes() == BUNDLE.members["golden.npz"]
    reordered = dict(reversed(list(BUNDLE.members.items())))
    assert write_bundle(BUNDLE.manifest, reordered) == RAW


def test_unknown_model_is_refused() -> None:
    """Asking for a model that the bundle does not hold is model-unknown."""
    with pytest.raises(BundleError) as caught:
        BUNDLE.model_bytes("int8")
    assert caught.value.code == "model-unknown"


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_bundle_with_any_one_flipped_byte_is_refused(mask: int) -> None:
    """Every single byte of a bundle matters: flip it and the bundle is refused as a BundleError."""
    accepted = []
    for index in range(len(RAW)):
        flipped = RAW[:index] + bytes([RAW[index] ^ mask]) + RAW[index + 1 :]
        try:
            read_bundle(flipped)
        except BundleError:
            continue
        accepted.append(index)
    assert accepted == []


def test_truncated_bundle_is_refused() -> None:
    """Whatever length a bundle is cut to, it is a BundleError."""
    for length in range(len(RAW)):
        refusal(RAW[:length])


@pytest.mark.parametrize("extra", [b"\0", b"PK\5\6" + bytes(18), b"x" * 1000])
def test_bytes_after_or_before_the_archive_are_refused(extra: bytes) -> None:
    """Nothing may hide behind or before the archive."""
    for raw in (RAW + extra, extra + RAW):
        refusal(raw)


@given(st.binary(max_size=2000))
def test_foreign_bytes_are_refused(raw: bytes) -> None:
    """Arbitrary bytes, with or without a bundle's beginning, are a BundleError and nothing else."""
    refusal(raw)
    refusal(RAW[:200] + raw)


def test_archive_that_does_not_begin_with_the_manifest_is_refused() -> None:
    """The manifest is first, so a reader can stop early."""
    assert refusal(packed(list(reversed(members())))) == "bundle-not-archive"
    assert refusal(packed([])) == "bundle-not-archive"


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/b/c", "UPPER", ".hidden", "a..b", "", "a\\b", "manifest"]
)
def test_member_of_another_name_is_refused(name: str) -> None:
    """A name that is not plain, or that the manifest does not list, is bundle-members."""
    assert refusal(packed([*members(), (name, b"x")])) in {"bundle-members", "bundle-not-archive"}


def test_member_twice_missing_or_compressed_is_refused() -> None:
    """Each listed member stands in the archive once, stored."""
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = packed([*members(), members()[-1]])
    assert refusal(twice) == "bundle-members"
    assert refusal(packed(members()[:-1])) == "bundle-members"
    assert refusal(packed(members(), zipfile.ZIP_DEFLATED)) == "bundle-members"


def test_exchanged_member_is_refused() -> None:
    """A well-formed archive whose member is another one is bundle-damaged."""
    exchanged = [(n, b"another model" if n == "model.onnx" else d) for n, d in members()]
    assert refusal(packed(exchanged)) == "bundle-damaged"


def test_too_many_members_are_refused() -> None:
    """More members than the limit are refused before any is read."""
    assert refusal(packed([(f"m{i}", b"") for i in range(65)])) == "bundle-members"


def test_members_that_the_manifest_does_not_hash_are_not_packed() -> None:
    """Packing refuses members that differ from the manifest's hashes."""
    changed = {**BUNDLE.members, "model.onnx": b"another"}
    with pytest.raises(BundleError) as caught:
        write_bundle(BUNDLE.manifest, changed)
    assert caught.value.code == "bundle-hashes"
    assert hash_members(BUNDLE.members) == BUNDLE.manifest.hashes
