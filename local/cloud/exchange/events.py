"""Events of one mailbox (Learn: Create event, Get event, Update event, Delete event, and the answers to a meeting)."""

import json
from functools import partial
from typing import Any

from local.cloud.exchange import meetings
from local.cloud.exchange.access import display_name, open_mailbox
from local.cloud.exchange.drafts import malformed, read_draft
from local.cloud.exchange.expansion import expanded, read_expansion
from local.cloud.exchange.ids import ItemId, MalformedId, parse_id
from local.cloud.exchange.mailbox import Item, Mailbox, Properties
from local.cloud.exchange.series import Occurrence, held_of, occurrence
from local.cloud.exchange.shape import etag, preferences, render, selected_names
from local.cloud.protocol import Answer, Call, Refused, Route

READ = frozenset({"Calendars.Read", "Calendars.ReadWrite"})
WRITE = frozenset({"Calendars.ReadWrite"})


def get_event(call: Call, key: str, event_id: str) -> Answer:
    mailbox, view, names = open_mailbox(call, key), preferences(call), selected_names(call)
    expansion = read_expansion(call)
    item, each = find_event(mailbox, event_id)
    shown = render(mailbox, item, view, each, names) | expanded(mailbox, item, each, view, expansion)
    return Answer(body=_context(call, mailbox) | shown, headers=view.headers)


def create_event(call: Call, key: str, *_: str) -> Answer:
    """A new event; the same transactionId with the same content gives the first one again."""
    mailbox, view, body = open_mailbox(call, key), preferences(call), read_body(call)
    transaction = body.get("transactionId") if isinstance(body, dict) else None
    content = json.dumps(body, sort_keys=True)
    if transaction and transaction in mailbox.transactions:
        item = _first_of(mailbox, transaction, content)
    else:
        draft = read_draft(body, None, {}, lambda address: display_name(call.tenant, address))
        item = meetings.create(call.tenant, mailbox, draft)
        if transaction:
            mailbox.transactions[transaction] = (item.guid, content)
    note_write(call, mailbox, str(ItemId(mailbox.guid, item.guid, None)), item, body)
    return Answer(201, _context(call, mailbox) | render(mailbox, item, view), view.headers)


def _first_of(mailbox: Mailbox, transaction: str, content: str) -> Item:
    guid, was = mailbox.transactions[transaction]
    item = mailbox.items.get(guid)
    if item is None or was != content:
        message = "Your request can't be completed. The transactionId has already been used for another event."
        raise Refused(409, "ErrorDuplicateTransactionId", message)
    return item


def patch_event(call: Call, key: str, event_id: str) -> Answer:
    mailbox, view, body = open_mailbox(call, key), preferences(call), read_body(call)
    item, each = find_event(mailbox, event_id)
    _check_precondition(call, mailbox, item, each)
    held = held_of(item, each.slot if each else None)
    draft = read_draft(body, each.when if each else item.when, held, lambda address: display_name(call.tenant, address))
    note_write(call, mailbox, event_id, item, body, each)
    meetings.update(call.tenant, mailbox, item, each, draft)
    now = occurrence(item, each.slot) if each else None
    return Answer(body=_context(call, mailbox) | render(mailbox, item, view, now), headers=view.headers)


def delete_event(call: Call, key: str, event_id: str) -> Answer:
    mailbox = open_mailbox(call, key)
    item, each = find_event(mailbox, event_id)
    _check_precondition(call, mailbox, item, each)
    note_write(call, mailbox, event_id, item, None, each)
    meetings.delete(call.tenant, mailbox, item, each)
    return Answer(204, b"")


def cancel_event(call: Call, key: str, event_id: str) -> Answer:
    mailbox, body = open_mailbox(call, key), read_body(call, empty=True)
    item, each = find_event(mailbox, event_id)
    if not item.is_organizer:
        message = "Your request can't be completed. You need to be an organizer to cancel a meeting."
        raise Refused(400, "ErrorAccessDenied", message)
    note_write(call, mailbox, event_id, item, body, each)
    meetings.delete(call.tenant, mailbox, item, each)
    return Answer(202, b"")


