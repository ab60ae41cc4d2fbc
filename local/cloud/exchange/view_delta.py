"""GET calendarView/delta (Learn: event: delta). A round's window is fixed in its tokens."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from local.cloud.exchange.access import open_mailbox
from local.cloud.exchange.events import READ
from local.cloud.exchange.ids import ItemId
from local.cloud.exchange.mailbox import Change, Item, Mailbox, Properties
from local.cloud.exchange.series import Occurrence, occurrence, occurrences
from local.cloud.exchange.shape import EVENT_TYPE, View, preferences, render, stub
from local.cloud.exchange.views import window
from local.cloud.paging import link, open_page_token, page_token, seal, unseal, untidy
from local.cloud.protocol import Answer, Call, Refused, Route

PAGE = 10
ROUNDS_KEPT = 64
REFUSED = ("$select", "$filter", "$expand", "$orderby", "$search", "$top", "$skip", "$count")


@dataclass(frozen=True)
class Entry:
    """One row of a round: a series or a single event, or with `slot` an occurrence.

    `generation` and `moves` are those of a row that is gone, whose id can only be told from here.
    """

    item: UUID
    slot: datetime | None = None
    generation: int = 0
    gone: bool = False


@dataclass(frozen=True)
class Round:
    """What one pass of a loop shows: everything in the window, or what changed since the pass before."""

    since: datetime
    until: datetime
    version: int
    entries: list[Entry]


def delta(call: Call, key: str, *_: str) -> Answer:
    """A page of changes with a next link, or at the end of the round with a delta link."""
    mailbox, view = open_mailbox(call, key), preferences(call, paged=True)
    for name in REFUSED:
        if name in call.query:
            raise Refused(
                400,
                "ErrorInvalidUrlQuery",
                f"The following parameters are not supported with change tracking over the 'CalendarView' resource: '{name}'.",
            )
    if "$skiptoken" in call.query:
        number, position = _continued(call, mailbox)
    elif "$deltatoken" in call.query:
        number, position = _keep(mailbox, _changes(call, mailbox)), 0
    else:
        number, position = _keep(mailbox, _everything(call, mailbox)), 0
    return _page(call, mailbox, view, number, position)


def _keep(mailbox: Mailbox, this: Round) -> int:
    mailbox.serial_of_rounds += 1
    mailbox.rounds[mailbox.serial_of_rounds] = this
    while len(mailbox.rounds) > ROUNDS_KEPT:
        mailbox.rounds.popitem(last=False)
    return mailbox.serial_of_rounds


def _everything(call: Call, mailbox: Mailbox) -> Round:
    since, until = window(call)
    entries: list[Entry] = []
    faults = call.tenant.faults
    if faults.empty_rounds:
        faults.empty_rounds -= 1
    else:
        for item in mailbox.items.values():
            entries += _present(item, since, until)
    return Round(since, until, len(mailbox.log), entries)


def _present(item: Item, since: datetime, until: datetime) -> list[Entry]:
    """The rows of an item that are in the window."""
    if item.recurrence is None:
        return [Entry(item.guid)] if item.when.overlaps(since, until) else []
    inside = [Entry(item.guid, each.slot, item.generation) for each in occurrences(item, since, until)]
    return [Entry(item.guid), *inside] if inside else []


def _changes(call: Call, mailbox: Mailbox) -> Round:
    since, until, version = _resumed(call, mailbox)
    merged: dict[UUID, list[Change]] = {}
    for change in mailbox.log[version:]:
        merged.setdefault(change.item, []).append(change)
    entries: list[Entry] = []
    for guid, every in merged.items():
        entries += _changed(call, mailbox, guid, every, since, until)
    return Round(since, until, len(mailbox.log), entries)


def _changed(
    call: Call, mailbox: Mailbox, guid: UUID, every: list[Change], since: datetime, until: datetime
) -> list[Entry]:
    """What there is to say of one item: what is there now, and what is not there any more."""
    item = mailbox.items.get(guid)
    silent = item.cancelled if item and call.tenant.faults.silent_occurrence_deletes else set()
    if silent and all(change.slot in silent for change in every):
        return []
    now = _present(item, since, until) if item else []
    before: dict[Entry, None] = {}
    for change in every:
        if change.before and change.before.recurrence:
            rows = occurrences(change.before, since, until)
            before |= dict.fromkeys(Entry(guid, each.slot, change.before.generation) for each in rows)
        if change.slot and change.slot not in silent:
            before[Entry(guid, change.slot, change.generation)] = None
    gone = [Entry(guid, row.slot, row.generation, gone=True) for row in before if row not in now]
    if not now:
        gone.append(Entry(guid, gone=True))
    return now + gone


def _resumed(call: Call, mailbox: Mailbox) -> tuple[datetime, datetime, int]:
    match unseal(call.query["$deltatoken"]):
        case ["view", mailbox_id, int(serial), int(generation), str(since), str(until), int(version)]:
            kept = mailbox.generations - generation < call.tenant.faults.delta_generations
            if mailbox_id != str(mailbox.guid) or serial <= call.tenant.expiry.delta_before or not kept:
                raise _expired(call, generation, mailbox.generations)
            return datetime.fromisoformat(since), datetime.fromisoformat(until), version
    raise _malformed()


def _continued(call: Call, mailbox: Mailbox) -> tuple[int, int]:
    match open_page_token(call, call.query["$skiptoken"]):
        case ["view", mailbox_id, int(number), int(position)] if mailbox_id == str(mailbox.guid):
            if number not in mailbox.rounds:
                raise _expired(call, number, mailbox.serial_of_rounds)
            return number, position
    raise _malformed()


def _malformed() -> Refused:
    return Refused(400, "SyncStateInvalid", "The sync state is invalid.")


def _expired(call: Call, generation: int, highest: int) -> Refused:
    message = f"The sync state generation is not found; generation={generation}; highest={highest}"
    style = call.tenant.faults.expired_delta
    if style == "gone":
        restart = {"Location": f"{call.base}/{call.path}?$deltatoken="}
        return Refused(410, "SyncStateNotFound", message, restart)
    return Refused(400, style, message)


def _page(call: Call, mailbox: Mailbox, view: View, number: int, position: int) -> Answer:
    this: Round = mailbox.rounds[number]
    size = view.page_size or PAGE
    if untidy(call):
        return _answer(call, mailbox, view, number, [], position)
    entries = this.entries[position : position + size]
    shown = [_render(mailbox, view, entry) for entry in entries]
    if call.tenant.faults.untidy_paging:
        shown = _untidied(call, mailbox, view, this, shown)
    after = position + size if position + size < len(this.entries) else None
    return _answer(call, mailbox, view, number, shown, after)


def _untidied(call: Call, mailbox: Mailbox, view: View, this: Round, shown: list[Properties]) -> list[Properties]:
    """Rows out of order, some of them again, and others that have not changed at all."""
    rng = call.tenant.rng
    present = [entry for item in mailbox.items.values() for entry in _present(item, this.since, this.until)]
    replayed = rng.choices(present, k=2) if present else []
    again = rng.choices(shown, k=1) if shown else []
    mixed = [*shown, *again, *(_render(mailbox, view, entry) for entry in replayed)]
    rng.shuffle(mixed)
    return mixed


def _render(mailbox: Mailbox, view: View, entry: Entry) -> Properties:
    """A row as it is now, which may be gone since the round began."""
    item = mailbox.items.get(entry.item)
    if item and not entry.gone:
        if entry.slot is None:
            return {"@odata.type": EVENT_TYPE} | render(mailbox, item, view)
        each = occurrence(item, entry.slot) if entry.generation == item.generation else None
        if each:
            return _row(mailbox, item, each, view)
    moves = None if view.immutable else (item.moves if item else 0)
    gone = ItemId(mailbox.guid, entry.item, moves, entry.generation if entry.slot else 0, entry.slot)
    return {"@odata.type": EVENT_TYPE, "id": str(gone), "@removed": {"reason": "deleted"}}


def _row(mailbox: Mailbox, item: Item, each: Occurrence, view: View) -> Properties:
    if each.exception:
        return {"@odata.type": EVENT_TYPE} | render(mailbox, item, view, each)
    return stub(mailbox, item, each, view)


def _answer(
    call: Call, mailbox: Mailbox, view: View, number: int, shown: list[Properties], after: int | None
) -> Answer:
    this: Round = mailbox.rounds[number]
    body: dict[str, Any] = {"@odata.context": f"{call.base}/$metadata#Collection(event)", "value": shown}
    if after is None:
        mailbox.generations += 1
        window_of = [this.since.isoformat(), this.until.isoformat()]
        state = ["view", str(mailbox.guid), call.tenant.expiry.issue(), mailbox.generations, *window_of, this.version]
        body["@odata.deltaLink"] = link(call, quote(call.path, safe="/@"), {"$deltatoken": seal(state)})
    else:
        token = page_token(call, ["view", str(mailbox.guid), number, after])
        body["@odata.nextLink"] = link(call, quote(call.path, safe="/@"), {"$skiptoken": token})
    return Answer(body=body, headers=view.headers)


ROUTES = [
    Route("GET", f"users/{{id}}/{path}", delta, READ, units=0, mailbox=True)
    for path in ("calendarView/delta", "calendar/calendarView/delta", "events/delta", "calendar/events/delta")
]
