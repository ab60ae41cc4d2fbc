"""Events of Graph: when they are, in which zone, and where the stub of an occurrence has the rest from."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from sync.calendars.event import hydrated, parse_event
from sync.calendars.model import Times
from tests.events import BERLIN, CUSTOM, LOS_ANGELES, NEW_YORK, SYDNEY, at, parsed, whole_days


@pytest.mark.parametrize(
    ("original_start", "recurrence", "original_end", "expected"),
    [
        pytest.param("Pacific Standard Time", "UTC", "UTC", (LOS_ANGELES, False), id="the start's own"),
        pytest.param(CUSTOM, "Eastern Standard Time", "UTC", (NEW_YORK, False), id="custom: that of the recurrence"),
        pytest.param("", "", "Eastern Standard Time", (NEW_YORK, False), id="else the end's"),
        pytest.param(CUSTOM, CUSTOM, CUSTOM, (BERLIN, True), id="custom all over: the room's"),
        pytest.param(None, None, None, (BERLIN, True), id="not said: the room's"),
        pytest.param("Mars Standard Time", "", "", (BERLIN, True), id="unknown: the room's"),
        pytest.param("UTC", "Eastern Standard Time", "UTC", ("UTC", False), id="UTC where it is said"),
        pytest.param("Europe/Vienna", "", "", ("Europe/Vienna", False), id="an IANA name"),
    ],
)
def test_zone(original_start: Any, recurrence: Any, original_end: Any, expected: tuple[str, bool]) -> None:
    """The zone of an event is looked for in this order, and where nothing says it, that is told; never silently UTC."""
    remote = parsed(
        type="seriesMaster",
        originalStartTimeZone=original_start,
        originalEndTimeZone=original_end,
        recurrence={"pattern": {"type": "daily"}, "range": {"recurrenceTimeZone": recurrence}},
    )

    assert (remote.zone, remote.zone_unknown) == expected
    assert remote.times.zone == remote.zone
    assert remote.times.start == datetime(2026, 4, 15, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        pytest.param(at("2026-04-15T11:00:00.9999999"), "11:00:00", id="seven digits of a second"),
        pytest.param(at("2026-04-15T07:00:00", "Eastern Standard Time"), "11:00:00", id="another zone"),
        pytest.param(at("2026-04-15T07:00:00", NEW_YORK), "11:00:00", id="its IANA name"),
        pytest.param({"dateTime": "2026-04-15T11:00:00"}, "09:00:00", id="floating: in the room"),
        pytest.param(at("2026-04-15T11:00:00", ""), "09:00:00", id="floating, empty zone"),
        pytest.param(at("2026-04-15T11:00:00", CUSTOM), "09:00:00", id="a zone that cannot be known"),
        pytest.param({"dateTime": "2026-04-15T11:00:00Z"}, "11:00:00", id="an offset"),
        pytest.param(at("2026-04-15T11:00:00+05:30", NEW_YORK), "05:30:00", id="an offset beats the zone"),
    ],
)
def test_start(start: dict[str, str], expected: str) -> None:
    """Every way to write a time comes to UTC; a floating time is one of the room, here in Berlin."""
    assert parsed(start=start).times.start == datetime.fromisoformat(f"2026-04-15T{expected}+00:00")


@pytest.mark.parametrize(
    ("room_zone", "start"),
    [(SYDNEY, "2026-03-04T13:00:00"), (LOS_ANGELES, "2026-03-05T08:00:00"), ("UTC", "2026-03-05T00:00:00")],
)
@pytest.mark.parametrize("answer_zone", ["UTC", "Pacific Standard Time", "AUS Eastern Standard Time"])
def test_all_day(room_zone: str, start: str, answer_zone: str) -> None:
    """5 March is 5 March in rooms at +11 and at -8, whatever zone the answer is in, and blocks the room's own day."""
    times = parsed(room_zone, **whole_days("2026-03-05", "2026-03-06", answer_zone)).times

    assert times.canonical() == ("2026-03-05", "2026-03-06")
    assert times.start == datetime.fromisoformat(f"{start}+00:00")
    assert (times.end - times.start, times.zone) == (timedelta(days=1), room_zone)


def test_three_days() -> None:
    """An event of several days is one, its last day excluded; the clocks' change makes it an hour longer."""
    times = parsed(BERLIN, **whole_days("2026-10-24", "2026-10-27")).times

    assert (times.first, times.last) == (date(2026, 10, 24), date(2026, 10, 27))
    assert times.end - times.start == timedelta(hours=73)