def answer_event(response: str, call: Call, key: str, event_id: str) -> Answer:
    mailbox, body = open_mailbox(call, key), read_body(call, empty=True)
    item, each = find_event(mailbox, event_id)
    if item.is_organizer:
        message = (
            "Your request can't be completed. You can't respond to this meeting because you're the meeting organizer."
        )
        raise Refused(400, "ErrorInvalidRequest", message)
    note_write(call, mailbox, event_id, item, body, each)
    tell = body.get("sendResponse", body.get("SendResponse", True))
    meetings.answer(call.tenant, mailbox, item, each, response, tell=bool(tell))
    return Answer(202, b"")


def read_body(call: Call, *, empty: bool = False) -> Any:
    """The JSON of a request, or Refused; `empty`: none is as good as {}."""
    if not call.body.strip() and empty:
        return {}
    try:
        return json.loads(call.body)
    except ValueError as error:
        raise malformed("Unable to read JSON request payload.") from error


def find_event(mailbox: Mailbox, event_id: str) -> tuple[Item, Occurrence | None]:
    """The item that an id of either form names, with the occurrence where it is one; Refused."""
    try:
        wanted = parse_id(event_id)
    except MalformedId as error:
        raise Refused(400, "ErrorInvalidIdMalformed", "Id is malformed.") from error
    item = mailbox.items.get(wanted.item) if wanted.mailbox == mailbox.guid else None
    if item is None or wanted.moves not in (None, item.moves):
        raise not_found()
    if wanted.slot is None:
        return item, None
    each = occurrence(item, wanted.slot) if wanted.generation == item.generation else None
    if each is None:
        raise not_found()
    return item, each


def not_found() -> Refused:
    return Refused(404, "ErrorItemNotFound", "The specified object was not found in the store.")


def _check_precondition(call: Call, mailbox: Mailbox, item: Item, each: Occurrence | None) -> None:
    wanted = call.headers.get("if-match", "*")
    if wanted not in ("*", etag(mailbox, item, each)):
        message = (
            "The send or update operation could not be performed because the change key passed in the request does"
        )
        raise Refused(412, "ErrorIrresolvableConflict", f"{message} not match the current change key for the item.")


def note_write(
    call: Call, mailbox: Mailbox, event_id: str, item: Item, body: Any, each: Occurrence | None = None
) -> None:
    """Remember what an app wrote, for tests to judge."""
    call.tenant.exchange.writes.append(
        {
            "at": call.now.isoformat(),
            "mailbox": mailbox.owner.address,
            "isRoom": mailbox.room is not None,
            "method": call.method,
            "path": call.path,
            "eventId": event_id,
            "isOrganizer": item.is_organizer,
            "organizer": item.organizer.address,
            "iCalUId": item.uid,
            "originalStart": each.slot.isoformat() if each else None,
            "appId": call.app_id,
            "requestId": call.request_id,
            "lost": call.lost,
            "body": body,
        }
    )


def _context(call: Call, mailbox: Mailbox) -> Properties:
    return {"@odata.context": f"{call.base}/$metadata#users('{mailbox.guid}')/events/$entity"}


def _of_event(prefix: str) -> list[Route]:
    one = f"users/{{id}}/{prefix}events/{{event}}"
    return [
        Route("GET", one, get_event, READ, units=0, mailbox=True),
        Route("PATCH", one, patch_event, WRITE, units=0, mailbox=True),
        Route("DELETE", one, delete_event, WRITE, units=0, mailbox=True),
        Route("POST", f"{one}/cancel", cancel_event, WRITE, units=0, mailbox=True),
        Route("POST", f"{one}/accept", partial(answer_event, "accepted"), WRITE, units=0, mailbox=True),
        Route("POST", f"{one}/decline", partial(answer_event, "declined"), WRITE, units=0, mailbox=True),
        Route(
            "POST",
            f"{one}/tentativelyAccept",
            partial(answer_event, "tentativelyAccepted"),
            WRITE,
            units=0,
            mailbox=True,
        ),
    ]


ROUTES = [
    *_of_event(""),
    *_of_event("calendar/"),
    Route("POST", "users/{id}/events", create_event, WRITE, units=0, mailbox=True),
    Route("POST", "users/{id}/calendar/events", create_event, WRITE, units=0, mailbox=True),
]
