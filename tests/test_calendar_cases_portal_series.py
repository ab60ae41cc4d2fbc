"""The calendars' cases, of series that the portal makes and changes, and of its reservations that change their room. The
names are those of the reference, section 7.
"""

from collections.abc import Callable
from contextlib import suppress

import pytest

from sync import jobs
from tests.dying import Killed, Reaper, process
from tests.office import (
    DAY,
    HOUR,
    MINUTE,
    Json,
    Office,
    graph_time,
    make_office,
    office,
    span,
    weekly,
)

__all__ = ["make_office", "office"]


# --- to another room -------------------------------------------------------------------------------------------------


def two_rooms(office: Office) -> Json:
    """A reservation in oak, with its event, beside the room elm."""
    office.link("elm", 1)
    one = office.book()
    office.sync()
    return one


def test_change_room(office: Office) -> None:
    """POST in new room, then DELETE old; the reservation keeps its id."""
    one = two_rooms(office)
    office.edit(one, room="elm")

    with office.counting() as count:
        office.send()

    assert [write[:2] for write in count.writes] == [("POST", office.rooms[1]), ("DELETE", office.rooms[0])]
    assert office.reservations("oak") == []
    assert (office.only("elm")["id"], office.only("elm")["syncState"]) == (one["id"], "synced")
    office.sync()
    assert (office.events("oak"), len(office.events("elm"))) == ([], 1)


def test_change_room_and_the_new_one_is_taken(office: Office) -> None:
    """The reservation is where it was, and the editor is told."""
    one = two_rooms(office)
    office.deny("elm", noSubscriptions=False)
    office.portal("PUT", "rooms/elm", {"displayName": "Elm", "externalCalendar": office.rooms[1], "active": True})
    office.edit(one, room="elm")
    office.outlook("POST", "elm", body={"subject": "Theirs", **span(office.noon)})

    with office.counting() as count:
        office.send()

    assert count.graph_writes == []
    after = office.only("oak")
    assert (after["id"], after["syncState"], after["note"], after["room"]) == (
        one["id"],
        "rejected",
        "room-busy",
        "oak",
    )
    assert len(office.events("oak")) == 1
    office.sync()
    assert [each["title"] for each in office.reservations("elm")] == ["Theirs"]
    assert (office.room("oak")["pendingChanges"], office.room("elm")["pendingChanges"]) == (0, 0)


def test_change_room_and_the_new_one_cannot_be_reached(office: Office) -> None:
    """The old event stays until the new one is there."""
    one = two_rooms(office)
    office.deny("elm")
    office.edit(one, room="elm")

    office.send()
    assert len(office.events("oak")) == 1
    with office.counting() as count:
        office.wake()
    assert count.graph_writes == []

    office.deny("elm", denied=False)
    office.advance(6 * MINUTE)
    office.wake()
    assert (office.events("oak"), len(office.events("elm"))) == ([], 1)
    assert office.only("elm")["syncState"] == "synced"


def test_change_room_and_back(office: Office) -> None:
    """Before anything was sent: the event is the one that there was."""
    one = two_rooms(office)
    [event] = office.events("oak")
    office.edit(one, room="elm")
    office.edit(one, "elm", room="oak")

    office.send()
    office.sync()

    assert [each["id"] for each in office.events("oak")] == [event["id"]]
    assert office.events("elm") == []
    assert (office.only("oak")["id"], office.only("oak")["syncState"]) == (one["id"], "synced")
    assert office.reservations("elm") == []


def test_change_room_and_cancel(office: Office) -> None:
    """Both events go."""
    one = two_rooms(office)
    office.edit(one, room="elm")
    office.cancel(one, "elm")

    office.send()
    office.sync()

    assert (office.events("oak"), office.events("elm")) == ([], [])
    assert (office.reservations("oak"), office.reservations("elm")) == ([], [])
    assert (office.room("oak")["pendingChanges"], office.room("elm")["pendingChanges"]) == (0, 0)


# --- series ----------------------------------------------------------------------------------------------------------


def test_portal_series(office: Office) -> None:
    """Ongoing sync does send local recurring ones: one POST with the zone's name; the echo of it all writes nothing."""
    one = office.book(recurrence=weekly(office.noon, 4))

    with office.counting() as count:
        office.send()
    with office.counting() as echo:
        office.hear()

    [(method, _, fields)] = count.writes
    assert (method, "recurrence" in fields) == ("POST", True)
    assert echo.rows == set()
    found = office.reservations()
    assert [each["start"] for each in found] == [graph_time(office.noon + week * 7 * DAY) for week in range(4)]
    assert {(each["seriesId"], each["syncState"], each["type"]) for each in found} == {
        (one["id"], "synced", "occurrence")
    }
    assert len(office.events()) == 4


