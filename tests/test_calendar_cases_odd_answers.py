"""Answers about a room's calendar that Graph may give and the simulated cloud does not by itself: nothing is lost, nothing
of somebody else's is touched.
"""

import pytest

from sync.calendars.model import PLACEHOLDER
from tests.clock import never_wait
from tests.office import (
    BATCH,
    DAY,
    DELTA,
    GET,
    HOUR,
    INSTANCES,
    Json,
    Make,
    Office,
    graph_time,
    make_office,
    office,
    opened,
    span,
    weekly,
)

__all__ = ["make_office", "office"]


def odd(office: Office, *oddities: Json) -> None:
    """Graph's answers are odd from now on, as local/cloud/faults.py says; in no way where none are given."""
    office.tenant.control.post("faults", {"odd": list(oddities)})


def titles(office: Office, room: str = "oak") -> list[str]:
    return [one["title"] for one in office.reservations(room)]


# --- whose event it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [1, 12])
def test_a_search_that_is_ignored(make_office: Make, others: int) -> None:
    """Only the event with the id that was searched for is the organizer's copy, whether or not it is on the first page."""
    office = opened(make_office, "100")
    for number in range(others):
        start = office.noon - DAY + number * HOUR
        office.outlook("POST", office.people[0], body={"subject": "Dentist", **span(start)})
    odd(office, {"query": "$filter", "ignore": ["$filter"]})
    office.meet(0)

    office.sync()
    assert titles(office) == ["Planning"]
    office.edit(office.only(), title="Ours", **span(office.noon + HOUR))
    office.send()
    office.cancel(office.only())
    office.send()

    assert [event["subject"] for event in office.events(office.people[0])] == ["Dentist"] * others


def test_an_organizer_without_an_address(make_office: Make) -> None:
    """It is not the room, so its copy is not written to; the room's own meetings are its own all the same."""
    office = opened(make_office, "100")
    office.outlook("POST", "oak", body={"subject": "Ours", **span(office.noon + 3 * HOUR)})
    odd(office, {"drop": ["organizer.emailAddress.address"]})
    office.meet(0)

    office.sync()

    theirs, ours = office.reservations()
    assert (theirs["organizer"], theirs["title"], theirs["owner"]) == ("user", PLACEHOLDER, None)
    assert (ours["organizer"], ours["title"]) == ("room", "Ours")
    assert office.ask_to_edit(theirs, **span(office.noon + HOUR)).status == 409


def test_nothing_says_who_the_organizer_is(office: Office) -> None:
    """Neither an address nor whether it is the room: then it is the room."""
    odd(office, {"drop": ["organizer", "isOrganizer"]})
    office.outlook("POST", "oak", body={"subject": "Ours", **span(office.noon)})

    office.sync()

    assert (office.only()["organizer"], office.only()["title"]) == ("room", "Ours")


# --- what is gone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oddity", [{"status": 404, "code": "ErrorItemNotFound"}, {"status": 400}, {"status": 501}])
def test_instances_that_are_not_to_be_had(office: Office, oddity: Json) -> None:
    """Only the series itself can say that it is gone: what takes place in the window has its instances."""
    series = office.meet(0, recurrence=weekly(office.noon))
    office.sync()
    odd(office, {"call": INSTANCES, **oddity})
    office.change(0, series, subject="Renamed")

    office.sync()

    assert titles(office) == ["Renamed"] * 4


def test_instances_of_a_mailbox_that_is_not_found(office: Office) -> None:
    """The room is out of reach, not its meetings."""
    series = office.meet(0, recurrence=weekly(office.noon))
    office.sync()
    odd(office, {"call": INSTANCES, "status": 404, "code": "MailboxNotEnabledForRESTAPI"})
    office.change(0, series, subject="Renamed")

    office.sync()
    assert office.status() == ("error", "mailbox-not-found")
    assert len(office.reservations()) == 4

    odd(office)
    office.sync()
    assert office.status()[0] == "active"
    assert titles(office) == ["Renamed"] * 4


