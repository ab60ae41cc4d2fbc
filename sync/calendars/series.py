"""The occurrences of a series of the portal's own, as rows of their own: what they have to be. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sync.calendars.model import Link, Reservation, Times, occurrence_id
from sync.calendars.recurrence import occurrences

LOCAL = "local"
DROPPED = "left-series"
"""The note on an occurrence that its series has no place for any more: it comes back where the series has again."""


def is_there(part: Reservation, series: Reservation | None) -> bool:
    """Whether a reservation counts. An occurrence of the portal's own does with its series: it is written before it,
    and taken away after it. What had taken place before its series ended in Outlook stays.
    """
    if part.origin != "portal" or not part.series or part.status == "cancelled":
        return True
    if series is None or part.edition > series.edition:
        return False
    return series.status != "cancelled" or (series.link.cause != LOCAL and part.link.state == "linked")


def expand(
    series: Reservation, known: Iterable[Reservation], window: tuple[datetime, datetime], now: datetime
) -> list[Reservation]:
    """The occurrences that have to be written for a series to be whole in the window: new ones, changed ones, and
    those that it has no place for any more. What somebody changed or cancelled by itself stays, and so does what ended
    before the window.
    """
    stored = {one.id: one for one in known}
    wanted = {occurrence_id(series.id, times.start): times for times in planned(series, window)}
    made = [_placed(series, one, times, stored.get(one), now) for one, times in wanted.items()]
    left = [one for one in stored.values() if one.id not in wanted and _is_plain(one) and one.times.end > window[0]]
    dropped = [ended(one, now, note=DROPPED) for one in left if one.live]
    return [one for one in (*made, *dropped) if one != stored.get(one.id)]


def restyle(series: Reservation, known: Iterable[Reservation], since: datetime, now: datetime) -> list[Reservation]:
    """The occurrences that have to be written for a series whose title, people or notes were changed."""
    plain = [one for one in known if _is_plain(one) and one.live and one.times.end > since]
    made = [(one, _placed(series, one.id, one.times, one, now)) for one in plain]
    return [after for one, after in made if after != one]


def reopened(known: Iterable[Reservation]) -> list[Reservation]:
    """The occurrences of a series that was declined as a whole: they may come back with it."""
    return [
        replace(one, note=DROPPED) if one.status == "declined" and one.kind == "occurrence" else one for one in known
    ]


def planned(series: Reservation, window: tuple[datetime, datetime]) -> list[Times]:
    """When the occurrences in the window are by the recurrence, and the first one, however far ahead it is. There is no more
    than one a day.
    """
    assert series.recurrence is not None
    since, until = window[0], max(window[1], series.times.end)
    return occurrences(series.recurrence, series.times, since, until, (until - since).days + 2)


def _is_plain(one: Reservation) -> bool:
    """Whether it is as its series made it."""
    return one.kind == "occurrence" and (one.live or one.note == DROPPED)


def _placed(series: Reservation, one: str, times: Times, stored: Reservation | None, now: datetime) -> Reservation:
    """The occurrence as the series wants it; `stored` itself where that is how it is."""
    common: dict[str, Any] = {
        "title": series.title,
        "title_source": series.title_source,
        "owner": series.owner,
        "private": series.private,
        "attendees": series.attendees,
        "notes": series.notes,
        "times": times,
    }
    if stored is None:
        return Reservation(
            id=one,
            room=series.room,
            kind="occurrence",
            origin=series.origin,
            created_at=now,
            updated_at=now,
            status=series.status,
            series=series.id,
            original_start=times.start,
            edition=series.edition,
            link=Link(organizer=series.link.organizer, organizer_address=series.link.organizer_address),
            **common,
        )
    if not _is_plain(stored):
        return stored
    if not stored.live:
        common |= {"status": series.status, "note": "", "link": replace(stored.link, state="none", cause="")}
    if replace(stored, **common) == stored:
        return stored
    return replace(stored, **common, edition=series.edition, sync_state="pending", updated_at=now)


def ended(one: Reservation, now: datetime, *, note: str = "") -> Reservation:
    """An occurrence that ends with its series, or leaves it: nothing is sent for it alone."""
    gone = one.linked(state="gone", cause=LOCAL)
    return replace(gone, status="cancelled", sync_state="synced", note=note, updated_at=now)