def test_portal_series_over_an_outlook_event(office: Office) -> None:
    """One occurrence meets another meeting: nothing is sent, all of it is free again."""
    office.deny("oak")
    one = office.book(recurrence=weekly(office.noon, 4))
    office.send()
    office.outlook("POST", "oak", body={"subject": "Theirs", **span(office.noon + 14 * DAY)})
    office.deny("oak", denied=False)
    office.advance(6 * MINUTE)

    with office.counting() as count:
        office.wake()

    assert count.graph_writes == []
    assert office.again(one)["status"] == "declined"
    assert {each["status"] for each in office.reservations() if each["seriesId"]} == {"declined"}
    assert office.ask_to_book().status == 201


def occurrence_before(office: Office, act: Callable[[list[Json]], object]) -> Json:
    """A series of three, something being done to its occurrences before it was sent; all is sent then."""
    one = office.book(recurrence=weekly(office.noon, 3))
    act(office.reservations())
    office.send()
    office.sync()
    return one


def test_an_occurrence_is_moved_before_its_series_was_sent(office: Office) -> None:
    """It is an exception of the series at Graph."""
    occurrence_before(office, lambda found: office.edit(found[1], **span(office.noon + 7 * DAY + HOUR)))

    assert [event["type"] for event in office.events()] == ["occurrence", "exception", "occurrence"]
    found = office.reservations()
    assert found[1]["start"] == graph_time(office.noon + 7 * DAY + HOUR)
    assert {each["syncState"] for each in found} == {"synced"}
    assert office.room()["pendingChanges"] == 0


def test_an_occurrence_is_cancelled_before_its_series_was_sent(office: Office) -> None:
    """It is deleted from the series at Graph."""
    occurrence_before(office, lambda found: office.cancel(found[1]))

    assert [event["start"]["dateTime"][:10] for event in office.events()] == [
        graph_time(office.noon + week * 7 * DAY)["dateTime"][:10] for week in (0, 2)
    ]
    assert len(office.reservations()) == 2


@pytest.mark.parametrize("after", [3, 5, 6, 8])
def test_a_worker_dies_while_it_creates_a_series(office: Office, after: int) -> None:
    """One series, its occurrences bound, the one that was cancelled gone."""
    office.book(recurrence=weekly(office.noon, 3))
    office.cancel(office.reservations()[1])
    messages = list(office.house.messages())
    for message in messages:
        with suppress(Killed), process(Reaper(after)):
            jobs.work(office.house.app, message)
    office.advance(2 * MINUTE)

    for message in messages:
        jobs.work(office.house.app, message)
    office.sync()
    office.sync()

    assert len(office.masters()) == 1
    assert len(office.events()) == 2
    assert [each["syncState"] for each in office.reservations()] == ["synced"] * 2


def test_portal_moves_a_series(office: Office) -> None:
    """One PATCH; the instances have new ids, and are known again."""
    one = office.book(recurrence=weekly(office.noon, 3))
    office.sync()
    office.edit(one, **span(office.noon + HOUR))

    with office.counting() as count:
        office.send()
    office.sync()

    assert [write[0] for write in count.writes] == ["PATCH"]
    expected = [graph_time(office.noon + week * 7 * DAY + HOUR) for week in range(3)]
    found = office.reservations()
    assert [each["start"] for each in found] == expected
    assert [event["start"]["dateTime"][:19] for event in office.events()] == [each["dateTime"] for each in expected]
    assert {each["syncState"] for each in found} == {"synced"}
    assert office.stored(found[0]).link.room_event == office.events()[0]["id"]


def test_portal_renames_a_series(office: Office) -> None:
    """One PATCH of the subject; each occurrence shows it."""
    one = office.book(recurrence=weekly(office.noon, 3))
    office.sync()
    office.edit(one, title="Ours")

    with office.counting() as count:
        office.send()
    office.sync()

    assert count.writes == [("PATCH", office.rooms[0], {"subject"})]
    assert {each["title"] for each in office.reservations()} == {"Ours"}
    assert {each["syncState"] for each in office.reservations()} == {"synced"}
    assert {event["subject"] for event in office.events()} == {"Ours"}


