"""The calendars' cases, of rooms and their link to a mailbox. The names are those of the reference, section 7."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from azure.core.exceptions import ServiceRequestError

from sync import jobs
from tests.clock import never_wait
from tests.house import House
from tests.office import HOUR, MINUTE, NAME, Office, make_office, office, span
from tests.webhooks import Server, listening, webhooks

__all__ = ["listening", "make_office", "office", "webhooks"]


@pytest.fixture
def reachable(make_office: Callable[..., Office], listening: House) -> Office:
    """An office whose portal Graph can reach."""
    return make_office(house=listening)


def timer(office: Office, after: timedelta) -> None:
    """So much later the poll of calendars is due."""
    office.advance(after)
    jobs.start(office.house.app, NAME, "calendars", trigger="timer")
    office.house.work()


def test_valid_room_box_on(reachable: Office, webhooks: Server) -> None:
    """Timer; Pending→Active, one subscription."""
    office = reachable
    address = office.rooms[0]
    body = {"displayName": "Oak", "externalCalendar": address, "active": True}
    answer = office.portal("PUT", "rooms/oak", body)
    assert (answer.json["status"], answer.json["statusDetail"]) == ("pending", None)

    office.house.work()

    assert office.status() == ("active", "webhook")
    [subscription] = office.tenant.control.get("subscriptions")
    assert subscription["resource"].lower().strip("/") == f"users/{address}/events"
    office.sync()
    assert len(office.tenant.control.get("subscriptions")) == 1


def test_room_mailbox_404(office: Office) -> None:
    """Timer; Error `mailbox_not_found`, other rooms Active."""
    office.link("elm", 1)
    office.meet(0)
    office.sync()
    office.deny("oak", mailbox="none")

    timer(office, 16 * MINUTE)

    assert office.status("oak") == ("error", "mailbox-not-found")
    assert office.room("oak")["remedy"]
    assert office.status("elm") == ("active", "polling-only")
    assert len(office.reservations("oak")) == 1


def test_an_address_that_nobody_has(office: Office) -> None:
    """The same, from the start; what was booked waits, and goes out once the address is a room's."""
    domain = office.rooms[1].partition("@")[2]
    office.portal("PUT", "rooms/elm", {"displayName": "Elm", "externalCalendar": f"elm@{domain}", "active": True})
    office.house.work()
    assert office.status("elm") == ("error", "mailbox-not-found")
    one = office.book("elm")
    office.house.work()
    assert office.again(one, "elm")["syncState"] == "pending"

    office.link("elm", 1)

    assert office.status("elm") == ("active", "polling-only")
    assert office.again(one, "elm")["syncState"] == "synced"
    assert len(office.events("elm")) == 1


def test_room_403(office: Office) -> None:
    """Timer; Error `room_denied`, reservations untouched; tried again by and by, and all is well again."""
    office.meet(0)
    office.sync()
    before = office.reservations()
    office.deny("oak")

    timer(office, 16 * MINUTE)

    assert office.status() == ("error", "room-denied")
    assert office.reservations() == before
    with office.counting() as count:
        timer(office, MINUTE)
    assert count.requests == 0

    office.deny("oak", denied=False)
    timer(office, 6 * MINUTE)
    assert office.status() == ("active", "polling-only")
    assert office.reservations() == before


@pytest.mark.parametrize("how", ["sync", "room"])
def test_room_403_that_is_over(office: Office, how: str) -> None:
    """Sync now, or saving the room again, tries it at once, however long its next try is away."""
    office.meet(0)
    office.deny("oak")
    for minutes in (16, 6, 11, 21, 41):
        timer(office, minutes * MINUTE)
    retry_at = office.state().retry_at
    assert retry_at is not None
    assert retry_at - office.now() > HOUR
    with office.counting() as count:
        office.send()
    assert count.requests == 0
    office.deny("oak", denied=False)

    if how == "sync":
        office.sync()
    else:
        body = {"displayName": "Oak", "externalCalendar": office.rooms[0], "active": True, "timeZone": "UTC"}
        assert office.portal("PUT", "rooms/oak", body).json["status"] == "pending"
        office.send()

    assert office.status() == ("active", "polling-only")
    assert len(office.reservations()) == 1


