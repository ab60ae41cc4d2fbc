"""The calendars' cases, of users' mailboxes that refuse, fail or have lost an event. The names are those of the reference,
section 7.
"""

import pytest

from sync.calendars.model import PLACEHOLDER
from tests.clock import never_wait
from tests.office import (
    DAY,
    HOUR,
    SEARCH,
    VIEW,
    Json,
    Make,
    Office,
    graph_time,
    make_office,
    opened,
    span,
    weekly,
)

__all__ = ["make_office"]


def ten_meetings(office: Office) -> list[Json]:
    return [office.meet(0, start=office.noon + number * HOUR) for number in range(10)]


@pytest.mark.parametrize("change", [{"denied": True}, {"mailbox": "onPremises"}], ids=["403", "404 on-premises"])
def test_read_403(make_office: Make, change: Json) -> None:
    """Import ten meetings of one user; one call, placeholders, link Active. Asked again after a day. 404: the same."""
    office = opened(make_office, "000")
    ten_meetings(office)
    office.deny(office.people[0], **change)

    with office.counting() as count:
        office.sync()
        office.full()

    assert {one["title"] for one in office.reservations()} == {PLACEHOLDER}
    assert len(office.reservations()) == 10
    assert count.to(office.people[0]) == [SEARCH]
    assert office.status() == ("active", "polling-only")
    assert office.room()["warnings"] == ["user-mailbox-denied"]

    office.deny(office.people[0], denied=False, mailbox="cloud")
    office.advance(DAY)
    office.tenant.control.post("counters")
    office.full()
    assert {one["title"] for one in office.reservations()} == {"Planning"}
    assert office.room()["warnings"] == []
    assert office.tenant.control.get("counters")["graph"]["throttled"] == 0  # four at once at most


def test_read_finds_nothing(make_office: Make) -> None:
    """Empty result with a live room copy, nor is it there in its time: the reservation is kept, and asked about again
    at the next full sync.
    """
    office = opened(make_office, "000")
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    meeting = office.meet(0)
    office.tenant.control.post("meetings/deliver", {"count": 1})
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.call_off(0, meeting)
    with office.counting() as count:
        office.sync()
    assert office.only()["status"] == "confirmed"
    assert count.to(office.people[0]) == [SEARCH, VIEW]

    with office.counting() as count:
        office.sync()
        office.full()
    assert count.to(office.people[0]) == [SEARCH, VIEW]


@pytest.mark.parametrize("change", [{"denied": True}, {"mailbox": "none"}], ids=["403", "404"])
def test_c_on_post_403(make_office: Make, change: Json) -> None:
    """Event on room, owner changeable."""
    office = opened(make_office, "101")
    office.deny(office.people[0], **change)
    one = office.book(owner={"name": "Ann", "email": office.people[0]})

    office.send()

    after = office.again(one)
    assert (after["status"], after["organizer"], after["note"]) == ("confirmed", "room", "owner-calendar-denied")
    assert len(office.events()) == 1
    assert office.ask_to_edit(one, owner={"name": "Bo", "email": office.people[1]}).status == 200
    office.sync()
    assert [each["id"] for each in office.reservations()] == [one["id"]]
    assert office.room()["warnings"] == ["user-mailbox-denied"]


@pytest.mark.parametrize("fault", ["rate503", "rateReset"])
def test_c_on_post_fails(make_office: Make, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Timeout/5xx: retry the same mailbox, same transactionId, same payload; never fall back."""
    never_wait(monkeypatch)
    office = opened(make_office, "101")
    one = office.book(owner={"name": "Ann", "email": office.people[0]}, title="First")
    office.tenant.control.post("faults", {fault: 1, "retryAfter": {"seconds": 0}})
    office.send()
    office.tenant.control.post("faults", {})
    assert office.again(one)["syncState"] == "pending"
    office.edit(one, title="Second")

    with office.counting() as count:
        office.advance(6 * HOUR / 60)
        office.wake()

    posts = [write for write in count.graph_writes if write["method"] == "POST"]
    assert {write["mailbox"] for write in count.graph_writes} == {office.people[0]}
    assert [write["body"]["subject"] for write in posts] == ["First"]
    office.sync()
    assert [event["subject"] for event in office.events(office.people[0])] == ["Second"]
    assert (office.only()["id"], office.only()["title"]) == (one["id"], "Second")


def test_c_on_user_moves_before_the_answer_came(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base is what was sent, so an edit already made in Outlook counts as one; there is one reservation."""
    never_wait(monkeypatch)
    office = opened(make_office, "101")
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.tenant.control.post("faults", {"rateReset": 1})
    office.send()
    office.tenant.control.post("faults", {})
    [meeting] = office.events(office.people[0])
    office.change(0, meeting, **span(office.noon + 3 * HOUR))

    office.advance(6 * HOUR / 60)
    office.wake()
    office.sync()

    after = office.only()
    assert (after["id"], after["start"]) == (one["id"], graph_time(office.noon + 3 * HOUR))


def test_organizer_item_404(make_office: Make) -> None:
    """Room copy live; edit; refused, reservation active."""
    office = opened(make_office, "100")
    meeting = office.meet(0)
    office.sync()
    one = office.only()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.call_off(0, meeting)

    for change in (lambda: office.edit(one, title="Ours"), lambda: office.cancel(one)):
        change()
        with office.counting() as count:
            office.send()
        assert count.graph_writes == []
        assert SEARCH in count.to(office.people[0])
        after = office.again(one)
        assert (after["status"], after["title"]) == ("confirmed", "Planning")
        assert (after["syncState"], after["note"]) == ("rejected", "organizer-event-missing")


@pytest.mark.parametrize("change", [{"denied": True}, {"mailbox": "onPremises"}], ids=["403", "404"])
def test_write_403(make_office: Make, change: Json) -> None:
    """The reservation is as both agreed, Blocked; the room's copy is never written instead."""
    office = opened(make_office, "100")
    office.meet(0)
    office.sync()
    one = office.only()
    office.deny(office.people[0], **change)

    for act in (lambda: office.edit(one, **span(office.noon + 3 * HOUR)), lambda: office.cancel(one)):
        act()
        with office.counting() as count:
            office.send()
        assert count.graph_writes == []
        after = office.again(one)
        assert (after["status"], after["start"], after["syncState"]) == ("confirmed", one["start"], "rejected")
        assert after["note"] == "user-mailbox-denied"


def test_a_series_of_the_owner(make_office: Make) -> None:
    """A recurring reservation in its owner's calendar: one POST, and each occurrence is confirmed once the room has it."""
    office = opened(make_office, "101")
    one = office.book(owner={"name": "Ann", "email": office.people[0]}, recurrence=weekly(office.noon, 3))

    with office.counting() as count:
        office.send()
    office.sync()

    assert [(method, mailbox) for method, mailbox, _ in count.writes] == [("POST", office.people[0])]
    found = office.reservations()
    assert [each["start"] for each in found] == [graph_time(office.noon + week * 7 * DAY) for week in range(3)]
    assert {(each["status"], each["seriesId"]) for each in found} == {("confirmed", one["id"])}

    office.edit(found[1], title="Ours")
    office.cancel(found[2])
    office.sync()
    assert [event["subject"] for event in office.events(office.people[0])] == ["Planning", "Ours"]
    assert len(office.events()) == 2
    assert [each["title"] for each in office.reservations()] == ["Planning", "Ours"]
