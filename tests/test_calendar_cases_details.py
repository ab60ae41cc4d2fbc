"""The calendars' cases, of notes that the portal changes, and of the details of series: the text of a meeting from Outlook
is nobody else's.
"""

from collections import Counter

import pytest

from tests.guests import DAN, Anns, anns, break_writes, invited, made_on_user, people, shown
from tests.office import (
    DELTA,
    GET,
    HOUR,
    INSTANCES,
    PATCH,
    Json,
    Make,
    Office,
    graph_time,
    lose_answers,
    make_office,
    office,
    opened,
    span,
    weekly,
)
from tests.rooms import problem

__all__ = ["anns", "make_office", "office"]

# --- the text --------------------------------------------------------------------------------------------------------


def test_notes(office: Office) -> None:
    """The text of the room's event is what the portal says: one PATCH, whose echo writes nothing."""
    one = office.book(notes="Cake")
    office.sync()
    office.edit(one, notes="Tea")

    with office.counting() as count:
        office.send()
    with office.counting() as echo:
        office.hear()

    assert count.by_template == {PATCH: 1}
    assert count.graph_writes[0]["body"] == {"body": {"contentType": "text", "content": "Tea"}}
    assert (echo.rows, echo.by_template) == (set(), {DELTA: 1})
    assert (office.only()["notes"], office.only()["syncState"]) == ("Tea", "synced")


def test_notes_and_title(office: Office) -> None:
    """One PATCH, also where Outlook has moved it meanwhile."""
    one = office.book()
    office.sync()
    office.outlook("PATCH", "oak", office.events()[0]["id"], span(office.noon + 3 * HOUR))
    office.edit(one, notes="Tea", title="Ours")

    with office.counting() as count:
        office.send()

    assert count.by_template == {PATCH: 2, GET: 1}
    assert [write[2] for write in count.writes] == [{"subject", "body"}]
    after = office.only()
    assert (after["notes"], after["title"], after["syncState"]) == ("Tea", "Ours", "synced")
    assert after["start"] == graph_time(office.noon + 3 * HOUR)


def test_notes_end_where_they_began(office: Office) -> None:
    one = office.book(notes="Cake")
    office.sync()
    office.edit(one, notes="Tea")
    office.edit(one, notes="Cake")

    with office.counting() as count:
        office.send()

    assert (count.requests, office.only()["syncState"]) == (0, "synced")


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen"])
def test_notes_end_where_they_began_and_the_answer_was_lost(
    office: Office, monkeypatch: pytest.MonkeyPatch, *, seen: bool
) -> None:
    """Nobody knows which of them Microsoft has: they are sent."""
    one = office.book(notes="Cake")
    office.sync()
    office.edit(one, notes="Tea")
    lose_answers(office, monkeypatch)
    office.edit(one, notes="Cake")
    office.advance(6 * HOUR)

    with office.counting() as count:
        office.hear() if seen else office.wake()

    assert [write["body"]["body"]["content"] for write in count.graph_writes] == ["Cake"]
    assert "Cake" in office.events()[0]["body"]["content"]
    assert office.only()["syncState"] == "synced"


