"""POST calendar/getSchedule: who is free when (Learn: calendar: getSchedule)."""

from datetime import datetime, timedelta
from typing import Any

from local.cloud.exchange.access import open_mailbox, reachable
from local.cloud.exchange.drafts import malformed
from local.cloud.exchange.events import READ, read_body
from local.cloud.exchange.mailbox import Item, Mailbox, Properties
from local.cloud.exchange.series import Occurrence, held_of
from local.cloud.exchange.shape import View, preferences
from local.cloud.exchange.views import entries_in
from local.cloud.exchange.zones import MalformedTime, UnknownZone, When, read_time, shown
from local.cloud.protocol import Answer, Call, Refused, Route

DIGITS = {"free": "0", "tentative": "1", "busy": "2", "oof": "3", "workingElsewhere": "4", "unknown": "2"}
MOST_ENTRIES = 1000
LONGEST = timedelta(days=62)


def get_schedule(call: Call, key: str) -> Answer:
    """What of each schedule's calendar lies in the window, and its view in steps of so many minutes."""
    open_mailbox(call, key)
    view, body = preferences(call), read_body(call)
    schedules, minutes = body.get("schedules"), body.get("availabilityViewInterval", 30)
    if not isinstance(schedules, list) or not schedules or not all(isinstance(each, str) for each in schedules):
        raise malformed("The schedules are a list of addresses.")
    if type(minutes) is not int or not 5 <= minutes <= 1440:
        raise Refused(400, "ErrorInvalidParameter", "The availabilityViewInterval is between 5 and 1440 minutes.")
    since, until = _times(body)
    step = timedelta(minutes=minutes)
    value = [_schedule(call, each, (since, until), step, view) for each in schedules]
    context = f"{call.base}/$metadata#Collection(microsoft.graph.scheduleInformation)"
    return Answer(body={"@odata.context": context, "value": value}, headers=view.headers)


def _times(body: Properties) -> tuple[datetime, datetime]:
    try:
        since, until = (read_time(body.get(name))[0] for name in ("startTime", "endTime"))
    except (MalformedTime, UnknownZone) as error:
        raise Refused(400, "ErrorInvalidParameter", f"A time is invalid: '{error}'.") from error
    if not since < until <= since + LONGEST:
        raise Refused(400, "ErrorInvalidParameter", "The time window is empty or longer than 62 days.")
    return since, until


def _schedule(call: Call, address: str, window: tuple[datetime, datetime], step: timedelta, view: View) -> Properties:
    mailbox = reachable(call.tenant, address)
    if mailbox is None:
        message = "Unable to resolve e-mail address to an Active Directory object."
        error = {"message": message, "responseCode": "ErrorMailRecipientNotFound"}
        return {"scheduleId": address, "availabilityView": "", "scheduleItems": [], "error": error}
    found = sorted(_busy(mailbox, *window), key=lambda entry: entry[0].start)
    if len(found) > MOST_ENTRIES:
        error = {"message": "There are too many entries in the calendar.", "responseCode": "5006"}
        return {"scheduleId": address, "availabilityView": "", "scheduleItems": [], "error": error}
    return {
        "scheduleId": address,
        "availabilityView": _digits(found, window, step),
        "scheduleItems": [_item(when, held, view) for when, held in found],
    }


def _busy(mailbox: Mailbox, since: datetime, until: datetime) -> list[tuple[When, Properties]]:
    entries: list[tuple[Item, Occurrence | None]] = list(entries_in(mailbox.items.values(), since, until))
    every = [((each or item).when, held_of(item, each.slot if each else None)) for item, each in entries]
    return [(when, held) for when, held in every if not held["isCancelled"]]


def _digits(found: list[tuple[When, Properties]], window: tuple[datetime, datetime], step: timedelta) -> str:
    """One digit per step: the busiest thing in it."""
    since, until = window
    digits = []
    while since < until:
        inside = [DIGITS[held["showAs"]] for when, held in found if when.overlaps(since, min(until, since + step))]
        digits.append(max(inside, default="0"))
        since += step
    return "".join(digits)


def _item(when: When, held: Properties, view: View) -> dict[str, Any]:
    start, end = shown(when, view.zone)
    private = held["sensitivity"] != "normal"
    named = {} if private else {"subject": held["subject"], "location": held["location"]["displayName"]}
    return {"isPrivate": private, "status": held["showAs"], **named, "isMeeting": bool(held["attendees"])} | {
        "start": start,
        "end": end,
    }


ROUTES = [
    Route("POST", "users/{id}/calendar/getSchedule", get_schedule, READ, units=0, mailbox=True),
    Route("POST", "users/{id}/calendar/microsoft.graph.getSchedule", get_schedule, READ, units=0, mailbox=True),
]
