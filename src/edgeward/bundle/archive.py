"""The bundle file: a deterministic ZIP whose members are stored, not compressed.

Same members → same bytes, on every machine and every day: sorted order with ``manifest.json`` first, one fixed date,
fixed attributes. Stored members keep two versions of a model alike byte for byte, so that a delta stays small
(transport compresses). Only plain members of the allow-listed names are read; every one is checked against the hash
that the manifest gives.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bundle.manifest import Manifest, is_member_name
from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import BUNDLE_BYTES_MAX, BUNDLE_MEMBERS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

SUFFIX = ".ewb"
MANIFEST = "manifest.json"
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle read into memory, every member already checked against its hash."""

    manifest: Manifest
    members: Mapping[str, bytes]
    sha256: str

    def model_bytes(self, key: str | None = None) -> bytes:
        """The model file of ``key`` (default: the manifest's default model)."""
        return self.members[self.manifest.model(key).member]

    def golden_bytes(self) -> bytes:
        """The golden vectors, an ``.npz`` without pickles."""
        return self.members[self.manifest.golden.member]


def hash_members(members: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each member, sorted by name: what ``Manifest.hashes`` holds."""
    return {name: hashlib.sha256(members[name]).hexdigest() for name in sorted(members)}


def write_bundle(manifest: Manifest, members: Mapping[str, bytes]) -> bytes:
    """The archive's bytes. ``members`` are all but the manifest and must be what ``manifest.hashes`` lists.

    Raises ``BundleError`` when the members and the manifest's hashes disagree.
    """
    if hash_members(members) != dict(sorted(manifest.hashes.items())):
        raise BundleError("bundle-hashes", "the members and the manifest's hashes disagree; pack the bundle again")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in (MANIFEST, *sorted(members)):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # Unix on every machine, else the bytes depend on where they were packed
            info.external_attr = 0o644 << 16
            archive.writestr(info, manifest.to_json() if name == MANIFEST else members[name])
    return buffer.getvalue()


def read_bundle(raw: bytes) -> Bundle:
    """Read and check a bundle. ``BundleError`` for anything that is not exactly what the manifest describes."""
    if len(raw) > BUNDLE_BYTES_MAX:
        raise BundleError("bundle-too-large", f"the bundle is larger than {BUNDLE_BYTES_MAX} bytes; refuse it")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            contents = _contents(archive)
    except BundleError:
        raise
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise BundleError("bundle-not-archive", "the file is not a bundle, or it is damaged; fetch it again") from error
    manifest = Manifest.from_json(contents.pop(MANIFEST))
    if set(contents) != set(manifest.hashes):
        raise BundleError(
            "bundle-members", "the archive does not hold exactly the members that its manifest lists; refuse it"
        )
    for name, digest in manifest.hashes.items():
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise BundleError(
                "bundle-damaged", f"member {name} does not match its SHA-256 in the manifest; fetch the bundle again"
            )
    if write_bundle(manifest, contents) != raw:
        raise BundleError(
            "bundle-not-canonical", "bytes beside the listed members were changed; fetch the bundle again"
        )
    return Bundle(manifest, contents, hashlib.sha256(raw).hexdigest())


def _contents(archive: zipfile.ZipFile) -> dict[str, bytes]:
    infos = archive.infolist()
    if len(infos) > BUNDLE_MEMBERS_MAX:
        raise BundleError("bundle-members", f"the archive holds more than {BUNDLE_MEMBERS_MAX} members; refuse it")
    if not infos or infos[0].filename != MANIFEST:
        raise BundleError("bundle-not-archive", "the archive does not begin with manifest.json; it is not a bundle")
    contents: dict[str, bytes] = {}
    for info in infos:
        name = info.filename
        if not is_member_name(name) or name in contents or info.compress_type != zipfile.ZIP_STORED:
            raise BundleError("bundle-members", "the archive holds a member of a refused name or kind; refuse it")
        contents[name] = archive.read(info)
    return contents
