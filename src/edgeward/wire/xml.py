"""The little of XML that SOAP messages need, read strictly and within bounds. Pure.

No document type, hence no entities of anyone's own making and nothing fetched from outside; a bounded number of
elements and a bounded depth; namespaces resolved, in ``xsi:type`` values too, where prefixes stand for meaning.

Sources: XML 1.0 (fifth edition), Namespaces in XML 1.0, XML Schema part 1, 2.6.1 (``xsi:type``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.parsers import expat

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES_MAX = 400_000
"""Elements of one message; the description of the largest monitors stays below a tenth of it."""
DEPTH_MAX = 64
_XSI_TYPE = "http://www.w3.org/2001/XMLSchema-instance}type"


class Node:
    """One element. ``tag`` and ``type`` (of ``xsi:type``, else empty) are written ``namespace}name``.

    ``text`` is all character data directly inside the element; attributes without a namespace keep their plain name.
    """

    __slots__ = ("attributes", "children", "tag", "text", "type")

    def __init__(self, tag: str, attributes: dict[str, str], type_name: str) -> None:
        self.tag = tag
        self.attributes = attributes
        self.type = type_name
        self.children: list[Node] = []
        self.text = ""

    def child(self, tag: str) -> Node | None:
        """The first child element called ``tag``."""
        for node in self.children:
            if node.tag == tag:
                return node
        return None

    def all(self, tag: str) -> Iterator[Node]:
        """The child elements called ``tag``, in order."""
        return (node for node in self.children if node.tag == tag)


def parse(data: bytes) -> Node:
    """The document's root. ``InputError``: ``xml-malformed``, ``xml-doctype``, ``xml-too-large``."""
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: an encoding that nobody knows
        raise InputError("xml-malformed", "a message is not well-formed XML; it is dropped") from error
    return reader.root.children[0]


class _Reader:
    """Builds the tree; expat calls the handlers."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator="}")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartNamespaceDeclHandler = self._declare
        self.parser.EndNamespaceDeclHandler = self._undeclare
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.root = Node("", {}, "")
        self._open = [self.root]
        self._prefixes: dict[str | None, list[str]] = {}
        self._nodes = 0

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX or len(self._open) > DEPTH_MAX:
            raise InputError(
                "xml-too-large", f"a message has more than {NODES_MAX} elements or {DEPTH_MAX} levels; it is dropped"
            )
        named = attributes.get(_XSI_TYPE)
        node = Node(tag, attributes, "" if named is None else self._resolve(named.strip()))
        self._open[-1].children.append(node)
        self._open.append(node)

    def _end(self, _tag: str) -> None:
        self._open.pop()

    def _text(self, data: str) -> None:
        self._open[-1].text += data

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._prefixes.setdefault(prefix, []).append(uri or "")

    def _undeclare(self, prefix: str | None) -> None:
        self._prefixes[prefix].pop()

    def _resolve(self, name: str) -> str:
        prefix, colon, local = name.rpartition(":")
        bound = self._prefixes.get(prefix if colon else None)
        if not bound:
            if colon:
                raise InputError("xml-malformed", "a message names a type with an undeclared prefix; it is dropped")
            return local
        return f"{bound[-1]}}}{local}" if bound[-1] else local

    def _doctype(self, *_: object) -> None:
        raise InputError(
            "xml-doctype", "an XML message declares a document type, which SOAP 1.2 (part 1, 5) forbids; it is dropped"
        )
