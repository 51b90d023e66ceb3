"""Character sets of HL7 v2 messages: bytes to text, never failing.

MSH-18 names the set (HL7 table 0211); real senders also write the names of Windows and ISO. Nothing that Edgeward uses
lies outside ASCII except, rarely, an identifier. So a message whose bytes are not what MSH-18 says is still read, for
its numbers are sound and a bed must not go dark over a name: it is decoded as Latin-1, which maps each byte to one
character and so can never make two identifiers equal. The reader is told (``Text.doubt``) and then trusts less.

Sources: HL7 v2.8.2 section 2.14.9.18 and table 0211.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import NamedTuple

from edgeward.kernel.errors import ConfigError

_CODECS = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    "US-ASCII": "ascii",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "LATIN1": "iso8859-1",
    "ISO IR87": "iso2022_jp_2",
    "ISO IR159": "iso2022_jp_2",
    "GB 18030-2000": "gb18030",
    "GB18030": "gb18030",
    "GBK": "gb18030",
    "GB2312": "gb18030",
    "KS X 1001": "cp949",
    "BIG-5": "big5",
    "BIG5": "big5",
    "KOI8-R": "koi8-r",
}
_ISO = re.compile(r"^(?:ISO[- ]?)?8859[-/](\d{1,2})$")
_WINDOWS = re.compile(r"^(?:CP|WINDOWS|WIN)[- ]?(125\d)$")
_NAME_CHARS_MAX = 40
_ESCAPE_BYTE = b"\x1b"

WIDE = (b"\xff\xfe", b"\xfe\xff", b"M\x00", b"\x00M", b"\x00\x00")
"""How a message in two or four bytes a character begins: MLLP cannot carry it safely (0x0B and 0x1C occur in it)."""


class Text(NamedTuple):
    """A message as text, the codec that made it, and why that codec may be wrong ("" where it is right)."""

    text: str
    codec: str
    doubt: str


@lru_cache(maxsize=64)
def codec_of(name: str) -> str | None:
    """Python's codec for a name of table 0211 or of the field; None where there is none."""
    plain = name.strip().upper()
    if not plain or len(plain) > _NAME_CHARS_MAX:
        return None
    if plain in _CODECS:
        return _CODECS[plain]
    for pattern, prefix in ((_ISO, "iso8859-"), (_WINDOWS, "cp")):
        match = pattern.match(plain)
        if match is not None:
            try:
                return codecs.lookup(prefix + match.group(1)).name
            except LookupError:
                return None
    return None


def site_codec(name: str) -> str:
    """The codec of a site's setting; raises ``ConfigError`` (``charset-unknown``)."""
    codec = codec_of(name)
    if codec is None:
        raise ConfigError(
            "charset-unknown",
            f"no character set {name!r}; write one of HL7 table 0211, such as UNICODE UTF-8 or 8859/1",
        )
    return codec


def decode(content: bytes, stated: str, default: str = "utf-8") -> Text:
    """The text of ``content``: by the first set that MSH-18 names, else by ``default`` (a codec), else as Latin-1.

    ``doubt``: ``charset-mismatch`` (the bytes are not what MSH-18 says), ``charset-unknown`` (a name that is not
    known), ``charset-unstated`` (no name, and not the default either).
    """
    codec = codec_of(stated)
    if content.isascii() and _ESCAPE_BYTE not in content:
        return Text(content.decode("ascii"), codec or "ascii", "")
    doubt = "charset-mismatch" if codec else "charset-unknown" if stated.strip() else "charset-unstated"
    try:
        text = content.decode(codec or default)
    except (UnicodeDecodeError, UnicodeError):
        return Text(content.decode("iso8859-1"), "iso8859-1", doubt)
    return Text(text, codec or default, doubt if doubt == "charset-unknown" else "")
