"""How Graph shows a stored event (Learn: event resource type)."""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from local.cloud.exchange.drafts import NO_RESPONSE
from local.cloud.exchange.ids import ItemId, change_key, occurrence_uid
from local.cloud.exchange.mailbox import Item, Mailbox, Properties
from local.cloud.exchange.series import Occurrence, held_of
from local.cloud.exchange.zones import UTC_NAME, UnknownZone, instant, shown, windows_name, zone
from local.cloud.protocol import Call, Refused

EVENT_TYPE = "#microsoft.graph.event"
ON_REQUEST = frozenset({"originalStart", "cancelledOccurrences", "exceptionOccurrences"})
NAMES = frozenset(
    [
        "id",
        "createdDateTime",
        "lastModifiedDateTime",
        "changeKey",
        "categories",
        "transactionId",
        "originalStartTimeZone",
        "originalEndTimeZone",
        "iCalUId",
        "reminderMinutesBeforeStart",
        "isReminderOn",
        "hasAttachments",
        "subject",
        "bodyPreview",
        "importance",
        "sensitivity",
        "isAllDay",
        "isCancelled",
        "isOrganizer",
        "responseRequested",
        "seriesMasterId",
        "showAs",
        "type",
        "webLink",
        "onlineMeetingUrl",
        "isOnlineMeeting",
        "onlineMeetingProvider",
        "onlineMeeting",
        "allowNewTimeProposals",
        "isDraft",
        "hideAttendees",
        "recurrence",
        "responseStatus",
        "body",
        "start",
        "end",
        "location",
        "locations",
        "attendees",
        "organizer",
    ]
)
_PREFER_ZONE = re.compile(r'outlook\.timezone\s*=\s*"([^"]*)"', re.IGNORECASE)
_PREFER_BODY = re.compile(r'outlook\.body-content-type\s*=\s*"(text|html)"', re.IGNORECASE)
_PREFER_ID = re.compile(r'IdType\s*=\s*"ImmutableId"', re.IGNORECASE)
_PREFER_SIZE = re.compile(r"odata\.maxpagesize\s*=\s*(\d+)", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class View:
    """How a client wants to see events, and what of it Graph says that it honoured."""

    zone: str
    immutable: bool
    body_type: str | None
    page_size: int | None
    applied: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Preference-Applied": self.applied} if self.applied else {}


def preferences(call: Call, *, paged: bool = False) -> View:
    """What the header Prefer asks for; Refused for a time zone that Exchange does not know."""
    prefer = call.headers.get("prefer", "")
    zone_name, body, size = _PREFER_ZONE.search(prefer), _PREFER_BODY.search(prefer), _PREFER_SIZE.search(prefer)
    immutable = bool(_PREFER_ID.search(prefer))
    if zone_name:
        try:
            zone(zone_name[1])
        except UnknownZone as error:
            message = "A valid TimeZone value must be specified. The following TimeZone value is not supported:"
            raise Refused(400, "TimeZoneNotSupportedException", f"{message} '{zone_name[1]}'.") from error
    applied = [f'outlook.timezone="{zone_name[1]}"'] if zone_name else []
    applied += [f'outlook.body-content-type="{body[1].lower()}"'] if body else []
    applied += ['IdType="ImmutableId"'] if immutable else []
    applied += [f"odata.maxpagesize={size[1]}"] if size and paged else []
    return View(
        zone_name[1] if zone_name else UTC_NAME,
        immutable,
        body[1].lower() if body else None,
        max(1, int(size[1])) if size and paged else None,
        ", ".join(applied),
    )


def item_id(mailbox: Mailbox, item: Item, view: View, each: Occurrence | None = None) -> str:
    moves = None if view.immutable else item.moves
    if each is None:
        return str(ItemId(mailbox.guid, item.guid, moves))
    return str(ItemId(mailbox.guid, item.guid, moves, item.generation, each.slot))


def etag(mailbox: Mailbox, item: Item, each: Occurrence | None = None) -> str:
    return f'W/"{change_key(mailbox.guid, version(item, each))}"'


def version(item: Item, each: Occurrence | None) -> int:
    """An exception has a change key of its own; a plain occurrence changes with its series."""
    return each.exception.version if each and each.exception else item.version


def stub(mailbox: Mailbox, item: Item, each: Occurrence, view: View) -> Properties:
    """An occurrence as calendarView/delta shows it: the rest is the series master's."""
    start, end = shown(each.when, view.zone)
    return {
        "@odata.type": EVENT_TYPE,
        "@odata.etag": etag(mailbox, item, each),
        "seriesMasterId": item_id(mailbox, item, view),
        "type": "occurrence",
        "id": item_id(mailbox, item, view, each),
        "start": start,
        "end": end,
    }


def render(
    mailbox: Mailbox, item: Item, view: View, each: Occurrence | None = None, names: Iterable[str] | None = None
) -> Properties:
    """A whole event; with `names` only those properties, its id and its etag."""
    exception = each.exception if each else None
    held = held_of(item, each.slot if each else None)
    when = each.when if each else item.when
    start, end = shown(when, view.zone)
    own_id = item_id(mailbox, item, view, each)
    body = held["body"]
    every: Properties = {
        "@odata.etag": etag(mailbox, item, each),
        "id": own_id,
        "createdDateTime": instant(item.created),
        "lastModifiedDateTime": instant(exception.modified if exception else item.modified),
        "changeKey": change_key(mailbox.guid, version(item, each)),
        "categories": held["categories"],
        "transactionId": None if each else held.get("transactionId"),
        "originalStartTimeZone": held.get("zoneQuirk", windows_name(when.start_zone)),
        "originalEndTimeZone": held.get("zoneQuirk", windows_name(when.end_zone)),
        "iCalUId": occurrence_uid(item.uid, each.slot) if each else item.uid,
        "reminderMinutesBeforeStart": held["reminderMinutesBeforeStart"],
        "isReminderOn": held["isReminderOn"],
        "hasAttachments": False,
        "subject": held["subject"],
        "bodyPreview": _plain(body)[:255],
        "importance": held["importance"],
        "sensitivity": held["sensitivity"],
        "isAllDay": when.all_day,
        "isCancelled": held["isCancelled"],
        "isOrganizer": item.is_organizer,
        "responseRequested": held["responseRequested"],
        "seriesMasterId": item_id(mailbox, item, view) if each else None,
        "showAs": held["showAs"],
        "type": _type(item, each),
        "webLink": f"https://outlook.office365.com/owa/?itemid={quote(own_id, safe='')}&exvsurl=1&path=/calendar/item",
        "onlineMeetingUrl": None,
        "isOnlineMeeting": held["isOnlineMeeting"],
        "onlineMeetingProvider": held["onlineMeetingProvider"],
        "allowNewTimeProposals": held["allowNewTimeProposals"],
        "isDraft": False,
        "hideAttendees": held["hideAttendees"],
        "recurrence": None if each else _recurrence(item),
        "onlineMeeting": None,
        "responseStatus": held.get("responseStatus") or _own_response(item, held),
        "body": _body(body, view),
        "start": start,
        "end": end,
        "location": held["location"],
        "locations": held["locations"],
        "attendees": held["attendees"],
        "organizer": item.organizer.as_json(),
    }
    if names is None:
        return every
    wanted = set(names)
    if "originalStart" in wanted and each:
        every["originalStart"] = each.slot.strftime("%Y-%m-%dT%H:%M:%SZ")
    if "cancelledOccurrences" in wanted and item.recurrence and not each:
        every["cancelledOccurrences"] = [_occurrence_name(own_id, slot) for slot in sorted(item.cancelled)]
    if "exceptionOccurrences" in wanted and item.recurrence and not each:
        every["exceptionOccurrences"] = [
            render(mailbox, item, view, Occurrence(slot, held.when, held))
            for slot, held in sorted(item.exceptions.items())
        ]
    return {name: value for name, value in every.items() if name in wanted or name in ("@odata.etag", "id")}


def _occurrence_name(master_id: str, slot: Any) -> str:
    """`OID.{master}.{date}` (Learn: event resource type, cancelledOccurrences)."""
    return f"OID.{master_id}.{slot.date().isoformat()}"


def _type(item: Item, each: Occurrence | None) -> str:
    if each:
        return "exception" if each.exception else "occurrence"
    return "seriesMaster" if item.recurrence else "singleInstance"


def _recurrence(item: Item) -> Properties | None:
    quirk = item.properties.get("recurrenceZoneQuirk")
    if item.recurrence is None or quirk is None:
        return item.recurrence
    return item.recurrence | {"range": item.recurrence["range"] | {"recurrenceTimeZone": quirk}}


def _own_response(item: Item, held: Properties) -> Properties:
    if not item.is_organizer:
        return {**NO_RESPONSE, "response": "notResponded"}
    return {**NO_RESPONSE, "response": "organizer" if held["attendees"] else "none"}


def _body(body: Properties, view: View) -> Properties:
    wanted = view.body_type or "html"
    if wanted == body["contentType"]:
        return body
    if wanted == "text":
        return {"contentType": "text", "content": _plain(body)}
    if not body["content"]:
        return {"contentType": "html", "content": ""}
    lines = "<br>\r\n".join(html.escape(line) for line in body["content"].splitlines())
    return {"contentType": "html", "content": f"<html>\r\n<body>\r\n{lines}\r\n</body>\r\n</html>\r\n"}


def _plain(body: Properties) -> str:
    if body["contentType"] == "text":
        return str(body["content"])
    return html.unescape(_TAG.sub("", body["content"])).strip()


def selected_names(call: Call) -> list[str] | None:
    """What $select names, None without it; Refused for what events do not have."""
    if "$select" not in call.query:
        return None
    names = [name.strip() for name in call.query["$select"].split(",")]
    for name in names:
        if name not in NAMES | ON_REQUEST:
            message = f"Could not find a property named '{name}' on type 'Microsoft.OutlookServices.Event'."
            raise Refused(400, "RequestBroker--ParseUri", message)
    return names