@pytest.mark.parametrize("meetings", [1, 2])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (410, "ErrorItemNotFound"),
        (400, "ErrorInvalidIdMalformed"),
        (404, "ResourceNotFound"),
        (404, "Request_ResourceNotFound"),
        (404, "itemNotFound"),
    ],
)
def test_ways_to_say_that_an_event_is_gone(office: Office, status: int, code: str, meetings: int) -> None:
    """A code that may mean the mailbox means the event where the mailbox is there."""
    made = [office.meet(number, start=office.noon + number * HOUR) for number in range(meetings)]
    office.sync()
    odd(office, {"ofStatus": 404, "status": status, "code": code})
    for number, meeting in enumerate(made):
        office.call_off(number, meeting)

    office.sync()

    assert office.reservations() == []
    assert office.status()[0] == "active"


def test_the_portal_cancels_what_is_gone(office: Office) -> None:
    """By a code that may mean the mailbox."""
    one = office.book()
    office.send()
    odd(office, {"ofStatus": 404, "status": 404, "code": "ResourceNotFound"})
    office.outlook("DELETE", "oak", office.events()[0]["id"])

    office.cancel(one)
    office.send()

    assert (office.again(one)["status"], office.status()[0]) == ("cancelled", "active")


def test_a_mailbox_that_is_gone_by_another_code(office: Office) -> None:
    """Its meetings are left alone."""
    office.meet(0)
    office.sync()
    office.deny("oak", mailbox="none")
    odd(office, {"ofStatus": 404, "status": 404, "code": "ResourceNotFound"})

    office.sync()

    assert office.status() == ("error", "mailbox-not-found")
    assert titles(office) == ["Planning"]


@pytest.mark.parametrize("meetings", [1, 2])
def test_events_that_nobody_may_read(office: Office, meetings: int) -> None:
    """Each is left as it is, and the room goes on."""
    made = [office.meet(0, start=office.noon + number * HOUR) for number in range(meetings)]
    series = office.meet(1, start=office.noon + 8 * HOUR, recurrence=weekly(office.noon, 2))
    office.sync()
    odd(office, {"ofStatus": 404, "status": 403, "code": "ErrorAccessDenied", "mailbox": office.rooms[0]})
    for meeting in made:
        office.call_off(0, meeting)
    office.call_off(1, series)
    office.meet(2, start=office.noon + 12 * HOUR)

    office.sync()
    assert len(office.reservations()) == meetings + 3
    assert office.status()[0] == "active"

    odd(office)
    office.full()
    assert titles(office) == ["Planning"]


# --- which version it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropped", [["@odata.etag"], ["@odata.etag", "changeKey"]])
def test_no_etags(make_office: Make, dropped: list[str]) -> None:
    """No change is taken for what was seen before: the content tells, and what is the same is not written."""
    office = opened(make_office, "100")
    odd(office, {"drop": dropped})
    meeting = office.meet(0)
    series = office.meet(1, start=office.noon + 4 * HOUR, recurrence=weekly(office.noon + 4 * HOUR))
    office.sync()

    office.change(0, meeting, **span(office.noon + HOUR))
    office.sync()
    assert office.reservations()[0]["start"] == graph_time(office.noon + HOUR)
    office.change(1, series, subject="Renamed")
    office.sync()
    office.change(1, office.events(office.people[1])[1], subject="Once")
    office.sync()
    assert titles(office) == ["Planning", "Renamed", "Once", "Renamed", "Renamed"]

    with office.counting() as count:
        office.full()
    assert count.rows == set()
    assert count.graph_writes == []


# --- how it is asked for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code"), [(404, "ResourceNotFound"), (400, "BadRequest"), (405, ""), (501, "")])
def test_no_batches(office: Office, status: int, code: str) -> None:
    """What would be asked for together is asked for one by one."""
    odd(office, {"call": BATCH, "status": status, "code": code})
    made = [office.meet(number, start=office.noon + number * HOUR) for number in range(3)]
    office.sync()
    assert titles(office) == ["Planning"] * 3
    assert office.status()[0] == "active"

    for number, meeting in enumerate(made):
        office.call_off(number, meeting)
    office.sync()
    assert office.reservations() == []


