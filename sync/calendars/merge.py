"""What becomes of a reservation when Graph shows its event: a pure comparison with what both sides last agreed on.

Fields are compared in groups. A group that one side changed goes to the other; where both changed it, Graph wins and
the portal's value is told of. A cancelled event always wins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from sync.calendars.event import Remote
from sync.calendars.model import (
    Agreed,
    Kind,
    Link,
    Organizer,
    Person,
    Reservation,
    Status,
    Times,
    TitleSource,
    imported_id,
    occurrence_id,
)
from sync.calendars.patterns import canonical
from sync.feed import ChangeKind
from sync.runs import Outcome

Group = Literal["time", "title", "free", "pattern"]
_GROUPS: Mapping[Group, Callable[[Agreed], Any]] = {
    "time": lambda agreed: (agreed.start, agreed.end),
    "title": lambda agreed: (agreed.title, agreed.private),
    "free": lambda agreed: agreed.free,
    "pattern": lambda agreed: agreed.pattern,
}
LOCAL, REMOTE, CLASH, MOVED = "local", "remote", "lost-clash", "moved"


@dataclass(frozen=True)
class Title:
    """A title and where it comes from; a private one is not the real one."""

    text: str
    source: TitleSource
    private: bool = False


@dataclass(frozen=True)
class Seen:
    """One instance as the room's mailbox shows it, with what the organizer's copy adds."""

    remote: Remote
    times: Times
    title: Title
    organizer: Organizer
    address: str
    master: str = ""
    series: str = ""
    original_start: datetime | None = None
    organizer_event: str = ""
    organizer_etag: str = ""
    organizer_times: Times | None = None
    unread: bool = False

    @property
    def status(self) -> Status:
        """Learn: event resource type (responseStatus of the room's copy)."""
        if self.remote.cancelled:
            return "cancelled"
        if self.organizer == "room":
            return "confirmed"
        if self.remote.response == "declined":
            return "declined"
        return "confirmed" if self.remote.response in ("accepted", "organizer") else "tentative"

    @property
    def kind(self) -> Kind:
        return self.remote.kind

    def agreed(self) -> Agreed:
        start, end = self.times.canonical()
        return Agreed(
            title=None if self.title.private or self.title.source == "placeholder" else self.title.text,
            start=start,
            end=end,
            cancelled=self.remote.cancelled,
            organizer=self.address,
            free=self.remote.free and self.kind != "series",
            private=self.title.private,
            pattern=canonical(self.remote.recurrence),
        )


@dataclass(frozen=True)
class Verdict:
    """What to store (None: nothing), how the item counts, what the portal is told (None: nothing), which of the
    portal's own changes were `lost` to Graph's, and why.
    """

    reservation: Reservation | None
    outcome: Outcome
    change: ChangeKind | None = None
    lost: tuple[Group, ...] = ()
    reason: str = ""


def changed(one: Agreed, other: Agreed) -> frozenset[Group]:
    """The groups in which two states differ. An unknown title differs from none, unless it became private or public."""
    return frozenset(
        group for group, part in _GROUPS.items() if part(one) != part(other) and not _blind(group, one, other)
    )


def _blind(group: Group, one: Agreed, other: Agreed) -> bool:
    return group == "title" and one.private == other.private and None in (one.title, other.title)


def decide(known: Reservation | None, seen: Seen, room: str, now: datetime) -> Verdict:
    """What becomes of the reservation of an instance that is there (perhaps as a cancelled one)."""
    if known is None:
        return _import(seen, room, now)
    match known.link.state:
        case "gone":
            return _return(known, seen, now)
        case "deleting":
            return _while_deleting(known, seen, now)
        case _:
            return _merge(known, seen, now)


def _import(seen: Seen, room: str, now: datetime) -> Verdict:
    if seen.status in ("cancelled", "declined"):
        return Verdict(None, "skipped", reason=f"already-{seen.status}")
    made = seen.remote.created_at or now
    own_id = occurrence_id(seen.series, seen.original_start) if seen.series and seen.original_start else ""
    reservation = Reservation(
        id=own_id or imported_id(room, seen.remote.id),
        room=room,
        kind=seen.kind,
        origin="microsoft",
        title=seen.title.text,
        title_source=seen.title.source,
        owner=_owner(seen),
        times=seen.times,
        created_at=made,
        updated_at=now,
        status=seen.status,
        blocking=not seen.remote.free,
        private=seen.title.private,
        attendees=_attendees(seen),
        recurrence=seen.remote.recurrence,
        series=seen.series,
        original_start=seen.original_start,
        sync_state="synced",
        link=_bound(Link(), seen, seen.agreed()),
    )
    return Verdict(reservation, "created", "created")


def _owner(seen: Seen) -> Person | None:
    """The organizer; nobody where the room itself is it, which tells nothing of who booked it."""
    return None if seen.organizer == "room" else seen.remote.organizer


def _attendees(seen: Seen) -> tuple[Person, ...]:
    people = () if seen.title.private else seen.remote.attendees
    return tuple(Person(one.name, one.email) for one in people if one.kind != "resource")


def _bound(link: Link, seen: Seen, base: Agreed) -> Link:
    """The link after this sight of the event. A title that is not known now stays the agreed one."""
    if link.base is not None and base.title is None and not base.private and not link.base.private:
        base = replace(base, title=link.base.title)
    return replace(
        link,
        state="linked",
        organizer=seen.organizer,
        organizer_address=seen.address,
        room_event=seen.remote.id,
        organizer_event=seen.organizer_event or link.organizer_event,
        organizer_etag=seen.organizer_etag or link.organizer_etag,
        master=seen.master,
        ical=seen.remote.ical or link.ical,
        room_etag=seen.remote.etag,
        base=base,
        payload=None,
        unread=seen.unread,
        created_at=seen.remote.created_at or link.created_at,
        cause="",
    )


def _return(known: Reservation, seen: Seen, now: datetime) -> Verdict:
    """An ended reservation whose event is there. What the portal itself ended is on its way out; anything else is back."""
    if known.link.cause in (LOCAL, CLASH, MOVED) or seen.status in ("cancelled", "declined"):
        return Verdict(None, "unchanged")
    back = _take(known, seen, frozenset(_GROUPS), now)
    return Verdict(replace(back, sync_state="synced", note=""), "restored", "restored")


def _while_deleting(known: Reservation, seen: Seen, now: datetime) -> Verdict:
    """The portal has cancelled it and Graph is not told yet. A cancelled event needs no telling; a new time revives it."""
    base = known.link.base
    if seen.status in ("cancelled", "declined"):
        return Verdict(known.linked(state="gone", cause=LOCAL), "unchanged")
    moved = base is not None and "time" in changed(base, seen.agreed()) and not _stale(known, seen)
    if moved and known.link.cause != CLASH:
        back = _take(known, seen, frozenset(_GROUPS), now)
        return Verdict(replace(back, sync_state="conflict", note="moved-in-outlook"), "restored", "restored", ("time",))
    if known.link.room_event == seen.remote.id and known.link.room_etag == seen.remote.etag:
        return Verdict(None, "unchanged")
    kept = replace(_bound(known.link, seen, base or seen.agreed()), state="deleting", cause=known.link.cause)
    return Verdict(replace(known, link=kept), "unchanged")


def _merge(known: Reservation, seen: Seen, now: datetime) -> Verdict:
    if seen.status in ("cancelled", "declined"):
        ended = replace(known, status=seen.status, updated_at=now, sync_state=_ended_state(seen.status))
        ended = ended.linked(state="gone", cause=REMOTE, room_etag=seen.remote.etag)
        return Verdict(ended, "deleted", "deleted" if seen.status == "cancelled" else "updated")
    base = known.link.base or known.agreed()
    theirs = changed(base, seen.agreed())
    if _stale(known, seen):
        theirs -= {"time"}
    ours = changed(base, known.agreed()) if known.link.state in ("creating", "updating") else frozenset()
    lost = tuple(sorted(theirs & ours))
    after = _take(known, seen, theirs, now)
    if "time" not in theirs:
        after = after.linked(base=replace(_base(after), start=base.start, end=base.end))
    else:
        after = after.linked(former=None)
    left = changed(_base(after), after.agreed()) if ours else frozenset()
    if left:
        after = after.linked(state="updating")
    after = replace(
        after, sync_state=_sync_state(known, lost=bool(lost), left=bool(left)), note="" if not lost else "outlook-won"
    )
    visible = theirs or _shown(after) != _shown(known)
    if after == known:
        return Verdict(None, "unchanged")
    if not visible:
        return Verdict(replace(after, updated_at=known.updated_at), "unchanged")
    return Verdict(after, "updated", "updated", lost)


def _base(reservation: Reservation) -> Agreed:
    return reservation.link.base or reservation.agreed()


def _ended_state(status: Status) -> Literal["synced", "rejected"]:
    return "rejected" if status == "declined" else "synced"


def _sync_state(known: Reservation, *, lost: bool, left: bool) -> Literal["pending", "synced", "conflict", "rejected"]:
    if lost:
        return "conflict"
    if left:
        return "pending"
    return "synced" if known.sync_state == "pending" else known.sync_state


def _shown(reservation: Reservation) -> tuple[Any, ...]:
    """What the portal can see of it beside title and time."""
    return (
        reservation.status,
        reservation.sync_state,
        reservation.kind,
        reservation.blocking,
        reservation.attendees,
        reservation.owner,
    )


def _stale(known: Reservation, seen: Seen) -> bool:
    """Whether the room's copy still shows the time from before a change that was sent to the organizer's calendar."""
    former, base = known.link.former, known.link.base
    if former is None or base is None:
        return False
    shown = seen.agreed()
    theirs = seen.organizer_times.canonical() if seen.organizer_times else (base.start, base.end)
    return (shown.start, shown.end) == (former.start, former.end) and theirs == (base.start, base.end)


def _take(known: Reservation, seen: Seen, groups: frozenset[Group], now: datetime) -> Reservation:
    """`known` with Graph's side of these groups, linked to the event as it is now."""
    taken: dict[str, Any] = {}
    if "time" in groups:
        taken["times"] = seen.times
    if "pattern" in groups:
        taken["recurrence"] = seen.remote.recurrence
    if _takes_title(known, seen, groups):
        taken |= {"title": seen.title.text, "title_source": seen.title.source, "private": seen.title.private}
    if seen.organizer != "room":
        taken |= {"owner": seen.remote.organizer, "attendees": _attendees(seen)}
    after = replace(
        known,
        **taken,
        status=seen.status,
        blocking=not seen.remote.free if "free" in groups else known.blocking,
        kind=seen.kind,
        series=seen.series,
        original_start=seen.original_start,
        updated_at=now,
    )
    return replace(after, link=_bound(known.link, seen, seen.agreed()))


def _takes_title(known: Reservation, seen: Seen, groups: frozenset[Group]) -> bool:
    """A placeholder never replaces a known title, and yields to the first real one."""
    if seen.title.source == "placeholder":
        return known.private
    return "title" in groups or known.title_source == "placeholder"


def vanished(known: Reservation, now: datetime, *, declined: bool = False) -> Verdict:
    """What becomes of a reservation whose event is proved to be gone; `declined` by the room, the meeting going on."""
    if known.link.state == "gone":
        return Verdict(None, "unchanged")
    if known.link.state == "deleting":
        return Verdict(known.linked(state="gone"), "unchanged")
    status: Status = "declined" if declined else "cancelled"
    ended = replace(
        known, status=status, updated_at=now, sync_state=_ended_state(status), note="room-declined" if declined else ""
    )
    return Verdict(ended.linked(state="gone", cause=REMOTE), "deleted", "updated" if declined else "deleted")


def loses(ours: Reservation, other: Reservation) -> bool:
    """Whether `ours` has to leave: it came from the portal and its event is the later one of two that overlap."""
    if ours.origin != "portal" or ours.link.organizer != "room":
        return False
    return _seniority(ours) > _seniority(other)


def _seniority(reservation: Reservation) -> tuple[datetime, str]:
    return reservation.link.created_at or reservation.created_at, reservation.link.room_event
