"""``edgeward hl7``: how a site's HL7 messages are read, for the engineer who connects a ward."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli.settings import load_hl7
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    import argparse
    from datetime import tzinfo

    from edgeward.cli.hl7_text import Style
    from edgeward.wire.hl7v2 import Message
    from edgeward.wire.hl7v2_ack import Judgement
    from edgeward.wire.hl7v2_decode import Decoded
    from edgeward.wire.hl7v2_header import Header
    from edgeward.wire.hl7v2_observation import Reader

FILE_BYTES_MAX = 64 << 20
MESSAGES_MAX = 1_000_000
_TAKEN, _PARTLY, _REFUSED = 0, 1, 3


def register(verbs: Any) -> None:
    """Add ``hl7`` to the command line."""
    parser = verbs.add_parser("hl7", help="see how HL7 v2 messages are read")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    explain = subjects.add_parser(
        "explain",
        help="show what becomes of every observation in a file of messages, and why any is refused",
        description="Reads messages as the listener does (segments ended by CR, LF or CRLF; with or without MLLP "
        "blocks; several in one file) and says who, where, what each OBX becomes or why it is refused, what to do, and "
        "what the sender would be answered. Identifiers and texts are masked.",
        epilog="Exit codes: 0 everything taken, 1 something in a message refused, 3 a whole message refused. "
        "Example: edgeward hl7 explain ward.hl7 --settings site.toml",
    )
    explain.add_argument("file", help="file of messages, or - for standard input")
    explain.add_argument("--settings", type=Path, help="TOML file with [hl7] (zone, charset) and [[codes]]")
    explain.add_argument("--show-phi", action="store_true", help="show identifiers, ages and texts as they are")
    explain.set_defaults(run=run_explain)


def run_explain(arguments: argparse.Namespace) -> int:
    """The verb ``hl7 explain``."""
    from edgeward.cli.hl7_text import COLOURS, Style
    from edgeward.wire import mllp
    from edgeward.wire.codes import CodeTable
    from edgeward.wire.hl7v2_observation import Reader

    settings, codes = load_hl7(arguments.settings)
    content = _read(arguments.file)
    items: list[bytes | mllp.Broken] = [content]
    if mllp.START in content:
        decoder = mllp.Decoder()
        items = decoder.feed(content)
        if decoder.pending:
            items.append(mllp.Broken("mllp-no-end", decoder.held))
    style = COLOURS if sys.stdout.isatty() else Style()
    session = _Session(Reader(CodeTable(codes)), settings.zone, settings.codec, style, show_phi=arguments.show_phi)
    for item in items:
        session.item(item)
    session.end()
    return session.result


class _Session:
    """Explains one message after another and remembers the worst that became of any."""

    def __init__(self, reader: Reader, zone: tzinfo, codec: str, style: Style, *, show_phi: bool) -> None:
        self._reader, self._zone, self._codec, self._style = reader, zone, codec, style
        self._show_phi = show_phi
        self._codes: dict[str, None] = {}
        self.result = _TAKEN
        self._count = 0

    def item(self, item: bytes | tuple[str, bytes]) -> None:
        """Explain what stood in one MLLP block, or in the file."""
        from edgeward.wire import hl7v2, hl7v2_ack
        from edgeward.wire.hl7v2_ack import Judgement

        if isinstance(item, bytes):
            for part in hl7v2.split(item, MESSAGES_MAX):
                self._message(part)
            return
        code, head = item
        self._title()
        self._refuse(hl7v2_ack.salvage(head), Judgement(code), "these bytes are no whole message in MLLP blocks")

    def end(self) -> None:
        """What the site may add to its table."""
        if self._codes:
            print("\nTo settle refused codes, add what is right of this to the settings (kind: one of docs/hl7.md):\n")
            print("\n\n".join(self._codes))

    def _message(self, content: bytes) -> None:
        from edgeward.wire import hl7v2, hl7v2_ack
        from edgeward.wire.hl7v2_ack import Judgement
        from edgeward.wire.hl7v2_decode import decode
        from edgeward.wire.hl7v2_header import read_header

        self._title()
        heard: tuple[Message, Header] | None = None
        try:
            message = hl7v2.parse(content, self._codec)
            heard = message, read_header(message)
            decoded = decode(*heard, self._reader, self._made_ns(heard[1]))
        except hl7v2.Hl7Error as error:
            self._refuse(heard or hl7v2_ack.salvage(content), Judgement(error.code, error.where), str(error))
            return
        self._decoded(decoded)

    def _decoded(self, decoded: Decoded) -> None:
        from edgeward.cli.hl7_text import (
            OBX_TITLE,
            codes_line,
            group_lines,
            header_lines,
            outcome_line,
            refusal_lines,
        )
        from edgeward.wire.hl7v2_ack import Judgement
        from edgeward.wire.hl7v2_observation import Observation, Refused

        message, header, style = decoded.message, decoded.header, self._style
        print("\n".join(header_lines(message, header, style)))
        if message.doubt:
            print("\n".join(refusal_lines([(message.doubt, "MSH-18")], style)))
        if decoded.unused:
            print("  event    changes nothing for a bed: acknowledged and left aside")
        if decoded.change:
            print(f"  event    {decoded.change.replace('_', ' ')}")
        taken = refused = 0
        for group in decoded.groups:
            print("\n".join(group_lines(group, style, show_phi=self._show_phi)))
            if group.outcomes:
                print(f"{style.dim}{OBX_TITLE}{style.end}")
            for outcome in group.outcomes:
                at = self._age(outcome, header) if isinstance(outcome, Observation) else None
                print(outcome_line(message, outcome, self._reader, at, style, show_phi=self._show_phi))
                if isinstance(at, int):
                    taken += 1
                elif isinstance(outcome, Refused | Observation):
                    refused += 1
                if isinstance(outcome, Refused):
                    line = codes_line(message, outcome, self._reader)
                    if line is not None:
                        self._codes[line] = None
            refused += len(group.refused)
        self._answer(header, Judgement())
        print(f"  result   {_count(taken, 'observation')} taken, {_count(refused, 'refusal')}")
        if refused or message.doubt:
            self.result = max(self.result, _PARTLY)

    def _age(self, observation: Any, header: Header) -> int | str:
        from edgeward.bedside.source.hl7_reading import age_of

        offset_s = header.stamp.offset_s if header.stamp is not None else None
        return age_of(observation, self._made_ns(header), offset_s, self._zone, delay_ns=0)

    def _made_ns(self, header: Header) -> int:
        """When the message says it was made; without that, now."""
        if header.stamp is not None:
            return header.stamp.utc_ns(None, self._zone)
        return round(datetime.now(UTC).timestamp()) * NS_PER_S

    def _refuse(self, heard: tuple[Message, Header] | None, judgement: Judgement, why: str) -> None:
        from edgeward.cli.hl7_text import header_lines

        style = self._style
        if heard is not None:
            print("\n".join(header_lines(*heard, style)))
        where = f" ({judgement.where})" if judgement.where else ""
        print(f"  {style.bad}refused{where}: {judgement.code}{style.end}  {why}")
        if heard is not None:
            self._answer(heard[1], judgement)
        else:
            print("  answer   AR without a control id")
        self.result = _REFUSED

    def _answer(self, header: Header, judgement: Judgement) -> None:
        from edgeward.wire.hl7v2_ack import CONDITIONS, replies

        if not judgement.taken and judgement.code not in CONDITIONS:
            print("  answer   none: nobody can be answered")
            return
        asked = "original mode: MSH-15 and MSH-16 are empty"
        if header.enhanced:
            asked = f"enhanced mode: MSH-15 {header.accept or 'empty'}, MSH-16 {header.application or 'empty'}"
        codes = ", then ".join(replies(header, judgement)) or "none is wanted"
        number = "" if judgement.taken else f" with {CONDITIONS[judgement.code].number} (HL70357)"
        print(f"  answer   {codes}{number}  ({asked})")

    def _title(self) -> None:
        self._count += 1
        print(f"{'' if self._count == 1 else chr(10)}── message {self._count} " + "─" * 60)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _read(name: str) -> bytes:
    try:
        if name == "-":
            content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as stream:
                content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InputError("file-unreadable", f"cannot read {name}: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise InputError("file-oversize", f"the file has more than {FILE_BYTES_MAX >> 20} MiB; give a part of it")
    if not content.strip():
        raise InputError("file-empty", "there is no message in the file")
    return content
