"""Reservations are changed, moved to another room, and cancelled."""

from collections.abc import Callable, Sequence

from storage.tables import Write
from sync.calendars import reservations, rules, series, store
from sync.calendars.commits import Step
from sync.calendars.desk import Check, Desk, Found, load
from sync.calendars.model import Reservation
from sync.calendars.models import ReservationPatch
from sync.calendars.parts import Batch, Stored, finish, insert, load_parts, take_away, write
from sync.errors import RequestError
from sync.feed import Change, ChangeKind

Match = Callable[[Reservation], None]


def _change(one: Reservation, kind: ChangeKind) -> Change:
    return Change("reservation", one.id, kind)


def _to_send(one: Reservation) -> list[Write]:
    return store.writes_to_send([one]) if one.link.state in ("creating", "updating", "deleting") else []


# --- change ----------------------------------------------------------------------------------------------------------


def edit(desk: Desk, reservation_id: str, patch: ReservationPatch, match: Match) -> Reservation:
    """The reservation with what `patch` names, in the room of the desk.

    Raises what `match` raises, RequestError `reservation-not-found`, `room-busy`, `organizer-locked`,
    `owner-is-organizer`, `series-unknown`, and where something does not fit.
    """
    check, batch = Check(desk), Batch(desk)

    def decide() -> Step[Reservation]:
        known, etag = load(desk, reservation_id)
        match(known)
        revised = reservations.revise(known, patch, desk.room.time_zone, desk.now)
        if revised == known:
            return Step(known)
        rules.check_change(known, revised, desk.policy)
        after = rules.changed(known, revised, desk.room, desk.now)
        if known.kind == "series":
            return _edit_series(check, batch, (known, etag), after)
        writes = [write(after, etag), *_to_send(after)]
        if rules.timing_changed(known, after):
            wanted = [after.times] if after.takes_time else []
            writes.append(check.claim(wanted, lambda one: one.id == after.id))
        return Step(after, writes, [_change(after, "updated")])

    after, etag = desk.transact(decide)
    if batch.plan is not None:
        finish(desk, after.id, batch.plan)
    if etag:
        desk.start_run()
    return after


def _edit_series(check: Check, batch: Batch, known: Found, after: Reservation) -> Step[Reservation]:
    """The step that changes a series with those of its occurrences that nobody changed by themselves."""
    desk, (before, etag) = batch.desk, known
    retimed = rules.timing_changed(before, after)
    if retimed and after.recurrence is None:
        raise RequestError(
            "The recurrence of this series is not one that this service knows",
            code="series-unknown",
            status=409,
            remedy="Change it in Outlook.",
        )
    after = rules.next_edition(after)
    stored = load_parts(desk, after.id)
    there = {name: found for name, found in stored.items() if series.is_there(found[0], before)}

    def plan(parts: Sequence[Reservation]) -> list[Reservation]:
        if not retimed:
            return series.restyle(after, parts, desk.window[0], desk.now)
        revived = parts if before.live else series.reopened(parts)
        return series.expand(after, revived, desk.window, desk.now)

    parts = plan([one for one, _ in there.values()])
    take_away(desk, stored.keys() - there.keys() - {one.id for one in parts})
    new_times = [one.times for one in parts if one.live and not _had(there, one)]
    claim = [check.claim(new_times, lambda one: after.id in (one.id, one.series))] if retimed else []
    writes, changes = batch.step(parts, there, plan)
    return Step(after, [write(after, etag), *claim, *_to_send(after), *writes], [_change(after, "updated"), *changes])


def _had(there: Stored, one: Reservation) -> bool:
    """Whether an occurrence had the room at that very time before."""
    found = there.get(one.id)
    return found is not None and found[0].live and found[0].times.canonical() == one.times.canonical()


# --- to another room -------------------------------------------------------------------------------------------------


def move(desk: Desk, to: Desk, reservation_id: str, patch: ReservationPatch, match: Match) -> Reservation:
    """The reservation with what `patch` names, in the room of the desk `to`; its id stays.

    Raises as `edit` does, and RequestError `room-inactive`, `series-stays`, `being-sent`.
    """
    to.must_be_active()
    check, data = Check(to), desk.app.tables.data

    def decide() -> Step[Reservation]:
        known, etag = load(desk, reservation_id)
        match(known)
        if known.kind != "single":
            raise RequestError(
                "A series and its occurrences stay in their room",
                code="series-stays",
                status=409,
                remedy="Cancel it and make another one in the other room.",
            )
        revised = reservations.revise(known, patch, to.room.time_zone, desk.now)
        rules.check_change(known, revised, desk.policy)
        rules.check_reach(known, desk.policy)
        rules.check_sent(known)
        former, former_etag = store.load_reservation(data, desk.name, to.room.id, known.id) or (None, None)
        here = rules.moved(known, revised, to.room, former, desk.now)
        left = rules.left_behind(known, to.room.id, desk.now)
        claim = check.claim([here.times] if here.takes_time else [], lambda one: one.id == here.id)
        writes = [
            write(here, former_etag) if former_etag else insert(here),
            write(left, etag),
            claim,
            store.touch_slots(desk.room.id),
            *_to_send(here),
            *_to_send(left),
        ]
        return Step(here, writes, [_change(here, "updated")])

    here, _ = to.transact(decide, desk)
    desk.start_run()
    return here


# --- cancel ----------------------------------------------------------------------------------------------------------


def cancel(desk: Desk, reservation_id: str, match: Match) -> None:
    """Cancel a reservation, or a series with all of its occurrences.

    Raises what `match` raises, RequestError `reservation-not-found`, `organizer-locked`.
    """
    batch = Batch(desk)

    def plan(parts: Sequence[Reservation]) -> list[Reservation]:
        return [series.ended(one, desk.now) for one in parts if one.live]

    def decide() -> Step[None]:
        known, etag = load(desk, reservation_id)
        match(known)
        rules.check_reach(known, desk.policy)
        after = rules.cancelled(known, desk.now)
        stored = load_parts(desk, known.id) if known.kind == "series" else {}
        there = {name: found for name, found in stored.items() if series.is_there(found[0], known)}
        writes, changes = batch.step(plan([one for one, _ in there.values()]), there, plan)
        first = [write(after, etag), store.touch_slots(desk.room.id), *_to_send(after)]
        return Step(None, [*first, *writes], [_change(after, "deleted"), *changes])

    desk.transact(decide)
    if batch.plan is not None:
        finish(desk, reservation_id, batch.plan)
    desk.start_run()
