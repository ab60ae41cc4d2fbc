"""Reservations of the portal are made: never two at a time in a room.

Whatever takes up time is checked against the room's reservations and written under the condition that no time was taken
or freed there meanwhile. What Microsoft has to be told of is in the same transaction as the row that says so.
"""

from uuid import UUID, uuid5

from sync.calendars import reservations, series, store
from sync.calendars.commits import Step
from sync.calendars.desk import Check, Desk
from sync.calendars.model import Reservation
from sync.calendars.models import ReservationIn
from sync.calendars.parts import Batch, insert
from sync.errors import RequestError
from sync.feed import Change

_IDS = UUID("0d6f6bb1-3c0e-4f3c-8f7e-0a7b6f1f6a57")


def create(desk: Desk, wanted: ReservationIn, token: str) -> Reservation:
    """A new reservation, or a series with its occurrences; `token` names the request: repeated, it makes no second one.

    Raises RequestError `room-inactive`, `room-not-found`, `room-busy`, `user-calendar-not-allowed`, and where something does not fit.
    """
    desk.must_be_active()
    reservation_id = str(uuid5(_IDS, f"{desk.name}\n{desk.room.id}\n{token}"))
    made = reservations.build(wanted, reservation_id, desk.room, desk.policy, desk.now)
    parts = _occurrences(desk, made)
    times = [made.times] if made.takes_time else [one.times for one in parts]
    check, batch = Check(desk), Batch(desk)
    data = desk.app.tables.data

    def decide() -> Step[Reservation | None]:
        if before := store.load_reservation(data, desk.name, desk.room.id, made.id):
            return Step(before[0])  # by the same request, which died before it could answer
        claim = check.claim(times, lambda one: made.id in (one.id, one.series))
        writes, changes = batch.step(parts, {}, lambda _: [])
        told = [Change("reservation", made.id, "created"), *changes]
        return Step(None, [insert(made), claim, *store.writes_to_send([made]), *writes], told)

    try:
        before, _ = desk.transact(decide)
    except RequestError:
        batch.take_back()
        raise
    desk.start_run()
    return before or made


def _occurrences(desk: Desk, made: Reservation) -> list[Reservation]:
    """Those of a new series; none of anything else."""
    return series.expand(made, [], desk.window, desk.now) if made.kind == "series" else []
