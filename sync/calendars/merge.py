"""What becomes of a reservation when Graph shows its event: a pure comparison with what both sides last agreed on.

Fields are compared in groups. A group that one side changed goes to the other; where both changed it, Graph wins and
the portal's value is told of. A cancelled event always wins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from sync.calendars.details import as_told, seen_with, waiting
from sync.calendars.event import Remote, people
from sync.calendars.model import (
    PLACEHOLDER,
    PRIVATE,
    Agreed,
    Kind,
    Link,
    Organizer,
    Person,
    Reservation,
    Status,
    SyncState,
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
"""Why a reservation has ended; what moved to another room names it behind a colon."""
NO_RESPONSE = "room-no-response"
_OF_KIND = {"series": "series "}  # a single event that became a series keeps its id


@dataclass(frozen=True)
class Title:
    """A title and where it comes from; a private one is not the real one."""

    text: str
    source: TitleSource
    private: bool = False


@dataclass(frozen=True)
class Seen:
    """One instance as the room's mailbox shows it, with what the organizer's copy adds.

    `people` are those whom the organizer's copy invites, None where it was not read: the room is not told of each of them.
    """

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
    people: tuple[Person, ...] | None = None
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
        return "tentative" if self.remote.response in ("tentativelyAccepted", "notResponded") else "confirmed"

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
    """What to store (None: nothing), how the item counts, what the portal is told (None: nothing), and which of the
    portal's own changes were `lost` to Graph's.
    """

    reservation: Reservation | None
    outcome: Outcome
    change: ChangeKind | None = None
    lost: tuple[Group, ...] = ()


def changed(one: Agreed, other: Agreed) -> frozenset[Group]:
    """The groups in which two states differ."""
    return frozenset(group for group, part in _GROUPS.items() if part(one) != part(other))


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
        return Verdict(None, "skipped")
    made = seen.remote.created_at or now
    own_id = occurrence_id(seen.series, seen.original_start) if seen.series and seen.original_start else ""
    reservation = Reservation(
        id=own_id or imported_id(room, f"{_OF_KIND.get(seen.kind, '')}{seen.remote.id}"),
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
        attendees=() if seen.title.private else _people(seen),
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


def _people(seen: Seen) -> tuple[Person, ...]:
    return people(seen.remote.attendees) if seen.people is None else seen.people


def _bound(link: Link, seen: Seen, base: Agreed, former: Agreed | None = None) -> Link:
    """The link after this sight of the event, on which both sides agree as `base` says."""
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
        former=former,
        sent=link.sent if _may_be_there(link, seen) else None,
        payload=None,
        unread=seen.unread,
        created_at=seen.remote.created_at or link.created_at,
        cause="",
    )


def _may_be_there(link: Link, seen: Seen) -> bool:
    """Whether this sight does not tell what became of a change whose answer is unknown; nothing tells of notes."""
    if link.state == "updating" and link.told is not None:
        return True
    return seen.organizer != "room" and seen.organizer_times is None


def _return(known: Reservation, seen: Seen, now: datetime) -> Verdict:
    """An ended reservation whose event is there. What the portal ended is on its way out, unless it was ended before
    it had an event; anything else is back.
    """
    if seen.status in ("cancelled", "declined"):
        return Verdict(None, "unchanged")
    if not ended_here(known.link):
        back = _take(as_told(known), seen, frozenset(_GROUPS), seen.agreed(), now)
        return Verdict(replace(back, sync_state="synced", note=""), "restored", "restored")
    if known.link.room_event or seen.organizer != "room":
        return Verdict(None, "unchanged")
    late = replace(_bound(known.link, seen, seen.agreed()), state="deleting", cause=known.link.cause)
    return Verdict(replace(known, link=late), "unchanged")


def ended_here(link: Link) -> bool:
    """Whether the portal has ended it, or this side for it."""
    return link.cause in (LOCAL, CLASH) or link.cause.startswith(MOVED)


def _while_deleting(known: Reservation, seen: Seen, now: datetime) -> Verdict:
    """The portal has cancelled it and Graph is not told yet. A cancelled event needs no telling; a new time revives it,
    unless it goes on in another room. What else is new is taken over unseen, in case the cancellation is refused.
    """
    cause = known.link.cause or LOCAL
    if seen.status in ("cancelled", "declined"):
        return Verdict(ended_there(known), "unchanged")
    base = known.link.base or seen.agreed()
    shown = _shown_to(known, seen, base)
    theirs = changed(base, shown)
    if "time" in theirs and not cause.startswith(MOVED):
        back = _take(as_told(known), seen, frozenset(_GROUPS), shown, now)
        back = replace(back, sync_state="conflict", note="moved-in-outlook")
        return Verdict(back, "restored", "restored", ("time",))
    after = _take(known, seen, theirs, shown, known.updated_at).linked(state="deleting", cause=cause)
    after = replace(after, status=known.status)
    return Verdict(None if after == known else after, "unchanged")


def _merge(known: Reservation, seen: Seen, now: datetime) -> Verdict:
    if seen.status in ("cancelled", "declined"):
        ended = replace(known, status=seen.status, updated_at=now, sync_state=_ended_state(seen.status))
        ended = ended.linked(state="gone", cause=REMOTE, room_etag=seen.remote.etag)
        return Verdict(ended, "deleted", "deleted" if seen.status == "cancelled" else "updated")
    base = known.link.base or _never_agreed(known, seen)
    shown = _shown_to(known, seen, base)
    if known.link.sent is not None and known.link.state == "updating":
        base = _with_sent(base, known.link.sent, shown)
    ours = changed(base, known.agreed()) if known.link.state in ("creating", "updating") else frozenset()
    theirs = changed(base, shown)
    if base.title is None and not base.private:
        theirs -= ours & {"title"}  # Graph's was not known before: that is no change
    lost = tuple(sorted(theirs & ours & changed(shown, known.agreed())))
    after = _take(known, seen, theirs, shown, known.updated_at)
    left = bool(ours and changed(shown, after.agreed())) or bool(waiting(after))
    after = _in_step(known, after, lost=bool(lost), left=left)
    if after == known or _only_versions_differ(known, after):
        return Verdict(None, "unchanged")
    if replace(after, link=known.link) == known:
        return Verdict(after, "unchanged")
    return Verdict(replace(after, updated_at=now), "updated", "updated", lost)


def _only_versions_differ(known: Reservation, after: Reservation) -> bool:
    """Whether nothing of an occurrence is new but its etag, which is that of its series: any change there renews it."""
    return after.kind == "occurrence" and after.linked(room_etag=known.link.room_etag) == known


def _with_sent(base: Agreed, sent: Agreed, shown: Agreed) -> Agreed:
    """`base` with what Graph has from the portal itself: an earlier change whose answer never came."""
    arrived = changed(base, shown) - changed(sent, shown)
    if "time" in arrived:
        base = replace(base, start=sent.start, end=sent.end)
    if "title" in arrived:
        base = replace(base, title=sent.title, private=sent.private)
    if "pattern" in arrived:
        base = replace(base, pattern=sent.pattern)
    return base


def _never_agreed(known: Reservation, seen: Seen) -> Agreed:
    """What to compare with where nothing was agreed on: an occurrence that the portal changed before its series was
    sent is still to be changed at Graph.
    """
    return seen.agreed() if known.link.state == "updating" else known.agreed()


def _in_step(known: Reservation, after: Reservation, *, lost: bool, left: bool) -> Reservation:
    """`after` with how far both sides are in step: the portal's change was `lost`, or some of it is `left` to be sent."""
    note = "" if known.note == NO_RESPONSE and after.status != "awaitingRoom" else known.note
    if left:
        after = after.linked(state="updating")
    if lost:
        return replace(after, sync_state="conflict", note="outlook-won")
    over = known.sync_state == "rejected" and after.times != known.times  # why it could not be moved, before it was
    if (known.sync_state == "pending" and not left) or over:
        return replace(after, sync_state="synced", note="" if over else note)
    return replace(after, note=note)


