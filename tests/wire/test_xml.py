"""XML as SOAP needs it: namespaces resolved, nothing fetched, nothing unbounded."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire import xml
from edgeward.wire.xml import Node, parse

XSI = 'xmlns:x="http://www.w3.org/2001/XMLSchema-instance"'


def test_names_types_and_text_are_resolved() -> None:
    """Prefixes mean what they are bound to where they stand, in types as in names."""
    root = parse(
        f'<a xmlns="u" xmlns:p="q" {XSI}><b x:type="p:T" h="1">te<c xmlns:p="r" x:type="p:T"/>xt</b></a>'.encode()
    )
    (b,) = root.children
    assert (root.tag, b.tag, b.type, b.attributes["h"], b.text) == ("u}a", "u}b", "q}T", "1", "text")
    assert b.children[0].type == "r}T"
    assert root.child("u}b") is b
    assert root.child("u}none") is None
    assert list(root.all("u}b")) == [b]


def test_a_type_without_prefix_takes_the_default_namespace() -> None:
    """XML Schema: an unprefixed QName in content takes the default namespace; without one it has none."""
    assert parse(f'<a xmlns="u" {XSI} x:type="T"/>'.encode()).type == "u}T"
    assert parse(f'<a {XSI} x:type="T"/>'.encode()).type == "T"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "xml-malformed"),
        (b"<a>", "xml-malformed"),
        (b"<a></b>", "xml-malformed"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "xml-malformed"),
        (b"<p:a/>", "xml-malformed"),
        (f'<a {XSI} x:type="q:T"/>'.encode(), "xml-malformed"),
        (b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', "xml-doctype"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "xml-doctype"),
        (b"<a>&e;</a>", "xml-malformed"),
        (b"<a>" * 70 + b"</a>" * 70, "xml-too-large"),
    ],
)
def test_what_is_not_plain_xml_is_refused(document: bytes, code: str) -> None:
    """No document type, no entities, no depth beyond the ceiling."""
    with pytest.raises(InputError) as refused:
        parse(document)
    assert refused.value.code == code


def test_a_flood_of_elements_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of elements has a ceiling."""
    monkeypatch.setattr(xml, "NODES_MAX", 100)
    parse(b"<a>" + b"<b/>" * 99 + b"</a>")
    with pytest.raises(InputError):
        parse(b"<a>" + b"<b/>" * 100 + b"</a>")


_NAMES = st.sampled_from(["a", "b", "c"])
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]), max_size=8)


@st.composite
def _elements(draw: st.DrawFn, depth: int = 3) -> ET.Element:
    element = ET.Element(draw(_NAMES), draw(st.dictionaries(_NAMES, _TEXT, max_size=2)))
    element.text = draw(_TEXT)
    if depth:
        element.extend(draw(st.lists(_elements(depth=depth - 1), max_size=3)))
    return element


def _same(node: Node, element: ET.Element) -> None:
    assert (node.tag, node.attributes) == (element.tag, element.attrib)
    assert node.text.strip() == "".join([element.text or "", *(child.tail or "" for child in element)]).strip()
    assert len(node.children) == len(element)
    for mine, theirs in zip(node.children, element, strict=True):
        _same(mine, theirs)


@given(_elements())
def test_it_reads_what_the_standard_library_reads(element: ET.Element) -> None:
    """The same tree as ElementTree's, for any document."""
    data = ET.tostring(element, encoding="utf-8")
    _same(parse(data), ET.fromstring(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but an InputError ever comes of foreign bytes."""
    with contextlib.suppress(InputError):
        parse(data)
