"""Identifiers of calendar items: opaque, long and sensitive to letter case, as Exchange's are.

An item has two ids that both find it (Learn: Obtain immutable identifiers for Outlook resources): an immutable one, and
one that is another after the item has been moved to another folder. Occurrences of a series are not stored, so their
ids say which series, and which of its times, they are.
"""

import base64
import binascii
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid5

IMMUTABLE, RESTRICTED = b"\x00\x09\x00\x2e", b"\x00\x03\x24\x00"
_LAYOUT = struct.Struct(">4s16s16sHHq")
_FILL = b"\x00\x00\x00\x00\x00\x00\x1d\x84\x03\x12\x6a\x66\x11\xcd\x9b\xc8\x00\xaa\x00\x2f\xc4\x5a\x0d\x00"
_NO_SLOT = -(2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLASS = "040000008200E00074C5B7101A82E008"


class MalformedId(ValueError):
    """No id of Exchange looks like that."""


class ItemId(NamedTuple):
    """`generation` counts the times that a series got new times, `slot` is the original start of an occurrence.

    `moves` counts the folders that the item has been moved to; None for an immutable id.
    """

    mailbox: UUID
    item: UUID
    moves: int | None
    generation: int = 0
    slot: datetime | None = None

    def __str__(self) -> str:
        kind = IMMUTABLE if self.moves is None else RESTRICTED
        slot = _NO_SLOT if self.slot is None else (self.slot - _EPOCH) // timedelta(seconds=1)
        head = _LAYOUT.pack(kind, self.mailbox.bytes, self.item.bytes, self.moves or 0, self.generation, slot)
        fill = _FILL if self.moves is None else _FILL * 2
        return base64.urlsafe_b64encode(head[:4] + fill + head[4:]).decode()


def parse_id(text: str) -> ItemId:
    """What an id stands for, or MalformedId."""
    try:
        content = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedId(text) from error
    kind = content[:4]
    fill = {IMMUTABLE: _FILL, RESTRICTED: _FILL * 2}.get(kind)
    if fill is None or content[4 : 4 + len(fill)] != fill or len(content) != _LAYOUT.size + len(fill):
        raise MalformedId(text)
    _, mailbox, item, moves, generation, slot = _LAYOUT.unpack(kind + content[4 + len(fill) :])
    return ItemId(
        UUID(bytes=mailbox),
        UUID(bytes=item),
        None if kind == IMMUTABLE else moves,
        generation,
        None if slot == _NO_SLOT else _EPOCH + timedelta(seconds=slot),
    )


def new_uid(mailbox: UUID, serial: int) -> str:
    """An iCalUId for a new meeting."""
    return f"{_CLASS}00000000{uuid5(mailbox, f'uid {serial}').hex.upper()}00000000000000000100000{serial % 16:X}"


def occurrence_uid(uid: str, slot: datetime) -> str:
    """The iCalUId of one occurrence: the series' with its date in it, another one in v1.0 for each of them."""
    stamp = f"{slot.year:04X}{slot.month:02X}{slot.day:02X}"
    return f"{_CLASS}{stamp}{uid[40:]}" if uid.startswith(_CLASS) else f"{uid}-{stamp}"


def change_key(mailbox: UUID, version: int) -> str:
    return base64.b64encode(mailbox.bytes[:12] + version.to_bytes(6)).decode()
