"""The calendar of a mailbox as a thing of its own, and the settings around it (Learn: calendar resource type)."""

from collections.abc import Callable
from uuid import UUID, uuid5

from local.cloud.exchange import events, view_delta, views
from local.cloud.exchange.access import open_mailbox
from local.cloud.exchange.events import READ, not_found, read_body
from local.cloud.exchange.ids import ItemId, MalformedId, change_key, parse_id
from local.cloud.exchange.mailbox import Mailbox, Properties
from local.cloud.exchange.shape import View, preferences
from local.cloud.exchange.zones import supported
from local.cloud.protocol import Answer, Call, Refused, Route

READ_SETTINGS = frozenset({"MailboxSettings.Read", "MailboxSettings.ReadWrite"})
MOST_IDS = 1000


def get_calendar(call: Call, key: str, calendar_id: str = "") -> Answer:
    mailbox, view = open_mailbox(call, key), preferences(call)
    if calendar_id:
        check_calendar(mailbox, calendar_id)
    context = f"{call.base}/$metadata#users('{mailbox.guid}')/calendars/$entity"
    return Answer(body={"@odata.context": context} | _calendar(mailbox, view), headers=view.headers)


def list_calendars(call: Call, key: str) -> Answer:
    mailbox, view = open_mailbox(call, key), preferences(call)
    context = f"{call.base}/$metadata#users('{mailbox.guid}')/calendars"
    return Answer(body={"@odata.context": context, "value": [_calendar(mailbox, view)]}, headers=view.headers)


def _calendar(mailbox: Mailbox, view: View) -> Properties:
    return {
        "id": str(_calendar_id(mailbox, 0 if not view.immutable else None)),
        "name": "Calendar",
        "color": "auto",
        "hexColor": "",
        "isDefaultCalendar": True,
        "changeKey": change_key(mailbox.guid, 0),
        "canShare": True,
        "canViewPrivateItems": True,
        "canEdit": True,
        "allowedOnlineMeetingProviders": [],
        "defaultOnlineMeetingProvider": "unknown",
        "isTallyingResponses": True,
        "isRemovable": False,
        "owner": {"name": mailbox.owner.name, "address": mailbox.owner.address},
    }


def _calendar_id(mailbox: Mailbox, moves: int | None) -> ItemId:
    return ItemId(mailbox.guid, uuid5(mailbox.guid, "calendar"), moves)


def check_calendar(mailbox: Mailbox, calendar_id: str) -> None:
    """Refused for what is not the mailbox' only calendar."""
    try:
        wanted = parse_id(calendar_id)
    except MalformedId as error:
        raise Refused(400, "ErrorInvalidIdMalformed", "Id is malformed.") from error
    if wanted[:2] != _calendar_id(mailbox, None)[:2]:
        raise not_found()


def list_time_zones(call: Call, key: str) -> Answer:
    """Learn: outlookUser: supportedTimeZones, in the Windows form."""
    open_mailbox(call, key)
    value = [{"alias": name, "displayName": name} for name in supported()]
    return Answer(body={"@odata.context": f"{call.base}/$metadata#Collection(timeZoneInformation)", "value": value})


def get_settings(call: Call, key: str) -> Answer:
    mailbox = open_mailbox(call, key)
    context = f"{call.base}/$metadata#users('{mailbox.guid}')/mailboxSettings"
    return Answer(body={"@odata.context": context, "timeZone": mailbox.time_zone})


def translate_ids(call: Call, key: str) -> Answer:
    """Learn: user: translateExchangeIds, between the two forms that Graph itself uses."""
    open_mailbox(call, key)
    body = read_body(call)
    ids, target = body.get("inputIds"), body.get("targetIdType")
    if not isinstance(ids, list) or len(ids) > MOST_IDS or target not in ("restId", "restImmutableEntryId"):
        raise Refused(
            400, "ErrorInvalidArgument", f"inputIds has at most {MOST_IDS} ids; targetIdType is a kind of id."
        )
    mailboxes = {mailbox.guid: mailbox for mailbox in call.tenant.exchange}
    value = [{"sourceId": each, "targetId": _translated(each, target, mailboxes)} for each in ids]
    return Answer(body={"@odata.context": f"{call.base}/$metadata#Collection(convertIdResult)", "value": value})


def _translated(text: str, target: str, mailboxes: dict[UUID, Mailbox]) -> str:
    try:
        found = parse_id(text)
    except MalformedId as error:
        raise Refused(400, "ErrorInvalidIdMalformed", "Id is malformed.") from error
    mailbox = mailboxes.get(found.mailbox)
    item = mailbox.items.get(found.item) if mailbox else None
    moves = None if target == "restImmutableEntryId" else (item.moves if item else found.moves or 0)
    return str(found._replace(moves=moves))


def _named(handler: Callable[..., Answer]) -> Callable[..., Answer]:
    """The same call where the path names the calendar."""

    def named(call: Call, key: str, calendar_id: str, *rest: str) -> Answer:
        check_calendar(open_mailbox(call, key), calendar_id)
        return handler(call, key, *rest)

    return named


def _in_named_calendar() -> list[Route]:
    own = "users/{id}/calendar/"
    routes = [route for subject in (view_delta, views, events) for route in subject.ROUTES]
    return [
        Route(
            route.method,
            route.template.replace(own, "users/{id}/calendars/{calendar}/"),
            _named(route.handler),
            route.roles,
            units=0,
            mailbox=True,
        )
        for route in routes
        if route.template.startswith(own)
    ]


ROUTES = [
    Route("GET", "users/{id}/calendar", get_calendar, READ, units=0, mailbox=True),
    Route("GET", "users/{id}/calendars", list_calendars, READ, units=0, mailbox=True),
    Route("GET", "users/{id}/calendars/{calendar}", get_calendar, READ, units=0, mailbox=True),
    Route("GET", "users/{id}/outlook/supportedTimeZones", list_time_zones, units=0, mailbox=True),
    Route("GET", "users/{id}/mailboxSettings", get_settings, READ_SETTINGS, units=0, mailbox=True),
    Route("POST", "users/{id}/translateExchangeIds", translate_ids, READ, units=0, mailbox=True),
    *_in_named_calendar(),
]