def test_notes_are_refused(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    one = office.book(notes="Cake")
    office.sync()
    office.edit(one, notes="Tea")
    break_writes(monkeypatch)

    office.send()

    after = office.only()
    assert (after["notes"], after["syncState"], after["note"]) == ("Cake", "rejected", "graph-refused")


def test_notes_on_a_meeting_from_outlook(anns: Anns) -> None:
    """Its text is its organizer's: the portal's notes stay here, whatever else is sent."""
    anns.office.change(0, anns.event, body={"contentType": "html", "content": "Join at example.com"})
    anns.office.sync()
    anns.office.edit(anns.one, notes="Mine", title="Ours")

    count = anns.send()

    assert count.writes == [("PATCH", anns.ann, {"subject"})]
    assert (anns.one["notes"], anns.copy["body"]["content"]) == ("Mine", "Join at example.com")


def test_notes_in_the_owners_calendar(make_office: Make) -> None:
    """The text of a meeting that was made there may hold by now what its owner has written, such as a link to join by:
    the portal's notes stay here.
    """
    office = opened(make_office, "101")
    one = made_on_user(office)
    assert one["status"] == "confirmed"

    office.edit(one, notes="Tea")
    with office.counting() as notes:
        office.send()
    office.edit(one, notes="", attendees=people(DAN))
    with office.counting() as both:
        office.send()
    office.sync()

    assert notes.writes == []
    assert (both.by_template, both.writes) == ({GET: 1, PATCH: 1}, [("PATCH", office.people[0], {"attendees"})])
    after = office.again(one)
    assert (shown(after), after["notes"], after["syncState"]) == ([DAN], "", "synced")


def test_details_in_the_owners_calendar_without_delegation(make_office: Make) -> None:
    """What may not be changed there is refused; notes are the portal's own."""
    office = opened(make_office, "001")
    one = made_on_user(office)

    assert office.edit(one, notes="Tea")["notes"] == "Tea"
    assert problem(office.ask_to_edit(one, attendees=[])) == (409, "organizer-locked")


def test_a_private_meeting_of_the_portals(make_office: Make) -> None:
    """The portal knows whom it has invited, and goes on knowing."""
    office = opened(make_office, "101")
    one = made_on_user(office, private=True)
    office.change(0, office.events(office.people[0])[0], **span(office.noon + 3 * HOUR))

    office.sync()

    assert (shown(office.again(one)), office.again(one)["title"]) == ([office.people[1]], "Planning")


def test_changed_while_the_create_was_on_its_way(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A create is frozen: whom the portal invites after that is sent after it."""
    office = opened(make_office, "101")
    owner = {"name": "Ann", "email": office.people[0]}
    one = office.book(owner=owner, attendees=people(office.people[1]), notes="Cake")
    lose_answers(office, monkeypatch)
    office.edit(one, attendees=people(DAN), notes="Tea")
    office.advance(6 * HOUR)

    office.wake()
    office.sync()

    [event] = office.events(office.people[0])
    assert invited(event).keys() == {office.rooms[0], DAN}
    assert "Cake" in event["body"]["content"]
    after = office.again(one)
    assert (shown(after), after["notes"], after["syncState"]) == ([DAN], "Tea", "synced")


# --- series ----------------------------------------------------------------------------------------------------------


def series(make_office: Make) -> Anns:
    office = make_office("100")
    return Anns(office, recurrence=weekly(office.noon))


def of_type(office: Office, kind: str) -> list[Json]:
    return office.reservations(type=kind)


def test_a_series(make_office: Make) -> None:
    """The master is changed; its occurrences are in step with it, though the room hears nothing of it."""
    anns = series(make_office)
    [master] = of_type(anns.office, "series")
    anns.office.edit(master, attendees=people(anns.bo, anns.cy))

    count = anns.send()
    with anns.office.counting() as echo:
        anns.office.hear()

    assert count.by_template == {GET: 1, PATCH: 1}
    assert {tuple(invited(each)) for each in anns.office.events(anns.ann)} == {(anns.office.rooms[0], anns.bo, anns.cy)}
    found = anns.office.reservations()
    assert {(tuple(shown(one)), one["syncState"]) for one in found} == {((anns.bo, anns.cy), "synced")}
    assert (echo.rows, echo.graph_writes) == (set(), [])


def test_an_occurrence(make_office: Make) -> None:
    """It alone is changed, and stays as it is when its series is changed later, of which the room knows more."""
    anns = series(make_office)
    [master] = of_type(anns.office, "series")
    second = of_type(anns.office, "occurrence")[1]
    assert anns.office.edit(second, attendees=people(anns.cy))["type"] == "exception"

    count = anns.send()

    assert count.by_template == {INSTANCES: 1, PATCH: 1}
    counts = [set(invited(each)) - {anns.office.rooms[0]} for each in anns.office.events(anns.ann)]
    assert counts == [{anns.bo}, {anns.cy}, {anns.bo}, {anns.bo}]

    anns.office.edit(master, title="Ours")
    anns.office.sync()
    anns.office.sync()

    after = anns.office.again(second)
    assert (shown(after), after["type"], after["syncState"]) == ([anns.cy], "exception", "synced")
    assert anns.office.stored(second).link.told is None


def test_an_occurrence_is_as_its_series_again(make_office: Make) -> None:
    """Where Ann gives her series another hour, nothing of it is special any more."""
    anns = series(make_office)
    second = of_type(anns.office, "occurrence")[1]
    anns.office.edit(second, attendees=people(anns.cy))
    anns.send()
    anns.office.change(0, anns.office.masters(anns.ann)[0], **span(anns.office.noon + 3 * HOUR))

    anns.office.sync()
    anns.office.sync()

    found = of_type(anns.office, "occurrence")
    assert [shown(one) for one in found] == [[anns.bo]] * 4


def test_a_series_is_refused(make_office: Make) -> None:
    """All of it is as it was."""
    anns = series(make_office)
    [master] = of_type(anns.office, "series")
    anns.office.edit(master, attendees=people(anns.cy))
    anns.office.deny(anns.ann)

    anns.send()

    found = anns.office.reservations()
    assert [shown(one) for one in found] == [[anns.bo]] * len(found)
    assert {one["note"] for one in of_type(anns.office, "series")} == {"user-mailbox-denied"}


def test_notes_of_a_series(office: Office) -> None:
    """The room's own series and one of its occurrences get their texts."""
    one = office.book(recurrence=weekly(office.noon), notes="Cake")
    office.sync()
    second = of_type(office, "occurrence")[1]
    office.edit(one, notes="Tea")
    office.edit(second, notes="Milk")
    with office.counting() as count:
        office.send()
    with office.counting() as echo:
        office.hear()

    assert [write["body"]["body"]["content"] for write in count.graph_writes] == ["Tea", "Milk"]
    renewed = {PATCH: 1, GET: 1}  # the change of the series is a new version of its occurrences
    assert count.by_template - Counter(renewed) == {PATCH: 2, DELTA: 1, INSTANCES: 1}
    assert (echo.rows, echo.graph_writes) == (set(), [])
    assert [each["notes"] for each in office.reservations()] == ["Tea", "Milk", "Tea", "Tea"]
    assert {each["syncState"] for each in office.reservations()} == {"synced"}
    texts = [next(word for word in ("Tea", "Milk") if word in each["body"]["content"]) for each in office.events()]
    assert texts == ["Tea", "Milk", "Tea", "Tea"]


def test_notes_of_an_occurrence_that_is_as_its_series_again(office: Office) -> None:
    """Where Outlook gives the series another hour, its text is that of the series."""
    office.book(recurrence=weekly(office.noon), notes="Cake")
    office.sync()
    office.edit(of_type(office, "occurrence")[1], notes="Milk")
    office.sync()

    office.outlook("PATCH", "oak", office.masters()[0]["id"], span(office.noon + 3 * HOUR))
    office.sync()

    assert [each["notes"] for each in office.reservations()] == ["Cake"] * 4


def test_notes_of_an_occurrence_before_its_series_was_sent(office: Office) -> None:
    """The series is made first, then the occurrence is changed; people stay here."""
    office.book(recurrence=weekly(office.noon), notes="Cake")
    second = of_type(office, "occurrence")[1]
    office.edit(second, notes="Milk", attendees=people(DAN))

    office.sync()

    assert ["Milk" in each["body"]["content"] for each in office.events()] == [False, True, False, False]
    after = office.again(second)
    assert (after["notes"], shown(after), after["syncState"]) == ("Milk", [DAN], "synced")