def _ended_state(status: Status) -> Literal["synced", "rejected"]:
    return "rejected" if status == "declined" else "synced"


def _shown_to(known: Reservation, seen: Seen, base: Agreed) -> Agreed:
    """What Graph says now. A title that it does not tell is the agreed one, and so is a time that is only late."""
    shown = seen.agreed()
    if seen.title.source == "placeholder" or (seen.title.private and base.private):
        shown = replace(shown, title=base.title, private=base.private)
    if _stale(known, seen):
        shown = replace(shown, start=base.start, end=base.end, pattern=base.pattern)
    return shown


def _stale(known: Reservation, seen: Seen) -> bool:
    """Whether the room's copy still shows the time from before a change that was sent to the organizer's calendar."""
    former, base = known.link.former, known.link.base
    if former is None or base is None:
        return False
    shown = seen.agreed()
    theirs = seen.organizer_times.canonical() if seen.organizer_times else (base.start, base.end)
    return (shown.start, shown.end) == (former.start, former.end) and theirs == (base.start, base.end)


def _take(known: Reservation, seen: Seen, groups: frozenset[Group], shown: Agreed, now: datetime) -> Reservation:
    """`known` with Graph's side of these groups, linked to the event as it is `shown` now."""
    taken: dict[str, Any] = {}
    if "time" in groups:
        taken["times"] = seen.times
    if "pattern" in groups:
        taken["recurrence"] = seen.remote.recurrence
    if "free" in groups:
        taken["blocking"] = not seen.remote.free
    if _takes_title(known, seen, groups):
        taken |= {"title": seen.title.text, "title_source": seen.title.source, "private": seen.title.private}
    if seen.organizer != "room":
        taken["owner"] = seen.remote.organizer
        known = seen_with(known, () if _is_hidden(known, seen) else _people(seen))
    after = replace(
        known,
        **taken,
        status=seen.status,
        kind="exception" if _is_being_changed(known) else seen.kind,
        series=seen.series,
        original_start=seen.original_start,
        updated_at=now,
    )
    return replace(after, link=_bound(known.link, seen, shown, known.link.former if _stale(known, seen) else None))