def test_room_403_still(office: Office) -> None:
    """Sync now tries it once, and no more."""
    office.deny("oak")
    office.sync()
    for _ in range(2):
        office.advance(MINUTE)
        with office.counting() as count:
            office.sync()
        assert len(count.to(office.rooms[0])) == 1
    assert office.status() == ("error", "room-denied")


def test_a_new_room_that_does_not_answer(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again after five minutes, not at once, and says after an hour what is wrong."""
    never_wait(monkeypatch)
    office.tenant.control.post("faults", {"rate503": 1, "retryAfter": {"style": "seconds", "seconds": 0}})
    with office.counting() as count:
        office.link("elm", 1)
    tries = len(count.to(office.rooms[1]))
    assert tries < 20
    assert office.status("elm") == ("pending", None)
    with office.counting() as count:
        timer(office, MINUTE)
    assert count.to(office.rooms[1]) == []

    timer(office, 61 * MINUTE)
    assert office.status("elm") == ("error", "unreachable")
    office.tenant.control.post("faults", {})
    timer(office, 16 * MINUTE)
    assert office.status("elm") == ("active", "polling-only")


def test_secret_expired(office: Office) -> None:
    """Timer; all rooms Error `credential`; rotated; Active, nothing deleted."""
    office.link("elm", 1)
    office.meet(0)
    office.sync()
    before = office.reservations()
    app = office.tenant.app["appId"]
    old = office.tenant.app["secrets"][0]["keyId"]
    past = {"endDateTime": (office.now() - HOUR).strftime("%Y-%m-%dT%H:%M:%SZ")}
    office.tenant.control.patch(f"apps/{app}/secrets/{old}", past)

    timer(office, 2 * HOUR)

    assert {office.status("oak"), office.status("elm")} == {("error", "credential")}
    assert office.reservations() == before

    fresh = office.tenant.control.post(f"apps/{app}/secrets")
    credential = {"type": "clientSecret", "secretValue": fresh["value"]}
    assert office.portal("PUT", "credential", credential).status == 200
    office.house.work()

    assert {office.status("oak"), office.status("elm")} == {("active", "polling-only")}
    assert office.reservations() == before


def test_secret_revoked(office: Office) -> None:
    """A secret that worked and was removed has lapsed, also where rooms are all that is synced."""
    key = office.tenant.app["secrets"][0]["keyId"]
    office.tenant.control.delete(f"apps/{office.tenant.client_id}/secrets/{key}")
    office.house.app.forget_sign_in(NAME)

    office.sync()

    assert office.house.get(f"connections/{NAME}")["status"] == "expired"
    assert office.status() == ("error", "credential")


def test_secret_that_never_worked(make_office: Callable[..., Office]) -> None:
    """It has failed, not lapsed."""
    office = make_office()
    key = office.tenant.app["secrets"][0]["keyId"]
    office.tenant.control.delete(f"apps/{office.tenant.client_id}/secrets/{key}")

    office.link()

    assert office.house.get(f"connections/{NAME}")["status"] == "failed"


def test_subscription_refused_with_extension_error(reachable: Office) -> None:
    """First round fine; Active `polling_only`."""
    office = reachable
    office.deny(office.rooms[0], noSubscriptions=True)
    office.link()
    office.meet(0)
    office.sync()

    assert office.status() == ("active", "polling-only")
    assert office.room()["remedy"]
    assert len(office.reservations()) == 1


def test_portal_bookings_queue_in_a_pending_room(office: Office) -> None:
    """They are clash-checked at their first push."""
    body = {"displayName": "Elm", "externalCalendar": office.rooms[1], "active": True, "timeZone": "UTC"}
    office.meet(0, office.rooms[1])
    office.portal("PUT", "rooms/elm", body)
    taken, free = office.book("elm"), office.book("elm", office.noon + 3 * HOUR)

    office.house.work()

    assert office.again(taken, "elm")["status"] == "declined"
    assert (office.again(taken, "elm")["syncState"], office.again(taken, "elm")["note"]) == ("rejected", "room-busy")
    assert office.again(free, "elm")["syncState"] == "synced"
    assert len(office.events(office.rooms[1])) == 2


def test_box_unchecked(office: Office) -> None:
    """Off: the links are kept, and there are no calls; checked again, all is as it was."""
    meeting = office.meet(0)
    office.sync()
    [one] = office.reservations()
    office.link(active=False)

    with office.counting() as count:
        timer(office, 16 * MINUTE)
    assert (count.requests, office.status()) == (0, ("inactive", None))
    office.change(0, meeting, subject="Review")

    office.link(active=True)

    assert office.status() == ("active", "polling-only")
    [after] = office.reservations()
    assert (after["id"], after["title"]) == (one["id"], "Review")


def test_graph_is_throttled(office: Office) -> None:
    """429 never leaves Active."""
    office.tenant.control.post("faults", {"rate429": 1, "retryAfter": {"style": "seconds", "seconds": 120}})

    timer(office, 16 * MINUTE)

    assert office.status() == ("active", "polling-only")


def test_graph_is_unreachable(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """5xx never leaves Active until no success for 60 minutes."""
    never_wait(monkeypatch)
    office.tenant.control.post("faults", {"rate503": 1, "retryAfter": {"style": "seconds", "seconds": 0}})

    timer(office, 16 * MINUTE)
    assert office.status() == ("active", "polling-only")
    timer(office, 59 * MINUTE)
    assert office.status() == ("active", "polling-only")
    timer(office, 6 * MINUTE)
    assert office.status() == ("error", "unreachable")

    office.tenant.control.post("faults", {})
    timer(office, 17 * MINUTE)
    assert office.status() == ("active", "polling-only")


def test_address_change(office: Office) -> None:
    """The links to the former calendar are dropped; what the portal booked moves along."""
    office.meet(0)
    ours = office.book(start=office.noon + 5 * HOUR)
    office.sync()
    theirs = next(one for one in office.reservations() if one["origin"] == "microsoft")

    office.link(number=1)

    assert office.again(theirs)["status"] == "cancelled"
    assert office.again(ours)["syncState"] == "synced"
    assert [event["subject"] for event in office.events(office.rooms[1])] == ["Planning"]
    assert office.status() == ("active", "polling-only")
    office.sync()
    assert [one["id"] for one in office.reservations()] == [ours["id"]]


def test_rooms_are_separate(office: Office) -> None:
    """One failure makes the run partial."""
    office.link("elm", 1)
    office.deny("oak")
    office.meet(0, "elm", start=office.noon)
    assert office.events("elm")

    run = office.sync()

    assert (run["status"], run["counts"]["failed"]) == ("partial", 1)
    assert len(office.reservations("elm")) == 1


def test_room_removed(office: Office) -> None:
    """Its reservations go; nothing in Outlook does."""
    office.meet(0)
    office.book(start=office.noon + 3 * HOUR)
    office.sync()
    assert len(office.events()) == 2

    assert office.portal("DELETE", "rooms/oak").status == 204
    office.house.work()

    assert len(office.events()) == 2
    assert office.portal("GET", "rooms/oak").status == 404


def test_floating_times_of_the_rooms_zone(office: Office) -> None:
    """A booking without a time zone is one in the room's."""
    office.link(timeZone="America/New_York")
    wall = office.noon.strftime("%Y-%m-%dT09:00:00")

    times = {"start": {"dateTime": wall}, "end": {"dateTime": wall.replace("T09", "T10")}}
    one = office.portal("POST", "rooms/oak/reservations", {"title": "Planning", **times}).json
    office.sync()

    assert one["start"]["timeZone"] == "America/New_York"
    [event] = office.events()
    assert span(office.noon)["start"]["dateTime"][:10] in event["start"]["dateTime"]


def test_queue_down(office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What was stored is answered as such, and the timer has it seen to."""
    sent = office.book()
    office.send()

    def down(*_: object) -> None:
        raise ServiceRequestError("down")

    with monkeypatch.context() as patch:
        patch.setattr(office.house.app.queues, "send", down)
        made = office.book(start=office.noon + 3 * HOUR)
        office.edit(made, title="Changed")
        office.cancel(sent)
        body = {"displayName": "Elm", "externalCalendar": office.rooms[1], "active": True}
        assert office.portal("PUT", "rooms/elm", body).status == 201
    assert f"run left to the timer connection={NAME} fault=ServiceRequestError" in caplog.messages

    office.advance(6 * MINUTE)
    jobs.tick(office.house.app, "calendars")
    office.send()

    assert [event["subject"] for event in office.events()] == ["Changed"]
    assert office.status("elm") == ("active", "polling-only")