def test_a_search_that_is_refused(make_office: Make) -> None:
    """The organizer's copy is looked for at the time of its meeting, and that of a series at the time of an occurrence."""
    office = opened(make_office, "000")
    odd(office, {"query": "$filter", "status": 400, "code": "ErrorInvalidFilter"})
    office.meet(0)
    office.meet(1, start=office.noon + 3 * HOUR, recurrence=weekly(office.noon + 3 * HOUR), subject="Weekly")

    office.sync()

    assert titles(office) == ["Planning", "Weekly", "Weekly", "Weekly", "Weekly"]


def test_the_portal_moves_what_no_search_finds(make_office: Make) -> None:
    """Nor is the id of the organizer's copy known, which nobody was allowed to read: it is looked for at its time."""
    office = opened(make_office, "010")
    office.meet(0)
    office.meet(1, start=office.noon + 3 * HOUR, recurrence=weekly(office.noon + 3 * HOUR, 2))
    office.sync()
    office.settings("100")
    odd(office, {"query": "$filter", "status": 400, "code": "ErrorInvalidFilter"})

    single, first, _ = office.reservations()
    office.edit(single, **span(office.noon + HOUR))
    office.edit(first, **span(office.noon + 5 * HOUR))
    office.send()

    assert [one["syncState"] for one in office.reservations()] == ["synced"] * 3
    assert office.events(office.people[0])[0]["start"]["dateTime"] == f"{office.noon + HOUR:%Y-%m-%dT%H:%M:%S}.0000000"
    assert (
        office.events(office.people[1])[0]["start"]["dateTime"] == f"{office.noon + 5 * HOUR:%Y-%m-%dT%H:%M:%S}.0000000"
    )


@pytest.mark.parametrize("oddity", [{"status": 400, "code": "ErrorInvalidFilter"}, {"ignore": ["$filter"]}])
def test_declined_where_no_search_is_made(office: Office, oddity: Json) -> None:
    """The organizer's copy is asked for by its id."""
    for number in range(11):
        start = office.noon - DAY + number * HOUR
        office.outlook("POST", office.people[0], body={"subject": "Dentist", **span(start)})
    office.meet(0)
    office.sync()
    one = office.only()
    odd(office, {"query": "$filter", **oddity})
    event = office.events()[0]["id"]
    office.tenant.control.post(f"mailboxes/{office.rooms[0]}/events/{event}/decline", {})

    office.sync()

    assert office.again(one)["status"] == "declined"


# --- what is left out -------------------------------------------------------------------------------------------------


def test_the_room_under_another_address(make_office: Make) -> None:
    """Its answer is that of the only resource that is invited."""
    office = opened(make_office, "101")
    odd(office, {"mailbox": office.people[1], "replace": {office.rooms[0]: "oak-room@contoso.com"}})
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Bo", "email": office.people[1]}, organizer="user")
    office.send()
    office.outlook("POST", "oak", body={"subject": "Taken first", **span(office.noon)})
    office.tenant.control.post("meetings/deliver", {})

    office.sync()

    assert office.again(one)["status"] == "declined"


def test_no_answer_of_the_room_is_told(office: Office) -> None:
    """Its copy is there: it is confirmed."""
    odd(office, {"drop": ["responseStatus"]})
    office.meet(0)

    office.sync()

    assert office.only()["status"] == "confirmed"


@pytest.mark.parametrize("oddity", [{"drop": ["type"]}, {"call": DELTA, "drop": ["seriesMasterId"]}])
def test_no_type_or_no_series(office: Office, oddity: Json) -> None:
    """The rest of an event tells what it is, or the event does by itself."""
    odd(office, oddity)
    office.meet(0)
    office.meet(1, start=office.noon + 3 * HOUR, recurrence=weekly(office.noon + 3 * HOUR, 3), subject="Weekly")
    with office.counting() as count:
        office.sync()

    assert [(one["title"], one["type"]) for one in office.reservations()] == [
        ("Planning", "single"),
        *[("Weekly", "occurrence")] * 3,
    ]
    assert office.rooms[0] not in {one["mailbox"] for one in count.calls if one["template"] == "GET /users/{id}/events"}
    assert office.status()[0] == "active"

    office.full()
    assert len(office.reservations()) == 4


