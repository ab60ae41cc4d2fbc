"""The calendars' cases, of series that are moved as a whole: all of their instances get new ids."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from sync import jobs
from tests.dying import Killed, Reaper, process
from tests.office import (
    DAY,
    HOUR,
    MINUTE,
    Json,
    Office,
    at_noon,
    graph_time,
    make_office,
    office,
    span,
    starts,
    starts_of,
    weekly,
    weeks,
)

__all__ = ["make_office", "office"]


def test_series_shifts(office: Office) -> None:
    """New instance ids: paired by place and order before any cancel; each keeps its reservation."""
    meeting = office.meet(0, recurrence=weekly(office.noon, 3))
    office.hear()
    before = office.reservations()
    office.changes()

    office.change(0, meeting, **span(office.noon + HOUR))
    office.hear()

    after = office.reservations()
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert starts(office) == at_noon(office, *(week * 7 * DAY + HOUR for week in range(3)))
    assert {change for _, change in office.changes()} == {"updated"}


@pytest.mark.parametrize("by", [HOUR, -HOUR, DAY, 7 * DAY], ids=str)
@pytest.mark.parametrize("where", ["outlook", "portal"])
def test_series_shifts_after_an_occurrence_was_deleted(
    make_office: Callable[..., Office], where: str, by: timedelta
) -> None:
    """Outlook brings the deleted one back: it alone is new, and each of the others keeps its reservation."""
    office = make_office("100")
    office.link()
    meeting = office.meet(0, recurrence=weekly(office.noon, 4))
    office.hear()
    before = office.reservations()
    if where == "portal":
        office.cancel(before[1])
        office.send()
    else:
        office.outlook("DELETE", office.people[0], office.events(office.people[0])[1]["id"])
    office.sync()
    assert starts(office) == weeks(office, 0, 2, 3)

    office.change(0, meeting, **moved_series(office, by))
    office.hear()

    after = office.reservations()
    assert starts(office) == at_noon(office, *(week * 7 * DAY + by for week in range(4)))
    assert [after[number]["id"] for number in (0, 2, 3)] == [before[number]["id"] for number in (0, 2, 3)]
    assert after[1]["id"] not in {one["id"] for one in before if one is not before[1]}
    with office.counting() as echo:
        office.full()
    assert (echo.rows, echo.graph_writes) == (set(), [])


def moved_series(office: Office, by: timedelta) -> Json:
    """What moves a weekly series of four by so much."""
    start = office.noon + by
    return {**span(start), "recurrence": weekly(start, 4)}


def test_series_shifts_on_its_way(office: Office) -> None:
    """What has taken place stays; what is to come keeps its reservations."""
    meeting = office.meet(0, recurrence=weekly(office.noon, 6))
    office.hear()
    since = {"from": office.today.date().isoformat()}
    before = office.reservations(**since)
    office.advance(20 * DAY)

    office.change(0, meeting, **span(office.noon + HOUR))
    office.hear()

    after = office.reservations(**since)
    assert [one["id"] for one in after] == [one["id"] for one in before]
    moved = [week * 7 * DAY + (HOUR if week > 2 else 0 * HOUR) for week in range(6)]
    assert starts_of(after) == at_noon(office, *moved)


@pytest.mark.parametrize("after", [2, 3])
def test_series_shifts_and_the_worker_dies(office: Office, after: int) -> None:
    """Half of a long series is stored: each occurrence keeps its reservation all the same."""
    days = weekly(office.noon, 120)
    days["pattern"] = {"type": "daily", "interval": 1}
    meeting = office.meet(0, recurrence=days)
    office.hear()
    before = [one["id"] for one in office.reservations()]

    office.change(0, meeting, **span(office.noon + HOUR))
    office.portal("POST", "syncs/calendars/runs", {"mode": "delta"})
    messages = list(office.house.messages())
    for message in messages:
        with suppress(Killed), process(Reaper(after)):
            jobs.work(office.house.app, message)
    office.advance(2 * MINUTE)
    for message in messages:
        jobs.work(office.house.app, message)
    office.sync()

    assert [one["id"] for one in office.reservations()] == before
    assert starts(office) == at_noon(office, *(day * DAY + HOUR for day in range(120)))


def test_series_moves_to_another_day_of_the_week(office: Office) -> None:
    """From Monday to Friday, say, after one was deleted: each stays in its week."""
    meeting = office.meet(0, recurrence=weekly(office.noon, 4))
    office.hear()
    before = office.reservations()
    office.outlook("DELETE", office.people[0], office.events(office.people[0])[1]["id"])
    office.hear()

    office.change(0, meeting, **moved_series(office, 4 * DAY))
    office.hear()

    after = office.reservations()
    assert starts(office) == at_noon(office, *((week * 7 + 4) * DAY for week in range(4)))
    assert [after[number]["id"] for number in (0, 2, 3)] == [before[number]["id"] for number in (0, 2, 3)]


def test_series_shifts_by_a_week(office: Office) -> None:
    """To places that other occurrences had before: the order stays."""
    meeting = office.meet(0, recurrence=weekly(office.noon, 3))
    office.hear()
    before = office.reservations()

    office.change(0, meeting, **span(office.noon + 7 * DAY))
    office.hear()

    assert starts(office) == weeks(office, 1, 2, 3)
    assert [one["id"] for one in office.reservations()] == [one["id"] for one in before]
    office.sync(mode="full")
    assert starts(office) == weeks(office, 1, 2, 3)


def test_series_shifts_after_a_change_was_refused(make_office: Callable[..., Office]) -> None:
    """Why an occurrence could not be moved is nobody's concern once Outlook has moved it."""
    office = make_office("100")
    office.link()
    meeting = office.meet(0, recurrence=weekly(office.noon, 3))
    office.sync()
    last = office.reservations()[2]
    office.edit(last, **span(office.noon + DAY))
    office.send()
    assert (office.again(last)["syncState"], office.again(last)["note"]) == ("rejected", "crossing-boundary")

    office.sync()
    assert office.again(last)["note"] == "crossing-boundary"
    office.change(0, meeting, **span(office.noon + HOUR))
    office.hear()

    after = office.again(last)
    assert (after["syncState"], after["note"]) == ("synced", None)
    assert after["start"] == graph_time(office.noon + 14 * DAY + HOUR)
