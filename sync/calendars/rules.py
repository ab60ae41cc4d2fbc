"""What may be changed of a reservation, and what a change makes of its link: pure."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sync.calendars.details import details, differing, remembered, shared, told_of
from sync.calendars.model import Person, Policy, Reservation, Room, Times
from sync.calendars.reservations import fresh_link
from sync.calendars.series import LOCAL
from sync.errors import RequestError

MOVED = "moved"
FROM = "from:"
"""The cause of a link whose organizer's copy still names another room: with the id of that one."""

_SENT = ("title", "private", "times", "recurrence")


def unsent(one: Reservation) -> bool:
    """Whether Microsoft has certainly not been told of it. An occurrence comes with its series."""
    return one.link.state in ("none", "creating") and not one.link.transaction and not one.series


def in_reach(one: Reservation, policy: Policy) -> bool:
    """Whether the portal may change the event of a reservation, or there is none to be changed yet."""
    return one.link.organizer == "room" or unsent(one) or (one.link.organizer == "user" and policy.write_user)


def check_change(known: Reservation, after: Reservation, policy: Policy) -> None:
    """Raises RequestError `owner-is-organizer`, `organizer-locked`."""
    if known.link.organizer != "room" and _address(known.owner) != _address(after.owner):
        raise RequestError(
            "The owner is the organizer of the meeting",
            code="owner-is-organizer",
            status=409,
            remedy="Cancel it and make another one for the other owner.",
        )
    if _is_told(known, after):
        check_reach(known, policy)


def _is_told(known: Reservation, after: Reservation) -> bool:
    """Whether a change is one of the event, and not of what the portal alone keeps."""
    parts = shared(known) & differing(known, after)
    return bool(parts) or any(getattr(known, name) != getattr(after, name) for name in _SENT)


def _address(person: Person | None) -> str:
    return person.email.lower() if person else ""


def check_reach(known: Reservation, policy: Policy) -> None:
    """Raises RequestError `organizer-locked`."""
    if not in_reach(known, policy):
        raise _locked()


def check_sent(known: Reservation) -> None:
    """Raises RequestError `being-sent` where a meeting may be in its owner's calendar, and nobody knows as which."""
    if known.link.state == "creating" and known.link.organizer == "user" and not unsent(known):
        raise RequestError(
            "The reservation is being sent to its owner's calendar",
            code="being-sent",
            status=409,
            remedy="Try again in a minute.",
        )


def _locked() -> RequestError:
    return RequestError(
        "The meeting is in its organizer's calendar",
        code="organizer-locked",
        status=409,
        remedy="Have the organizer change it in Outlook, or enable user calendar delegation.",
    )


def next_edition(one: Reservation) -> Reservation:
    return replace(one, edition=one.edition + 1)


def timing_changed(known: Reservation, after: Reservation) -> bool:
    """Whether it needs its room at another time; a series also where its clocks are those of another zone."""
    if known.kind == "series" and known.times.zone != after.times.zone:
        return True
    return known.times.canonical() != after.times.canonical() or known.recurrence != after.recurrence


def changed(known: Reservation, revised: Reservation, room: Room, now: datetime) -> Reservation:
    """`revised` with the link and the state that it gets where Microsoft has to be told of what changed.

    A declined one that gets another time is tried anew.
    """
    revised = _remembered(known, replace(revised, updated_at=now))
    if not known.live:
        return _revived(revised, room) if timing_changed(known, revised) else revised
    if not _is_told(known, revised):
        return revised
    fields: dict[str, Any] = {"sync_state": "pending", "note": ""}
    if known.kind == "occurrence":
        fields["kind"] = "exception"
    told = replace(revised, **fields)
    return told if known.link.state == "creating" else told.linked(state="updating")


def _remembered(known: Reservation, revised: Reservation) -> Reservation:
    """`revised` with what Microsoft has of its attendees and notes, where it has any."""
    return revised if unsent(known) else remembered(known, revised)


def _revived(one: Reservation, room: Room) -> Reservation:
    on_user = one.link.organizer == "user"
    back = replace(one, status="awaitingRoom" if on_user else "confirmed", sync_state="pending", note="")
    if one.link.state == "deleting" or on_user or one.series:
        return back.linked(state="updating", cause="")
    return replace(back, generation=one.generation + 1, link=fresh_link("room", room, one.owner))


def cancelled(known: Reservation, now: datetime) -> Reservation:
    """It is over for the portal; where Microsoft knows of it, it is still to be told."""
    over = known.link.state == "gone" or unsent(known)
    ended = replace(known, status="cancelled", sync_state="synced" if over else "pending", note="", updated_at=now)
    return ended.linked(state="gone" if over else "deleting", cause=LOCAL)


def moved(
    known: Reservation, revised: Reservation, room: Room, former: Reservation | None, now: datetime
) -> Reservation:
    """The reservation in another `room`. `former` is what it left there when it was moved away from it before."""
    times = revised.times
    here = replace(
        revised,
        room=room.id,
        archived=(),
        times=Times.days(times.first, times.last, room.time_zone) if times.first and times.last else times,
        sync_state="pending",
        note="",
        updated_at=now,
    )
    here = _remembered(known, here)
    if known.link.organizer == "room" or unsent(known):
        return _made_there(known, here, room, former)
    return _invited_there(known, here, former)


def _made_there(known: Reservation, here: Reservation, room: Room, former: Reservation | None) -> Reservation:
    """It gets an event in the new room; where it was there before, and its event still is, that one is taken up again."""
    on_user = known.link.organizer == "user"
    here = replace(
        here,
        generation=max(known.generation, former.generation if former else 0) + 1,
        status="awaitingRoom" if on_user else "confirmed",
        link=fresh_link("user" if on_user else "room", room, here.owner),
    )
    if former is not None and former.link.state == "deleting":
        link = replace(former.link, state="updating" if former.link.room_event else "creating", cause="")
        return told_of(replace(here, generation=former.generation, link=link), details(former))
    return here


def _invited_there(known: Reservation, here: Reservation, former: Reservation | None) -> Reservation:
    """Its organizer's copy names another room, from which an answer is awaited. Microsoft knows of the last room that it
    was told of: back there, nothing has happened.
    """
    told = known.link.cause.startswith(FROM) and known.link.cause.removeprefix(FROM)
    link = replace(here.link, state="updating", former=None, room_event="", room_etag="")
    if told == here.room and former is not None:
        return replace(here, status="confirmed", link=replace(link, room_event=former.link.room_event, cause=""))
    return replace(here, status="awaitingRoom", link=replace(link, cause=FROM + (told or known.room)))


def left_behind(known: Reservation, room: str, now: datetime) -> Reservation:
    """What stays in the old room of a reservation that was moved: it tells where that went. An event of the room's own is
    to be deleted.
    """
    over = known.link.state == "gone" or known.link.organizer != "room" or unsent(known)
    gone = replace(known, status="cancelled", sync_state="synced" if over else "pending", note="", updated_at=now)
    return gone.linked(state="gone" if over else "deleting", cause=f"{MOVED}:{room}")