# --- organizers' mailboxes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "oddity",
    [
        {"status": 400, "code": "ErrorInvalidRequest"},
        {"status": 503, "code": "ErrorMailboxStoreUnavailable"},
        {"status": 429, "code": "ApplicationThrottled"},
        {"status": 429, "code": "ApplicationThrottled", "retryAfter": 600},
        {"status": 429, "code": "TooManyRequests"},
    ],
    ids=["400", "503", "429", "429 for long", "429 of whatever"],
)
def test_an_organizer_whose_mailbox_gives_no_answer(
    make_office: Make, monkeypatch: pytest.MonkeyPatch, oddity: Json
) -> None:
    """It does not keep its rooms, nor others, from being read, is left alone for a while, and then looked at again."""
    never_wait(monkeypatch)
    office = opened(make_office, "000")
    office.link("pine", 1)
    odd(office, {"mailbox": office.people[0], **oddity})
    office.meet(0)
    office.meet(0, start=office.noon + 9 * HOUR, recurrence=weekly(office.noon + 9 * HOUR, 2))
    office.meet(1, start=office.noon + 3 * HOUR)
    office.meet(1, "pine", start=office.noon + 3 * HOUR)

    office.sync()
    assert titles(office) == [PLACEHOLDER, "Planning", PLACEHOLDER, PLACEHOLDER]
    assert titles(office, "pine") == ["Planning"]
    assert (office.status(), office.status("pine")) == (("active", "polling-only"),) * 2
    assert office.room()["warnings"] == []

    with office.counting() as count:
        office.meet(0, start=office.noon + 5 * HOUR)
        office.sync()
    assert titles(office)[2] == PLACEHOLDER
    assert count.to(office.people[0]) == []

    odd(office)
    office.advance(16 * HOUR / 60)
    office.sync()
    assert titles(office) == ["Planning"] * 5
    with office.counting() as count:
        office.sync()
    assert count.to(office.people[0]) == []
    assert count.by_template[GET] == 0


def test_known_titles_stay(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a meeting whose organizer gives no answer now goes on to be shown; its time is the room's."""
    never_wait(monkeypatch)
    office = opened(make_office, "000")
    meeting = office.meet(0)
    office.sync()
    odd(office, {"mailbox": office.people[0], "status": 500})
    office.change(0, meeting, subject="Renamed", **span(office.noon + HOUR))

    office.sync()
    assert (office.only()["title"], office.only()["start"]) == ("Planning", graph_time(office.noon + HOUR))

    odd(office)
    office.advance(16 * HOUR / 60)
    office.sync()
    assert office.only()["title"] == "Renamed"


def test_waiting_for_the_room_while_the_owner_gives_no_answer(
    make_office: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the room has declined is found out later."""
    never_wait(monkeypatch)
    office = opened(make_office, "101")
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Bo", "email": office.people[1]}, organizer="user")
    office.send()
    odd(office, {"mailbox": office.people[1], "status": 503})

    office.sync()
    assert (office.again(one)["status"], office.status()[0]) == ("awaitingRoom", "active")

    odd(office)
    office.outlook("DELETE", office.people[1], office.events(office.people[1])[0]["id"])
    office.advance(16 * HOUR / 60)
    office.sync()
    assert office.again(one)["status"] == "cancelled"


def test_an_occurrence_whose_organizer_gives_no_answer(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes by the title of its series until the next full round."""
    never_wait(monkeypatch)
    office = opened(make_office, "000")
    office.meet(0, recurrence=weekly(office.noon, 3))
    office.sync()
    odd(office, {"mailbox": office.people[0], "call": INSTANCES, "status": 502})
    office.change(0, office.events(office.people[0])[1], subject="Once", **span(office.noon + 7 * DAY + HOUR))

    office.sync()
    assert titles(office) == ["Planning"] * 3

    odd(office)
    office.advance(16 * HOUR / 60)
    office.full()
    assert titles(office) == ["Planning", "Once", "Planning"]
