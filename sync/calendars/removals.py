"""What is gone from a room's calendar: proved one by one, and not believed at once where it is much."""

from collections.abc import Iterable
from datetime import timedelta

from sync.calendars.event import Remote
from sync.calendars.findings import Findings, parse
from sync.calendars.mailboxes import Denied, fetch_events
from sync.calendars.merge import decide, vanished
from sync.calendars.model import Reservation
from sync.calendars.organizers import declined_by_room, see_again
from sync.calendars.visit import Visit

SAFE_REMOVALS, SAFE_SHARE = 5, 0.3
AGREE_AFTER = timedelta(minutes=10)


def remove(visit: Visit, findings: Findings, matched: set[str]) -> None:
    """End what is proved to be gone, unless it is so much that a second look has to agree."""
    missing = [one for one in visit.ledger if one.id not in matched and _seems_gone(visit, one, findings)]
    if not missing:
        visit.set(suspects=0, suspected_at=None)
        return
    still_there = _still_there(visit, missing, findings)
    unknown = [one for one in missing if {one.link.room_event, one.link.master} & findings.unreadable]
    gone = [one for one in missing if one.id not in still_there and one not in unknown]
    for one in missing:
        if one.id in still_there:
            seen = see_again(visit, one, still_there[one.id])
            visit.ledger.apply(one, decide(one, seen, visit.room.id, visit.work.now()))
    if _is_too_much(visit, gone):
        _hold(visit, gone)
        return
    visit.set(suspects=0, suspected_at=None)
    declined = declined_by_room(visit, (one for one in gone if one.link.state != "deleting"))
    for one in gone:
        visit.ledger.apply(one, vanished(one, visit.work.now(), declined=(one.series or one.id) in declined))


def _seems_gone(visit: Visit, one: Reservation, findings: Findings) -> bool:
    """Leaving the window is not deletion: only what should be in a listing and is not, or is said to be removed. What has
    taken place stays as it was.
    """
    link = one.link
    if one.kind != "series" and one.times.end <= visit.work.now() and link.state != "deleting":
        return False
    if link.state not in ("linked", "updating", "deleting") or not link.room_event:
        return False
    if {link.room_event, link.master} & findings.unreadable:
        return False
    if {link.room_event, link.master} & (findings.removed | findings.gone_series):
        return True
    start, end = visit.window
    inside = one.kind != "series" and one.times.start < end and start < one.times.end
    listed = findings.complete or link.master in findings.instances
    return inside and listed and link.room_event not in findings.seen()


def _still_there(visit: Visit, missing: Iterable[Reservation], findings: Findings) -> dict[str, Remote]:
    """The events, by reservation, of those that are there all the same. A series that is gone takes all of it along; what
    nobody may read is `unreadable` and may be there.
    """
    gone = set(findings.gone_series)
    masters = {one.link.master for one in missing if one.link.master} - gone - findings.masters.keys()
    if masters:
        answers = fetch_events(visit.graph, visit.mailbox, masters)
        gone |= {master for master, raw in answers.items() if raw is None}
        findings.unreadable |= {master for master, raw in answers.items() if isinstance(raw, Denied)}
    clear = gone | findings.unreadable
    doubtful = {one.link.room_event: one.id for one in missing if not {one.link.room_event, one.link.master} & clear}
    found: dict[str, Remote] = {}
    for event, raw in (fetch_events(visit.graph, visit.mailbox, doubtful) if doubtful else {}).items():
        if isinstance(raw, Denied):
            findings.unreadable.add(event)
        elif raw is not None and (remote := parse(visit, event, raw, findings)):
            found[doubtful[event]] = remote
    return found


def _is_too_much(visit: Visit, gone: list[Reservation]) -> bool:
    now = visit.work.now()
    units = _units(one for one in gone if one.live and one.link.state != "deleting")
    total = _units(one for one in visit.ledger if one.live and one.link.room_event and one.times.end > now)
    if len(units) <= max(SAFE_REMOVALS, SAFE_SHARE * len(total)):
        return False
    since = visit.state.suspected_at
    return since is None or now - since < AGREE_AFTER or len(gone) > visit.state.suspects


def _units(reservations: Iterable[Reservation]) -> set[str]:
    """A series is one thing to lose."""
    return {one.series or one.id for one in reservations}


def _hold(visit: Visit, gone: list[Reservation]) -> None:
    """Delete nothing, and look at everything anew ten minutes after that much was first missed."""
    more = len(gone) > visit.state.suspects
    since = visit.work.now() if more or not visit.state.suspected_at else visit.state.suspected_at
    visit.set(suspects=len(gone), suspected_at=since, delta_link="", retry_at=since + AGREE_AFTER)
    for one in gone:
        visit.ledger.count("skipped")
        visit.ledger.note(one.id, "skipped", "remote-empty")