def test_an_all_day_event_without_length_has_its_day() -> None:
    assert parsed(**whole_days("2026-03-05", "2026-03-05")).times.canonical() == ("2026-03-05", "2026-03-06")


@pytest.mark.parametrize(
    ("changes", "room_zone", "expected"),
    [
        pytest.param({"type": "occurrence"}, BERLIN, "2026-04-15T11:00:00", id="a plain one was never elsewhere"),
        pytest.param(
            {"type": "exception", "originalStart": "2026-04-14T11:00:00Z"}, BERLIN, "2026-04-14T11:00:00", id="moved"
        ),
        pytest.param({"type": "exception"}, BERLIN, None, id="not told, as in delta"),
        pytest.param({"type": "exception", "originalStart": "0001-01-01T00:00:00Z"}, BERLIN, None, id="null"),
        pytest.param(
            {"type": "exception", "originalStart": "9999-12-30T00:00:00Z", **whole_days("2026-03-05", "2026-03-06")},
            "Pacific/Kiritimati",
            None,
            id="never",
        ),
        pytest.param(
            {"type": "exception", "originalStart": "2026-03-04T08:00:00Z", **whole_days("2026-03-05", "2026-03-06")},
            SYDNEY,
            "2026-03-03T13:00:00",
            id="all day: midnight of 4 March in Los Angeles is that of 4 March in Sydney",
        ),
        pytest.param(
            {
                "type": "exception",
                "originalStart": "2026-03-04T00:00:00Z",
                "originalStartTimeZone": CUSTOM,
                "originalEndTimeZone": CUSTOM,
                **whole_days("2026-03-05", "2026-03-06"),
            },
            LOS_ANGELES,
            "2026-03-04T08:00:00",
            id="all day in a zone that is not known: the next midnight",
        ),
    ],
)
def test_original_start(changes: dict[str, Any], room_zone: str, expected: str | None) -> None:
    """What tells the occurrences of a series apart is in UTC, and for all-day ones the start of the room's day."""
    start = parsed(room_zone, **changes).original_start

    assert start == (expected and datetime.fromisoformat(f"{expected}+00:00"))


def stub_of(**changes: Any) -> dict[str, Any]:
    """An occurrence as delta gives it."""
    return {
        "@odata.type": "#microsoft.graph.event",
        "@odata.etag": 'W/"stub"',
        "seriesMasterId": "M",
        "type": "occurrence",
        "id": "O",
        "start": at("2026-04-22T11:00:00.0000000"),
        "end": at("2026-04-22T11:30:00.0000000"),
        **changes,
    }


def test_a_stub_gets_the_rest_from_its_master() -> None:
    """Subject, people, flags and zone are the master's; id, etag and times its own; what names one event is left out."""
    master = parsed(id="M", type="seriesMaster", transactionId="T", showAs="free", sensitivity="private")
    stub = parse_event(stub_of(), BERLIN)
    whole = hydrated(stub, master)

    assert (stub.stub, stub.zone_unknown, stub.subject) == (True, True, "")
    assert whole == replace(
        master,
        id="O",
        etag='W/"stub"',
        kind="occurrence",
        master="M",
        ical="",
        transaction="",
        recurrence=None,
        times=Times(datetime(2026, 4, 22, 11, tzinfo=UTC), datetime(2026, 4, 22, 11, 30, tzinfo=UTC), LOS_ANGELES),
        original_start=datetime(2026, 4, 22, 11, tzinfo=UTC),
    )


def test_a_stub_of_an_all_day_series() -> None:
    """It does not say that it is one, but its master does: then its dates count."""
    master = parsed(SYDNEY, id="M", type="seriesMaster", **whole_days("2026-04-15", "2026-04-16"))
    times = {name: whole_days("2026-04-22", "2026-04-23")[name] for name in ("start", "end")}
    whole = hydrated(parse_event(stub_of(**times), SYDNEY), master)

    assert whole.times == Times.days(date(2026, 4, 22), date(2026, 4, 23), SYDNEY)
    assert whole.original_start == whole.times.start


def test_an_occurrence_from_instances_is_no_stub() -> None:
    assert not parsed(type="occurrence", seriesMasterId="M").stub
