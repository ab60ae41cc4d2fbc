"""Reservations of the portal are made: never two at a time in a room.

Whatever takes up time is checked against the room's reservations and written under the condition that no time was taken
or freed there meanwhile. What Microsoft has to be told of is in the same transaction as the row that says so.
"""

from uuid import UUID, uuid5

from sync.calendars import reservations, store
from sync.calendars.commits import Step, transact
from sync.calendars.desk import Check, Desk, Found, Written, change, insert, must_be_active, parts_of, write
from sync.calendars.models import ReservationIn
from sync.errors import RequestError

_IDS = UUID("0d6f6bb1-3c0e-4f3c-8f7e-0a7b6f1f6a57")


def create(desk: Desk, wanted: ReservationIn, token: str) -> Found:
    """A new reservation, or a series with its occurrences; `token` names the request: repeated, it makes no second one.

    Raises RequestError `room-inactive`, `room-busy`, `user-calendar-not-allowed`, and where something does not fit.
    """
    must_be_active(desk.room)
    reservation_id = str(uuid5(_IDS, f"{desk.name}\n{desk.room.id}\n{token}"))
    made = reservations.build(wanted, reservation_id, desk.room, desk.policy, desk.now)
    parts = parts_of(desk, made, [])
    times = [one.times for one in parts] if made.kind == "series" else [made.times]
    check = Check(desk, times, lambda one: made.id in (one.id, one.series))
    written = Written()

    def decide() -> Step[Found | None]:
        claimed, own = check.claim()
        if own and (before := store.load_reservation(desk.app.tables.data, desk.name, desk.room.id, made.id)):
            return Step(before)  # the same request before, which died before it could answer
        rest = written.ahead(desk, parts)
        writes = [
            insert(made),
            *claimed,
            *store.writes_to_send([made]),
            *(write(one) for one in rest),
        ]
        return Step(None, writes, [change(one, "created") for one in (made, *parts)])

    try:
        before, etag = transact(desk.app, desk.name, decide)
    except RequestError:
        written.take_back(desk)
        raise
    desk.start_run()
    return before or (made, etag)
