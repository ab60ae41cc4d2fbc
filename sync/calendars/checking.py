"""Check connection, for calendars: the tenant's rooms, the calendar of a room, and that other mailboxes are closed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from sync.calendars.event import READ_HEADERS
from sync.calendars.rooms import REMEDY
from sync.calendars.store import load_rooms
from sync.errors import Deferred, Forbidden, GraphError, NotFound, RequestError, SignInError
from sync.models import FindingOut

if TYPE_CHECKING:
    from sync.graph.client import GraphClient
    from sync.wiring import App

LIST_ROOMS = frozenset({"Place.Read.All", "Place.ReadWrite.All"})
CALENDARS = "Calendars.ReadWrite"
ROOMS = 5  # asked at most, until one has a mailbox
_LATER = "Check again in some minutes."
_NEW_GRANT = "A new grant may take up to an hour to work; then check again."

Access = Literal["open", "denied", "missing", "unknown"]


@dataclass(frozen=True)
class Probe:
    """What was found. `scoped`: the app reaches rooms by a role in Exchange, although its token has none for that."""

    findings: list[FindingOut]
    scoped: bool = False


def probe(app: "App", connection: str, graph: "GraphClient", granted: Collection[str], outside: str | None) -> Probe:
    """One small live call for each question; whether `outside` is closed is asked only where it is given.

    Raises RequestError where that is a room that is linked.
    """
    rooms = [room.external_calendar for room in load_rooms(app.tables.data, connection) if room.active]
    if outside in rooms:
        raise RequestError("This mailbox is a room", fields=[("/outsideMailbox", "must not be a room that is linked")])
    now = app.clock()
    has_role = any(role.startswith("Calendars.") for role in granted)
    places, listed = _places(graph) if LIST_ROOMS & set(granted) else (None, [])
    room, lost = _first_access(graph, rooms[:ROOMS], now)
    if not rooms and not has_role and listed:
        room = "open" if _access(graph, listed[0], now) == "open" else None
    shown = room is not None and (has_role or room != "denied")
    findings = [
        *([places] if places else []),
        *([_calendar(room, lost)] if room is not None and shown else []),
        *([_scope(_access(graph, outside, now), room)] if outside else []),
    ]
    return Probe(findings, scoped=room == "open" and not has_role)


def _first_access(graph: "GraphClient", rooms: Sequence[str], now: datetime) -> tuple[Access | None, int]:
    """The way into the first of these that has a mailbox, and how many before it have none; None where there is no room."""
    found: Access | None = None
    for lost, room in enumerate(rooms):
        found = _access(graph, room, now)
        if found != "missing":
            return found, lost
    return found, len(rooms)


def _places(graph: "GraphClient") -> tuple[FindingOut, list[str]]:
    """Whether the tenant's rooms can be listed, and the address of the first."""
    try:
        page = graph.page("/places/microsoft.graph.room", params={"$top": "1"})
    except Forbidden:
        detail = "Graph refuses to list the tenant's rooms although the token has the right."
        return _finding("places", "error", "places-forbidden", detail, _NEW_GRANT), []
    except (GraphError, Deferred, SignInError):
        return _finding("places", "warning", "places-unknown", "The tenant's rooms could not be listed.", _LATER), []
    listed = [address for one in page.items if isinstance(address := one.get("emailAddress"), str) and address]
    return _finding("places", "ok", "places-listed", "The tenant's rooms can be listed."), listed


def _access(graph: "GraphClient", mailbox: str, now: datetime) -> Access:
    """Whether the app gets into a mailbox's calendar: one minute of it is asked for (Learn: List calendarView)."""
    start, end = (at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in (now, now + timedelta(minutes=1)))
    params = {"startDateTime": start, "endDateTime": end, "$select": "id", "$top": "1"}
    try:
        graph.page(f"/users/{quote(mailbox, safe='@')}/calendarView", params=params, headers=READ_HEADERS)
    except Forbidden:
        return "denied"
    except NotFound:
        return "missing"
    except (GraphError, Deferred, SignInError):
        return "unknown"
    return "open"


def _calendar(access: Access, lost: int) -> FindingOut:
    """What the way into a room says, and how many rooms have no mailbox: that is each room's own trouble."""
    match access:
        case "open" if lost:
            detail = "The calendar of a room can be read; another room has no mailbox."
            return _finding("calendar", "warning", "mailbox-not-found", detail, REMEDY["mailbox-not-found"])
        case "open":
            return _finding("calendar", "ok", "room-reached", "The calendar of a room can be read.")
        case "denied":
            return _finding("calendar", "error", "room-denied", "A room's mailbox is closed.", REMEDY["room-denied"])
        case "missing":
            detail = "A room has no mailbox."
            return _finding("calendar", "warning", "mailbox-not-found", detail, REMEDY["mailbox-not-found"])
        case _:
            return _finding("calendar", "warning", "room-unknown", "A room's calendar could not be read.", _LATER)


def _scope(access: Access, room: Access | None) -> FindingOut:
    """Whether a mailbox that is no room is closed. That it is proves nothing where the rooms are, too."""
    if access == "denied" and room == "open":
        return _finding("scope", "ok", "mailbox-scope-proven", "A mailbox that is no room is closed to the app.")
    if access == "denied":
        detail = "The mailbox is closed, but no room was seen to be open."
        return _finding("scope", "warning", "mailbox-scope-unproven", detail, "Link a room, then check again.")
    if access == "open":
        remedy = (
            "In Exchange Online, give the app the role Application Calendars.ReadWrite (RBAC for Applications) in a "
            "management scope that holds the rooms alone. Then remove Calendars.ReadWrite from its permissions in "
            "Entra: as long as both are there, the wider one counts. It may take two hours to work."
        )
        return _finding(
            "scope", "warning", "mailbox-scope-open", "The app reaches mailboxes that are no rooms.", remedy
        )
    if access == "missing":
        detail, remedy = "There is no mailbox of that address.", "Name somebody who has a mailbox."
        return _finding("scope", "warning", "mailbox-scope-no-mailbox", detail, remedy)
    return _finding("scope", "warning", "mailbox-scope-unknown", "The mailbox could not be asked for.", _LATER)


def _finding(
    finding: str, level: Literal["ok", "warning", "error"], code: str, detail: str, remedy: str = ""
) -> FindingOut:
    return FindingOut(id=finding, level=level, code=code, detail=detail, remedy=remedy)