def _is_hidden(known: Reservation, seen: Seen) -> bool:
    """Whether nobody is to know who meets: the meeting is private, and the portal did not make it so."""
    return seen.title.private and not (known.private and known.title_source == "local")


def _is_being_changed(known: Reservation) -> bool:
    """Whether it is an occurrence that the portal has changed: Graph shows it as any other until it is told."""
    return known.kind == "exception" and known.link.state == "updating"


def ended_there(known: Reservation) -> Reservation:
    """What the portal has ended, now that Graph has nothing of it any more."""
    done: SyncState = "synced" if known.sync_state == "pending" else known.sync_state
    return replace(known, sync_state=done).linked(state="gone", cause=known.link.cause or LOCAL, sent=None)


def agreed_title(one: Reservation) -> Title:
    """The title that both sides last agreed on, whatever the portal has made of it since."""
    base = one.link.base
    if base is None:
        return Title(one.title, one.title_source, one.private)
    if base.title is not None:
        theirs: TitleSource = "room" if one.link.organizer == "room" else "organizer"
        return Title(base.title, "local" if one.origin == "portal" else theirs, base.private)
    return Title(PRIVATE, "organizer", private=True) if base.private else Title(PLACEHOLDER, "placeholder")


def _takes_title(known: Reservation, seen: Seen, groups: frozenset[Group]) -> bool:
    """A placeholder never replaces a known title, and yields to the first real one."""
    if seen.title.source == "placeholder":
        return False
    return "title" in groups or known.title_source == "placeholder"


def vanished(known: Reservation, now: datetime, *, declined: bool = False) -> Verdict:
    """What becomes of a reservation whose event is proved to be gone; `declined` by the room, the meeting going on."""
    if known.link.state == "gone":
        return Verdict(None, "unchanged")
    if known.link.state == "deleting":
        return Verdict(ended_there(known), "unchanged")
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
