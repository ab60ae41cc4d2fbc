"""$expand on events: extended properties, extensions, the changed occurrences of a series."""

import re
from typing import NamedTuple

from local.cloud.exchange.mailbox import Item, Mailbox, Properties
from local.cloud.exchange.series import Occurrence, held_of
from local.cloud.exchange.shape import View, render
from local.cloud.protocol import Call, Refused

EXPANDABLE = ("singleValueExtendedProperties", "multiValueExtendedProperties", "extensions", "exceptionOccurrences")
_PART = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)
_IDS = re.compile(r"id\s+eq\s+'((?:[^']|'')*)'", re.IGNORECASE)
_EXTENSION_ID = "microsoft.graph.openTypeExtension."


class Expansion(NamedTuple):
    """One relation and the ids that its inner $filter names; None: all of them."""

    name: str
    ids: list[str] | None


def read_expansion(call: Call) -> list[Expansion]:
    """What $expand asks for, or Refused."""
    if "$expand" not in call.query:
        return []
    return [_read(part) for part in _split(call.query["$expand"])]


def _split(text: str) -> list[str]:
    """The parts between commas that are outside of brackets and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for position, mark in enumerate(text):
        quoted ^= mark == "'"
        depth += 0 if quoted else (mark == "(") - (mark == ")")
        if mark == "," and not depth and not quoted:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _read(part: str) -> Expansion:
    found = _PART.fullmatch(part.strip())
    if not found or found[1] not in EXPANDABLE:
        raise Refused(
            400, "RequestBroker--ParseUri", f"Could not find a property named '{part.strip()}' on type event."
        )
    ids = [each.replace("''", "'") for each in _IDS.findall(found[2] or "")]
    if found[1].endswith("ExtendedProperties") and not ids:
        message = "The $expand of extended properties needs a $filter on their ids."
        raise Refused(400, "ErrorInvalidRequest", message)
    return Expansion(found[1], ids or None)


def expanded(
    mailbox: Mailbox, item: Item, each: Occurrence | None, view: View, expansions: list[Expansion]
) -> Properties:
    """What the relations add to an event; an absent one adds nothing."""
    held = held_of(item, each.slot if each else None)
    shown: Properties = {}
    for name, ids in expansions:
        if name == "exceptionOccurrences":
            changed = sorted(item.exceptions.items()) if item.recurrence and not each else []
            shown[name] = [render(mailbox, item, view, Occurrence(slot, one.when, one)) for slot, one in changed]
        elif name == "extensions":
            every = [_extension(extension) for extension in held.get(name, [])]
            wanted = [extension for extension in every if ids is None or _is_named(extension["id"], ids)]
            shown |= {name: wanted} if wanted else {}
        else:
            found = [
                {"id": each["id"], "value": each["value"]} for each in held.get(name, []) if each["id"] in (ids or [])
            ]
            shown |= {name: found} if found else {}
    return shown


def _extension(given: Properties) -> Properties:
    return given | {"@odata.type": "#microsoft.graph.openTypeExtension", "id": _EXTENSION_ID + given["extensionName"]}


def _is_named(extension_id: str, ids: list[str]) -> bool:
    return any(extension_id in (each, _EXTENSION_ID + each) for each in ids)
