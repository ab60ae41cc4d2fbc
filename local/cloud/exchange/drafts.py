"""What a client writes of an event, read and checked (Learn: Create event, Update event)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from local.cloud.exchange.enums import canonical
from local.cloud.exchange.mailbox import Properties
from local.cloud.exchange.recurrence import InvalidRecurrence, read_recurrence
from local.cloud.exchange.zones import MalformedTime, UnknownZone, When, own_zone, read_time
from local.cloud.protocol import Refused

MOST_ATTENDEES = 500
DEFAULTS: Properties = {
    "categories": [],
    "reminderMinutesBeforeStart": 15,
    "isReminderOn": True,
    "subject": "",
    "body": {"contentType": "html", "content": ""},
    "importance": "normal",
    "sensitivity": "normal",
    "showAs": "busy",
    "responseRequested": True,
    "allowNewTimeProposals": True,
    "hideAttendees": False,
    "isOnlineMeeting": False,
    "onlineMeetingProvider": "unknown",
    "location": {
        "displayName": "",
        "locationType": "default",
        "uniqueIdType": "unknown",
        "address": {},
        "coordinates": {},
    },
    "locations": [],
    "attendees": [],
    "singleValueExtendedProperties": [],
    "extensions": [],
    "isCancelled": False,
}
# Learn: event resource type. What a client sends of these is not taken over.
COMPUTED = frozenset(
    [
        "id",
        "changeKey",
        "createdDateTime",
        "lastModifiedDateTime",
        "iCalUId",
        "type",
        "seriesMasterId",
        "organizer",
        "isOrganizer",
        "isCancelled",
        "responseStatus",
        "webLink",
        "bodyPreview",
        "hasAttachments",
        "originalStart",
        "originalStartTimeZone",
        "originalEndTimeZone",
        "onlineMeeting",
        "onlineMeetingUrl",
        "isDraft",
        "occurrenceId",
        "uid",
        "cancelledOccurrences",
        "exceptionOccurrences",
    ]
)
CHOICES = {
    "importance": {"low", "normal", "high"},
    "sensitivity": {"normal", "personal", "private", "confidential"},
    "showAs": {"free", "tentative", "busy", "oof", "workingElsewhere", "unknown"},
    "onlineMeetingProvider": {"unknown", "teamsForBusiness", "skypeForBusiness", "skypeForConsumer"},
}
TIMES = {"start", "end", "isAllDay"}
NO_RESPONSE = {"response": "none", "time": "0001-01-01T00:00:00Z"}


@dataclass
class Draft:
    """What is to be set. `when` is None where the times stay, `recurrence` absent from `touched` where it stays."""

    changes: Properties
    when: When | None
    recurrence: Properties | None
    touched: frozenset[str]


def invalid(message: str = "At least one property failed validation.") -> Refused:
    return Refused(400, "ErrorPropertyValidationFailure", message)


def malformed(message: str) -> Refused:
    return Refused(400, "RequestBodyRead", message)


def read_draft(body: Any, current: When | None, held: Properties, name_of: Callable[[str], str | None]) -> Draft:
    """A body of POST (`current` None) or PATCH, or Refused. `held` are the properties that the event has so far;
    `name_of` knows the display names of addresses."""
    if not isinstance(body, dict):
        raise malformed("Unable to read JSON request payload.")
    given = {name: value for name, value in body.items() if "@odata" not in name and name not in COMPUTED}
    changes: Properties = {}
    for name, value in given.items():
        if name in TIMES | {"recurrence"}:
            continue
        if name not in {*DEFAULTS, "transactionId"}:
            raise malformed(f"The property '{name}' does not exist on type 'microsoft.graph.event'.")
        if name == "transactionId" and current is not None:
            raise Refused(400, "ErrorInvalidPropertySet", "The property 'transactionId' can only be set on creation.")
        changes |= _property(name, value, held, name_of)
    when = _when(given, current)
    recurrence = None
    if given.get("recurrence") is not None:
        try:
            recurrence, when = read_recurrence(given["recurrence"], when or _required(current))
        except InvalidRecurrence as error:
            raise invalid(str(error)) from error
    return Draft(changes, when, recurrence, frozenset(given))


def _required(when: When | None) -> When:
    if when is None:
        raise invalid("The properties start and end are required.")
    return when


def _when(given: Properties, current: When | None) -> When | None:
    if not TIMES & set(given):
        if current is None:
            raise invalid("The properties start and end are required.")
        return None
    all_day = _truth(given.get("isAllDay", current.all_day if current else False))
    if type(all_day) is not bool:
        raise malformed("Cannot convert the value of isAllDay to Edm.Boolean.")
    if current is None and not {"start", "end"} <= set(given):
        raise invalid("The properties start and end are required.")
    try:
        start, start_zone = read_time(given["start"]) if "start" in given else (current.start, current.start_zone)  # type: ignore[union-attr]  # checked above
        end, end_zone = read_time(given["end"]) if "end" in given else (current.end, current.end_zone)  # type: ignore[union-attr]  # checked above
    except UnknownZone as error:
        message = f"A valid TimeZone value must be specified. The following TimeZone value is not supported: '{error}'."
        raise Refused(400, "TimeZoneNotSupportedException", message) from error
    except MalformedTime as error:
        raise malformed(f"Cannot convert the literal '{error}' to the expected type 'Edm.DateTime'.") from error
    when = When(start, end, start_zone, end_zone, all_day)
    _check_times(when)
    return when


def _check_times(when: When) -> None:
    if when.end < when.start:
        raise Refused(400, "ErrorCalendarEndDateIsEarlierThanStartDate", "EndDate is earlier than StartDate.")
    if not when.all_day:
        return
    if own_zone(when.start_zone).key != own_zone(when.end_zone).key:
        raise _all_day("start.timeZone and end.timeZone properties for an all-day event need to be the same.")
    walls = [("Start", when.start, when.start_zone), ("End", when.end, when.end_zone)]
    for name, at, zone_name in walls:
        wall = at.astimezone(own_zone(zone_name))
        if (wall.hour, wall.minute, wall.second) != (0, 0, 0):
            raise _all_day(f"{name} property for an all-day event needs to be set to midnight.")
    if when.end == when.start:
        raise _all_day("The duration of an event marked as All day must be at least 24 hours.")


def _all_day(message: str) -> Refused:
    return Refused(400, "ErrorInvalidRequest", f"Your request can't be completed. The Event.{message}")


def _property(name: str, value: Any, held: Properties, name_of: Callable[[str], str | None]) -> Properties:
    """One property as it is stored, with whatever else it sets."""
    if value is None:
        return {} if name == "transactionId" else {name: DEFAULTS[name]}
    if name in CHOICES:
        return {name: _choice(value, CHOICES[name])}
    expected = type(DEFAULTS.get(name, ""))
    if expected is bool:
        value = _truth(value)  # the O365 package writes "false", and Graph takes it
    if type(value) is not expected:
        raise malformed(f"Cannot convert the value of {name}.")
    match name:
        case "attendees":
            return {name: read_attendees(value, held.get("attendees", []), name_of)}
        case "location":
            one = DEFAULTS["location"] | _location(value)
            return {"location": one, "locations": [one] if one["displayName"] else []}
        case "locations":
            every = [DEFAULTS["location"] | _location(each) for each in value]
            joined = "; ".join(each["displayName"] for each in every)
            return {
                "locations": every,
                "location": (every[0] if every else DEFAULTS["location"]) | {"displayName": joined},
            }
        case "body":
            return {name: _body(value)}
        case "singleValueExtendedProperties":
            return {name: _merged(held.get(name, []), value, "id", {"id", "value"})}
        case "extensions":
            return {name: _merged(held.get(name, []), value, "extensionName", {"extensionName"})}
    return {name: value}


def _truth(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _choice(value: Any, names: Iterable[str]) -> Any:
    chosen = canonical(value, names)
    if chosen is None:
        raise malformed(f"Requested value '{value}' was not found.")
    return chosen


def _body(value: Properties) -> Properties:
    if not isinstance(value.get("content", ""), str):
        raise malformed("Cannot convert the value of body.")
    return {
        "contentType": _choice(value.get("contentType", "text"), ("text", "html")),
        "content": value.get("content") or "",
    }


def _location(value: Any) -> Properties:
    if not isinstance(value, dict) or not isinstance(value.get("displayName", ""), str):
        raise malformed("Cannot convert the value of location.")
    return {name: each for name, each in value.items() if each is not None and "@odata" not in name}


def _merged(held: list[Properties], given: list[Any], key: str, needed: set[str]) -> list[Properties]:
    """Extended properties are set one by one; those that are not named stay."""
    if not all(isinstance(each, dict) and needed <= set(each) for each in given):
        raise malformed(f"An item needs {', '.join(sorted(needed))}.")
    together = {each[key]: each for each in [*held, *given]}
    return list(together.values())


def read_attendees(given: list[Any], held: list[Properties], name_of: Callable[[str], str | None]) -> list[Properties]:
    """Attendees with the answers that they have given so far; a client cannot answer for them."""
    if len(given) > MOST_ATTENDEES:
        raise invalid(f"An event can have at most {MOST_ATTENDEES} attendees.")
    known = {each["emailAddress"]["address"].lower(): each["status"] for each in held}
    found: dict[str, Properties] = {}
    for each in given:
        email = each.get("emailAddress") if isinstance(each, dict) else None
        address = email.get("address") if isinstance(email, dict) else None
        if not isinstance(email, dict) or not isinstance(address, str) or "@" not in address:
            raise Refused(400, "ErrorInvalidRecipients", "At least one recipient isn't valid.")
        kind = _choice(each.get("type") or "required", ("required", "optional", "resource"))
        named = {"name": email.get("name") or name_of(address) or address, "address": address}
        found[address.lower()] = {
            "type": kind,
            "status": known.get(address.lower(), NO_RESPONSE),
            "emailAddress": named,
        }
    return list(found.values())
