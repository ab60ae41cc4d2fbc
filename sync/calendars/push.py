"""From the portal to Graph: what waits in one room is sent, one reservation after the other."""

from collections.abc import Callable, Collection, Mapping

from sync.calendars.cancels import cancel
from sync.calendars.creates import create
from sync.calendars.event import Unreadable
from sync.calendars.model import Reservation
from sync.calendars.outcomes import give_up, roll_back
from sync.calendars.updates import update
from sync.calendars.visit import OutOfReach, Visit
from sync.errors import Forbidden, GraphError, NotFound

_ORDER = {"deleting": 0, "updating": 1, "creating": 2}
_SENDERS: Mapping[str, Callable[[Visit, Reservation], None]] = {
    "creating": create,
    "updating": update,
    "deleting": cancel,
}
PASSES = 2


def push(visit: Visit, *, recurring: bool, what: Collection[str] = _ORDER) -> bool:
    """Send what waits, of these link states, each committed by itself; False when the slice's time was up before the end.

    Without `recurring`, what the portal repeats is left for the ongoing sync. What another send has touched, such as an
    occurrence whose series now has its event, is sent after it. Raises Forbidden and NotFound where the room's mailbox
    refuses.
    """
    tried: dict[str, Reservation] = {}
    for _ in range(PASSES):
        for waiting in _waiting(visit, what, tried):
            if visit.work.time_is_up():
                return False
            one = visit.ledger.get(waiting.id)
            if one is None or one.link.state not in what:
                continue
            tried[one.id] = one
            if not recurring and _repeats(one):
                visit.ledger.count("skipped")
                visit.ledger.note(one.id, "skipped", "recurring-not-sent")
                continue
            _send(visit, one)
    visit.ledger.settle()
    return True


def _send(visit: Visit, one: Reservation) -> None:
    """Send one, and commit what became of it. It waits for the next run where a user's mailbox does not answer.

    What Graph refuses for good concerns this one alone, unless it is the room's mailbox that is closed or gone.
    """
    try:
        _SENDERS[one.link.state](visit, one)
    except Unreadable as bad:
        roll_back(visit, visit.ledger.get(one.id) or one, str(bad))
    except OutOfReach:
        visit.left.add(one.id)
        visit.ledger.count("skipped")
        visit.ledger.note(one.id, "skipped", "user-mailbox-silent")
    except (Forbidden, NotFound):
        raise
    except GraphError:
        give_up(visit, visit.ledger.get(one.id) or one)
    visit.ledger.commit(visit.work.now())


def _waiting(visit: Visit, what: Collection[str], tried: Mapping[str, Reservation]) -> list[Reservation]:
    """What has not been tried as it is now, in the order that frees time before it takes some."""
    waiting = [one for one in visit.ledger if one.link.state in what and tried.get(one.id) != one]
    waiting = [one for one in waiting if one.id not in visit.left]
    return sorted(waiting, key=lambda each: (_ORDER[each.link.state], each.updated_at))


def _repeats(one: Reservation) -> bool:
    """A recurring reservation of the portal's, or an occurrence of one (`kind` single: it never was part of a series)."""
    return one.origin == "portal" and one.kind != "single"


def resend(visit: Visit) -> None:
    """Send again what may have been put on its owner's calendar, its answer being lost.

    Before anything is read: only the answer tells which meeting of the owner it is.
    """
    for one in visit.ledger:
        link = one.link
        if (
            link.state == "creating"
            and link.payload
            and link.organizer == "user"
            and not (visit.full and _repeats(one))
        ):
            _send(visit, one)