def test_portal_shortens_a_series(office: Office) -> None:
    one = office.book(recurrence=weekly(office.noon, 4))
    office.sync()
    office.edit(one, recurrence=weekly(office.noon, 2))

    office.send()
    office.sync()

    assert len(office.events()) == 2
    assert len(office.reservations()) == 2
    assert {each["syncState"] for each in office.reservations()} == {"synced"}


def test_portal_cancels_a_series(office: Office) -> None:
    """One DELETE."""
    one = office.book(recurrence=weekly(office.noon, 4))
    office.sync()
    office.cancel(one)

    with office.counting() as count:
        office.send()
    office.sync()

    assert [write[0] for write in count.writes] == ["DELETE"]
    assert (office.events(), office.reservations()) == ([], [])


def test_portal_moves_a_series_onto_an_outlook_event(office: Office) -> None:
    """Clash before the move: nothing is sent, the series and its occurrences are as they were."""
    one = office.book(recurrence=weekly(office.noon, 3))
    office.sync()
    before = office.reservations()
    office.edit(one, title="Ours", **span(office.noon + 3 * HOUR))
    office.outlook("POST", "oak", body={"subject": "Theirs", **span(office.noon + 7 * DAY + 3 * HOUR)})

    with office.counting() as count:
        office.send()

    assert count.graph_writes == []
    after = office.again(one)
    assert (after["syncState"], after["note"], after["title"]) == ("rejected", "room-busy", "Planning")
    office.sync()
    found = [each for each in office.reservations() if each["seriesId"]]
    assert [(each["id"], each["start"], each["title"]) for each in found] == [
        (each["id"], each["start"], each["title"]) for each in before
    ]
    assert {each["syncState"] for each in found} == {"synced"}
    assert office.stored(found[0]).link.room_event


def test_an_occurrence_passes_its_neighbour(office: Office) -> None:
    """400 `ErrorOccurrenceCrossingBoundary`, room-organized: delete occurrence, create single."""
    office.book(recurrence=weekly(office.noon, 3))
    office.sync()
    [first, *_] = office.reservations()
    office.edit(first, **span(office.noon + 8 * DAY))

    with office.counting() as count:
        office.send()
    office.sync()

    assert [write[0] for write in count.writes] == ["PATCH", "DELETE", "POST"]
    assert sorted(event["type"] for event in office.events()) == ["occurrence", "occurrence", "singleInstance"]
    found = office.reservations()
    assert [each["start"] for each in found] == [graph_time(office.noon + days * DAY) for days in (7, 8, 14)]
    assert {each["syncState"] for each in found} == {"synced"}
    assert found[1]["type"] == "single"


def test_an_occurrence_of_a_user_passes_its_neighbour(make_office: Callable[..., Office]) -> None:
    """User-organized: refuse."""
    office = make_office("100")
    office.link()
    office.meet(0, recurrence=weekly(office.noon, 3))
    office.sync()
    [first, *_] = office.reservations()
    office.edit(first, **span(office.noon + 8 * DAY))

    office.send()

    after = office.again(first)
    assert (after["start"], after["syncState"], after["note"]) == (first["start"], "rejected", "crossing-boundary")
    assert len(office.events()) == 3


def test_cancel_of_a_series_is_refused(make_office: Callable[..., Office]) -> None:
    """All of it is back."""
    office = make_office("100")
    office.link()
    office.meet(0, recurrence=weekly(office.noon, 3))
    office.sync()
    before = office.reservations()
    series = office.again({"id": before[0]["seriesId"]})
    office.cancel(series)
    assert office.reservations() == []
    office.deny(office.people[0])

    office.send()

    found = office.reservations()
    assert [(each["id"], each["status"]) for each in found] == [(each["id"], "confirmed") for each in before]
    assert office.again(series)["note"] == "user-mailbox-denied"


def test_mailbox_is_gone_while_something_waits(office: Office) -> None:
    """404 of the mailbox is not 404 of the event: it is not taken for deleted."""
    one = office.book()
    office.sync()
    office.cancel(one)
    office.deny("oak", mailbox="none")
    office.send()

    assert office.status() == ("error", "mailbox-not-found")
    office.deny("oak", mailbox="cloud")
    office.advance(6 * MINUTE)
    office.wake()
    assert office.events() == []
