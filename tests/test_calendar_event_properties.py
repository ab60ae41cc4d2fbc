"""Events of Graph: whatever is sent comes back as it was, through the simulated Exchange's own writing and reading, and
whatever is read is refused or of use."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from local.cloud.exchange.series import occurrences as exchange_occurrences
from local.cloud.exchange.shape import render as exchange_render
from local.cloud.exchange.shape import stub as exchange_stub
from sync.calendars import recurrence as series
from sync.calendars.event import Unreadable, hydrated, parse_event, title_of
from sync.calendars.model import Reservation, Times, transaction_id
from sync.calendars.zones import to_utc, to_wall
from tests.events import (
    BERLIN,
    CUSTOM,
    MAILBOX,
    NEW_YORK,
    SYDNEY,
    VIEW,
    at,
    created,
    parsed,
    person,
    read_back,
    reservation,
    reservations,
    stored,
)


@given(reservations)
def test_an_echo_is_equal(one: Reservation) -> None:
    """What was sent to the room's calendar and is read back has the times and the transaction of the reservation."""
    remote = read_back(created(one), one.times.zone)

    assert remote.times.canonical() == one.times.canonical()
    assert remote.transaction == transaction_id(one)
    assert not remote.zone_unknown
    assert remote.attendees == ()


patterns = st.one_of(
    st.fixed_dictionaries({"type": st.just("daily"), "interval": st.integers(2, 40)}),
    st.fixed_dictionaries(
        {
            "type": st.just("weekly"),
            "interval": st.integers(1, 5),
            "daysOfWeek": st.lists(st.sampled_from(series.DAYS), min_size=1, unique=True),
            "firstDayOfWeek": st.sampled_from(series.DAYS),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("absoluteMonthly"), "interval": st.integers(1, 5), "dayOfMonth": st.integers(1, 31)}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("relativeYearly"),
            "interval": st.just(1),
            "daysOfWeek": st.lists(st.sampled_from(series.DAYS), min_size=1, unique=True),
            "index": st.sampled_from(["first", "second", "third", "fourth", "last"]),
            "month": st.integers(1, 12),
        }
    ),
)


@given(
    patterns,
    st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    st.integers(8, 20),
    st.sampled_from([NEW_YORK, BERLIN, SYDNEY, "UTC"]),
    st.booleans(),
)
def test_a_series_is_the_same_on_both_sides(
    pattern: dict[str, Any], day: date, oclock: int, zone: str, all_day: bool
) -> None:
    """The occurrences that Exchange makes of a series that was sent are those that the portal has, and its stubs are
    those occurrences once they are hydrated."""
    start = to_utc(datetime.fromisoformat(f"{day.isoformat()}T{oclock:02}:00"), zone)
    times = (
        Times.days(day, day + timedelta(days=1), zone) if all_day else Times(start, start + timedelta(hours=2), zone)
    )
    recurrence = {
        "pattern": pattern,
        "range": {"type": "numbered", "startDate": day.isoformat(), "numberOfOccurrences": 9},
    }
    far = times.start + timedelta(days=700)
    [first, *_] = series.occurrences(recurrence, times, times.start, times.start + timedelta(days=9999), 1)
    recurrence["range"]["startDate"] = (first.first or to_wall(first.start, zone).date()).isoformat()
    ours = series.occurrences(recurrence, first, first.start, far, 9)

    item = stored(created(reservation(kind="series", times=first, recurrence=recurrence)))
    master = parse_event(exchange_render(MAILBOX, item, VIEW), zone)
    theirs = [
        hydrated(parse_event(exchange_stub(MAILBOX, item, each, VIEW), zone), master)
        for each in exchange_occurrences(item, first.start, far)
    ]
    assert [each.times for each in theirs] == ours
    assert [each.original_start for each in theirs] == [each.start for each in ours]
    assert master.recurrence is not None
    assert series.render(master.recurrence, zone) == series.render(recurrence, zone)


odd_times = st.sampled_from(
    [
        "0001-01-01T00:00:00.0000000",
        "0001-01-01T00:00:00+14:00",
        "1601-01-02T00:00:00Z",
        "9999-12-31T23:59:59.9999999",
        "9999-12-31T23:59:59-14:00",
        "9999-12-30T00:00:00Z",
        "9999-12-28T00:00:00Z",
        "2026-02-30T00:00:00",
        "2026-03-05T24:00:00",
        "2026-03-08T02:30:00",
        "2026-03-05T10:00:00+99:99",
        "2026-03-05",
        "\u0662026-03-05T10:00:00",
    ]
)
odd_zones = st.sampled_from(
    ["", "UTC", CUSTOM, "Tokyo Standard Time", "Etc/GMT+12", "Pacific/Kiritimati", "..", "\ud83d", "a\0b"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | odd_times | odd_zones
values = (
    leaves
    | st.lists(leaves, max_size=2)
    | st.dictionaries(st.sampled_from(["type", "response", "emailAddress"]), leaves)
)
odd_moments = st.builds(at, odd_times, odd_zones)
ODD: Mapping[str, st.SearchStrategy[Any]] = {
    "type": values,
    "start": values,
    "isAllDay": values,
    "originalStart": values,
    "originalStartTimeZone": odd_zones | values,
    "originalEndTimeZone": odd_zones | values,
    "recurrence": st.dictionaries(st.sampled_from(["pattern", "range"]), values) | values,
    "organizer": st.builds(person, leaves, leaves) | values,
    "attendees": st.lists(st.builds(person, leaves, leaves) | values, max_size=2) | values,
    "responseStatus": values,
    "isCancelled": values,
    "subject": st.text(st.characters(), max_size=5) | values,
    "id": values,
}
odd_changes = st.lists(st.one_of([st.tuples(st.just(name), odd) for name, odd in ODD.items()]), max_size=3).map(dict)


@given(odd_changes)
def test_any_json_is_read_or_refused(changes: dict[str, Any]) -> None:
    """Whatever stands in an event, it is refused with a slug, or comes out as something that can be stored."""
    try:
        remote = parsed(**changes)
    except Unreadable as refused:
        assert " " not in str(refused)
        return
    assert repr(remote).encode()
    assert title_of(remote, None, policy_read=True)[0].encode() is not None


@given(
    odd_moments,
    odd_moments | st.just(at("2026-03-08T03:00:00")),
    st.booleans(),
    odd_times,
    st.sampled_from(["exception", "occurrence"]),
    st.sampled_from(["Pacific/Kiritimati", "Etc/GMT+12", "UTC"]),
    odd_zones,
)
def test_any_times_are_refused_or_of_use(
    start: Any, end: Any, all_day: bool, original: str, kind: str, room_zone: str, zone: str
) -> None:
    """At the ends of the calendar too: what is read can be stored, and shown in every zone."""
    given_times = {
        "start": start,
        "end": end,
        "isAllDay": all_day,
        "originalStart": original,
        "createdDateTime": original,
    }
    try:
        remote = parsed(room_zone, type=kind, originalStartTimeZone=zone, **given_times)
    except Unreadable:
        return
    assert remote.times.start <= remote.times.end
    for moment in (remote.times.start, remote.times.end, remote.original_start, remote.created_at):
        if moment is not None:
            assert moment.year >= 1601
            assert {to_wall(moment, shown).year for shown in ("Pacific/Kiritimati", "Etc/GMT+12")}
