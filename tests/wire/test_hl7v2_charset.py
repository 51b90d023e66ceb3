"""Character sets: a name that is wrongly encoded never costs a bed its numbers, and never makes two patients one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import ConfigError
from edgeward.wire.hl7v2 import parse
from edgeward.wire.hl7v2_charset import Text, codec_of, decode, site_codec

NAME = "Иванов"


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("ASCII", "ascii"),
        ("8859/1", "iso8859-1"),
        ("8859/5", "iso8859-5"),
        ("8859/9", "iso8859-9"),
        ("8859/15", "iso8859-15"),
        ("ISO-8859-2", "iso8859-2"),
        ("UNICODE UTF-8", "utf-8"),
        ("unicode utf-8 ", "utf-8"),
        ("CP1251", "cp1251"),
        ("WINDOWS-1251", "cp1251"),
        ("GB 18030-2000", "gb18030"),
        ("ISO IR87", "iso2022_jp_2"),
        ("8859/99", None),
        ("EBCDIC", None),
        ("", None),
        ("x" * 999, None),
    ],
)
def test_names_of_table_0211_and_of_the_field(name: str, codec: str | None) -> None:
    """Each name has one codec, or none."""
    assert codec_of(name) == codec


@pytest.mark.parametrize(
    ("content", "stated", "expected"),
    [
        (NAME.encode("utf-8"), "UNICODE UTF-8", Text(NAME, "utf-8", "")),
        (NAME.encode("utf-8"), "", Text(NAME, "utf-8", "")),
        (NAME.encode("cp1251"), "CP1251", Text(NAME, "cp1251", "")),
        (NAME.encode("iso8859-5"), "8859/5", Text(NAME, "iso8859-5", "")),
        (NAME.encode("cp1251"), "UNICODE UTF-8", Text("Èâàíîâ", "iso8859-1", "charset-mismatch")),
        (NAME.encode("cp1251"), "ASCII", Text("Èâàíîâ", "iso8859-1", "charset-mismatch")),
        (NAME.encode("cp1251"), "", Text("Èâàíîâ", "iso8859-1", "charset-unstated")),
        (NAME.encode("utf-8"), "EBCDIC", Text(NAME, "utf-8", "charset-unknown")),
        (NAME.encode("cp1251"), "EBCDIC", Text("Èâàíîâ", "iso8859-1", "charset-unknown")),
        (b"plain", "EBCDIC", Text("plain", "ascii", "")),
        (b"plain", "CP1251", Text("plain", "cp1251", "")),
    ],
)
def test_bytes_become_text(content: bytes, stated: str, expected: Text) -> None:
    """By what MSH-18 says, else by the site's default, else as Latin-1 with the doubt stated."""
    assert decode(content, stated) == expected


def test_multi_byte_sets_are_decoded_before_they_are_split() -> None:
    """A byte of a Chinese or Japanese character may look like a separator."""
    for stated, codec in (("GB 18030-2000", "gb18030"), ("BIG-5", "big5"), ("ISO IR87", "iso2022_jp_2")):
        head = f"MSH|^~\\&|A|||||||1|P|2.6||||||{stated}\r"
        message = parse((head + "PID|||7||東京 功||19540721\r").encode(codec))
        assert message.raw(message.rows[1], 7) == "19540721"
        assert message.doubt == ""


def test_a_site_names_its_default_strictly() -> None:
    """A misspelt setting is refused."""
    assert site_codec("8859/5") == "iso8859-5"
    with pytest.raises(ConfigError):
        site_codec("latin")


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(["", "ASCII", "UNICODE UTF-8", "EBCDIC"]))
def test_different_bytes_stay_different_texts(one: bytes, other: bytes, stated: str) -> None:
    """No fallback may make two identifiers equal."""
    a, b = decode(one, stated), decode(other, stated)
    if one != other and a.codec == b.codec:
        assert a.text != b.text
