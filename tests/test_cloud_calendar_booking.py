"""The booking assistant of the simulated Exchange: how meetings reach rooms and people, and what becomes of them."""

from typing import Any

import pytest

from tests.calendars import (
    CALENDARS,
    IMMUTABLE,
    at,
    day,
    event,
    instances,
    inviting,
    people_of,
    refusal,
    rooms_of,
    starts,
    weekly,
)
from tests.cloud import NewTenant, TestTenant

Json = dict[str, Any]


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of two rooms and two people with an app that may write calendars."""
    return new_tenant(users=2, guestShare=0, rooms=2, roles=CALENDARS)


def invite(tenant: TestTenant, *rooms: Json, person: int = 0, **body: Any) -> Json:
    """A person books rooms in Outlook."""
    made: Json = tenant.control.post(
        f"mailboxes/{people_of(tenant)[person]['id']}/events", event(**inviting(*rooms), **body)
    )
    return made


def held(tenant: TestTenant, mailbox: Json) -> list[Json]:
    found: list[Json] = tenant.control.get(f"mailboxes/{mailbox['id']}/events")
    return found


def answers(tenant: TestTenant, meeting: Json, person: int = 0) -> list[str]:
    """What the attendees have answered, as the organizer sees it."""
    own = tenant.control.get(f"mailboxes/{people_of(tenant)[person]['id']}/events/{meeting['id']}")
    return [each["status"]["response"] for each in own["attendees"]]


def deliver(tenant: TestTenant, count: int | None = None) -> list[str]:
    """Let meeting messages through; answers their kinds."""
    done: list[Json] = tenant.control.post("meetings/deliver", {} if count is None else {"count": count})
    return [each["kind"] for each in done]


@pytest.fixture
def by_hand(tenant: TestTenant) -> TestTenant:
    """The same tenant where meeting messages wait to be delivered one by one."""
    tenant.control.post("meetings", {"delayMs": "manual"})
    return tenant


# One message after the other


def test_a_booking_step_by_step(by_hand):
    room, ann = rooms_of(by_hand)[0], people_of(by_hand)[0]
    body = {"contentType": "text", "content": "Secret"}
    made = invite(by_hand, room, sensitivity="private", body=body, categories=["Red"], transactionId="t")
    at_first = held(by_hand, room)
    pending = by_hand.control.get("meetings/pending")
    assert (at_first, answers(by_hand, made)) == ([], ["none"])
    assert [(each["kind"], each["to"], each["from"]) for each in pending] == [
        ("request", room["emailAddress"], ann["mail"])
    ]

    assert deliver(by_hand, 1) == ["request"]
    [booked] = held(by_hand, room)
    assert (booked["subject"], booked["sensitivity"], booked["responseStatus"]["response"]) == (
        "Planning",
        "private",
        "accepted",
    )
    assert (booked["categories"], booked["transactionId"], booked["isOrganizer"]) == ([], None, False)
    assert answers(by_hand, made) == ["none"]

    assert deliver(by_hand) == ["tidy", "response"]
    [tidied] = held(by_hand, room)
    assert (tidied["subject"], tidied["sensitivity"], tidied["body"]["content"]) == (ann["displayName"], "normal", "")
    assert (tidied["id"], tidied["iCalUId"]) == (booked["id"], made["iCalUId"])
    assert tidied["changeKey"] != booked["changeKey"]
    assert answers(by_hand, made) == ["accepted"]


def test_messages_are_under_way_for_as_long_as_the_tenant_says(tenant):
    tenant.control.post("meetings", {"delayMs": 60_000})
    room = rooms_of(tenant)[0]
    invite(tenant, room)

    assert held(tenant, room) == []
    tenant.control.post("clock", {"advanceSeconds": 61})
    assert [each["subject"] for each in held(tenant, room)] == ["Planning"]
    tenant.control.post("clock", {"advanceSeconds": 61})
    assert [each["subject"] for each in held(tenant, room)] == [people_of(tenant)[0]["displayName"]]


# Changes and cancellations


def test_the_organizer_moves_and_renames_the_meeting(tenant):
    room = rooms_of(tenant)[0]
    made = invite(tenant, room)
    [booked] = held(tenant, room)
    own = f"mailboxes/{people_of(tenant)[0]['id']}/events/{made['id']}"
    tenant.control.patch(own, {"start": at(1, 14), "end": at(1, 16), "subject": "Moved"})
    [moved] = held(tenant, room)

    assert (moved["id"], starts([moved]), moved["subject"]) == (
        booked["id"],
        [f"{day(1)}T14:00"],
        people_of(tenant)[0]["displayName"],
    )
    assert answers(tenant, made) == ["accepted"]


def test_new_times_ask_everybody_anew(by_hand):
    room = rooms_of(by_hand)[0]
    made = invite(by_hand, room)
    deliver(by_hand)
    by_hand.control.patch(f"mailboxes/{people_of(by_hand)[0]['id']}/events/{made['id']}", {"end": at(0, 12)})

    assert answers(by_hand, made) == ["none"]
    deliver(by_hand)
    assert answers(by_hand, made) == ["accepted"]


@pytest.mark.parametrize("path", ["delete", "cancel"])
def test_a_cancelled_meeting_leaves_the_room(tenant, path):
    graph, room, ann = tenant.graph(), rooms_of(tenant)[0], people_of(tenant)[0]
    made = invite(tenant, room)
    url = f"/users/{ann['id']}/events/{made['id']}"
    answer = graph.delete(url) if path == "delete" else graph.post(f"{url}/cancel", json={"comment": "sorry"})

    assert answer.status_code == {"delete": 204, "cancel": 202}[path]
    assert held(tenant, room) == held(tenant, ann) == []


def test_a_room_may_keep_what_is_cancelled(tenant):
    room = rooms_of(tenant)[0]
    tenant.control.patch(f"rooms/{room['id']}", {"removeCanceledMeetings": False})
    made = invite(tenant, room)
    tenant.control.delete(f"mailboxes/{people_of(tenant)[0]['id']}/events/{made['id']}")
    [kept] = held(tenant, room)

    assert (kept["isCancelled"], kept["showAs"]) == (True, "free")
    other = invite(tenant, room, person=1)
    assert answers(tenant, other, person=1) == ["accepted"]


def test_a_meeting_changes_its_room(tenant):
    first, second = rooms_of(tenant)
    made = invite(tenant, first)
    own = f"mailboxes/{people_of(tenant)[0]['id']}/events/{made['id']}"
    tenant.control.patch(own, inviting(second))

    assert held(tenant, first) == []
    assert [each["iCalUId"] for each in held(tenant, second)] == [made["iCalUId"]]
    both = tenant.control.patch(own, inviting(first, second))
    assert [each["status"]["response"] for each in both["attendees"]] == ["accepted", "accepted"]
    assert held(tenant, first)[0]["id"] != held(tenant, second)[0]["id"]
    tenant.control.patch(own, inviting(second))
    assert (len(held(tenant, first)), len(held(tenant, second))) == (0, 1)


# Rules of the room


def test_a_room_declines_what_overlaps(tenant):
    room = rooms_of(tenant)[0]
    first = invite(tenant, room)
    second = invite(tenant, room, person=1)
    touching = invite(tenant, room, person=1, hour=10)
    free = invite(tenant, room, person=1, showAs="free")

    assert answers(tenant, first) == ["accepted"]
    assert answers(tenant, second, person=1) == ["declined"]
    assert answers(tenant, touching, person=1) == ["accepted"]
    assert answers(tenant, free, person=1) == ["accepted"]
    assert {each["iCalUId"] for each in held(tenant, room)} == {each["iCalUId"] for each in (first, touching, free)}
    assert [each["showAs"] for each in held(tenant, room)] == ["busy", "busy", "free"]


def test_a_declined_meeting_may_come_back(tenant):
    room = rooms_of(tenant)[0]
    invite(tenant, room)
    made = invite(tenant, room, hour=12)
    before = next(each for each in held(tenant, room) if each["iCalUId"] == made["iCalUId"])
    own = f"mailboxes/{people_of(tenant)[0]['id']}/events/{made['id']}"
    tenant.control.patch(own, {"start": at(0, 9), "end": at(0, 10)})
    gone = [each for each in held(tenant, room) if each["iCalUId"] == made["iCalUId"]]
    declined = answers(tenant, made)
    tenant.control.patch(own, {"start": at(0, 15), "end": at(0, 16)})
    [again] = [each for each in held(tenant, room) if each["iCalUId"] == made["iCalUId"]]

    assert (gone, declined, answers(tenant, made)) == ([], ["declined"], ["accepted"])
    assert again["id"] != before["id"]


def test_a_room_that_allows_conflicts(tenant):
    room = rooms_of(tenant)[0]
    tenant.control.patch(f"rooms/{room['emailAddress']}", {"allowConflicts": True})
    made = [invite(tenant, room), invite(tenant, room)]

    assert [answers(tenant, each) for each in made] == [["accepted"], ["accepted"]]
    assert len(held(tenant, room)) == 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"on": 150}, "accepted"),
        ({"on": 190}, "declined"),
        ({"end": at(1, 9)}, "accepted"),
        ({"end": at(1, 10)}, "declined"),
        ({"recurrence": weekly(count=15)}, "accepted"),
        ({"recurrence": weekly(count=50)}, "declined"),
    ],
)
def test_horizon_and_length(tenant, body, expected):
    made = tenant.control.post(
        f"mailboxes/{people_of(tenant)[0]['id']}/events",
        event(on=body.get("on", 0)) | inviting(rooms_of(tenant)[0]) | {k: v for k, v in body.items() if k != "on"},
    )

    assert answers(tenant, made) == [expected]


def test_rules_that_differ_from_their_defaults(tenant):
    room = rooms_of(tenant)[0]
    rules = {"deleteSubject": False, "deleteComments": False, "removePrivateProperty": False}
    tenant.control.patch(
        f"rooms/{room['id']}", {**rules, "enforceSchedulingHorizon": False, "allowRecurringMeetings": True}
    )
    span = {"type": "noEnd", "startDate": day(0)}
    made = invite(tenant, room, sensitivity="private", recurrence={"pattern": weekly()["pattern"], "range": span})
    [booked] = held(tenant, room)
    tenant.control.patch(f"rooms/{room['id']}", {"allowRecurringMeetings": False})
    series = invite(tenant, room, on=1, recurrence=weekly(on=1, days=("tuesday",)))

    assert booked["subject"] == f"{people_of(tenant)[0]['displayName']} Planning"
    assert booked["sensitivity"] == "private"
    assert booked["recurrence"]["range"]["type"] == "endDate"
    assert (answers(tenant, made), answers(tenant, series)) == (["accepted"], ["declined"])


def test_a_room_that_leaves_meetings_to_its_delegates(tenant):
    room = rooms_of(tenant)[0]
    tenant.control.patch(f"rooms/{room['id']}", {"autoAccept": False})
    made = invite(tenant, room)
    [pending] = held(tenant, room)

    assert (pending["responseStatus"]["response"], pending["showAs"]) == ("notResponded", "tentative")
    assert answers(tenant, made) == ["none"]
    tenant.control.post(f"mailboxes/{room['id']}/events/{pending['id']}/accept")
    assert answers(tenant, made) == ["accepted"]


def test_meetings_from_outside(tenant):
    room = rooms_of(tenant)[0]
    outside = {
        "organizer": {"emailAddress": {"name": "Zoe", "address": "zoe@fabrikam.example"}},
        "iCalUId": "uid-of-elsewhere",
    }
    body = event(**inviting(room)) | outside
    tenant.control.post("mailboxes/zoe@fabrikam.example/events", body)
    ignored = held(tenant, room)
    tenant.control.patch(f"rooms/{room['id']}", {"processExternalMeetingMessages": True})
    made = tenant.control.post("mailboxes/zoe@fabrikam.example/events", body | {"iCalUId": "another"})
    [booked] = held(tenant, room)

    assert ignored == []
    assert (booked["subject"], booked["iCalUId"]) == ("Zoe", "another")
    assert booked["organizer"]["emailAddress"]["address"] == "zoe@fabrikam.example"
    assert refusal(tenant.graph().get("/users/zoe@fabrikam.example/events")) == (404, "ErrorInvalidUser")
    tenant.control.delete(f"mailboxes/zoe@fabrikam.example/events/{made['id']}")
    assert held(tenant, room) == []


def test_what_is_written_into_the_rooms_own_calendar_is_not_asked_for(tenant):
    """Nobody checks it for conflicts, and it keeps its subject."""
    graph, room = tenant.graph(), rooms_of(tenant)[0]
    invite(tenant, room)
    made = graph.post(f"/users/{room['id']}/events", json=event("Over it")).json()

    assert (made["subject"], made["isOrganizer"]) == ("Over it", True)
    assert len(held(tenant, room)) == 2


# The copy of an attendee


def test_an_attendees_copy_is_their_own(tenant):
    graph, room = tenant.graph(), rooms_of(tenant)[0]
    made = invite(tenant, room)
    [booked] = held(tenant, room)
    url = f"/users/{room['id']}/events/{booked['id']}"
    changed = graph.patch(url, json={"start": at(0, 11), "end": at(0, 12), "subject": "Local"}, headers=IMMUTABLE)
    cancelled = graph.post(f"{url}/cancel", json={})
    own = tenant.control.get(f"mailboxes/{people_of(tenant)[0]['id']}/events/{made['id']}")

    assert (changed.json()["subject"], starts([changed.json()])) == ("Local", [f"{day(0)}T11:00"])
    assert (own["subject"], starts([own]), own["attendees"][0]["status"]["response"]) == (
        "Planning",
        [f"{day(0)}T09:00"],
        "accepted",
    )
    assert cancelled.status_code == 400
    assert "organizer to cancel" in cancelled.json()["error"]["message"]
    tenant.control.patch(f"mailboxes/{people_of(tenant)[0]['id']}/events/{made['id']}", {"subject": "Newer"})
    assert starts(held(tenant, room)) == [f"{day(0)}T09:00"]
    assert graph.delete(url).status_code == 204
    assert answers(tenant, made) == ["accepted"]
    assert [each["isOrganizer"] for each in tenant.control.get("calendar-writes")] == [False, False]


def test_a_room_declines_by_graph(tenant):
    graph, room, ann = tenant.graph(), rooms_of(tenant)[0], people_of(tenant)[0]
    made = invite(tenant, room)
    [booked] = held(tenant, room)
    declined = graph.post(
        f"/users/{room['id']}/events/{booked['id']}/decline", json={"comment": "", "sendResponse": True}
    )
    own = graph.post(f"/users/{ann['id']}/events/{made['id']}/accept", json={})

    assert (declined.status_code, own.status_code) == (202, 400)
    assert (held(tenant, room), answers(tenant, made)) == ([], ["declined"])


def test_people_are_invited_too(tenant):
    ann, bob = people_of(tenant)
    made = tenant.control.post(
        f"mailboxes/{ann['id']}/events",
        event(attendees=[{"type": "required", "emailAddress": {"address": bob["mail"]}}]),
    )
    [copy] = held(tenant, bob)

    assert (copy["responseStatus"]["response"], copy["showAs"], copy["subject"]) == (
        "notResponded",
        "tentative",
        "Planning",
    )
    assert made["attendees"][0]["emailAddress"]["name"] == bob["displayName"]
    tenant.graph().post(f"/users/{bob['id']}/events/{copy['id']}/tentativelyAccept", json={})
    assert answers(tenant, made) == ["tentativelyAccepted"]
    tenant.control.delete(f"mailboxes/{ann['id']}/events/{made['id']}")
    [kept] = held(tenant, bob)
    assert (kept["isCancelled"], kept["subject"]) == (True, "Canceled: Planning")


# Series


def test_a_series_in_a_room_with_what_differs(tenant):
    graph, room, ann = tenant.graph(), rooms_of(tenant)[0], people_of(tenant)[0]
    made = invite(tenant, room, recurrence=weekly())
    own = instances(graph, ann, made["id"])
    graph.patch(f"/users/{ann['id']}/events/{own[1]['id']}", json={"start": at(8, 14), "end": at(8, 15)})
    graph.delete(f"/users/{ann['id']}/events/{own[2]['id']}")
    [master] = held(tenant, room)
    there = instances(graph, room, master["id"], select="originalStart,start,type,subject,iCalUId")

    assert (master["type"], master["iCalUId"]) == ("seriesMaster", made["iCalUId"])
    assert starts(there) == [f"{day(0)}T09:00", f"{day(8)}T14:00", f"{day(21)}T09:00"]
    assert {each["subject"] for each in there} == {ann["displayName"]}
    assert [each["type"] for each in there] == ["occurrence", "exception", "occurrence"]
    assert there[1]["iCalUId"] == own[1]["iCalUId"]
    graph.patch(f"/users/{ann['id']}/events/{made['id']}", json={"start": at(0, 13), "end": at(0, 14)})
    again = instances(graph, room, master["id"])
    assert starts(again) == [f"{day(7 * number)}T13:00" for number in range(4)]
    assert not {each["id"] for each in again} & {each["id"] for each in there}


def test_one_occurrence_conflicts_or_the_series_does(tenant):
    graph, room, ann = tenant.graph(), rooms_of(tenant)[0], people_of(tenant)[0]
    invite(tenant, room, person=1, on=8)
    made = invite(tenant, room, recurrence=weekly())
    second = instances(graph, ann, made["id"])[1]["id"]
    moved = graph.patch(f"/users/{ann['id']}/events/{second}", json={"start": at(8, 9), "end": at(8, 10)})
    shown = graph.get(f"/users/{ann['id']}/events/{second}").json()
    clashing = invite(tenant, room, on=8, recurrence=weekly(on=8, days=("tuesday",)))
    [master] = [each for each in held(tenant, room) if each["iCalUId"] == made["iCalUId"]]

    assert moved.status_code == 200
    assert shown["attendees"][0]["status"]["response"] == "declined"
    assert starts(instances(graph, room, master["id"])) == [f"{day(number)}T09:00" for number in (0, 14, 21)]
    assert (answers(tenant, made), answers(tenant, clashing)) == (["accepted"], ["declined"])


def test_a_room_declines_one_occurrence_by_graph(tenant):
    graph, room, ann = tenant.graph(), rooms_of(tenant)[0], people_of(tenant)[0]
    made = invite(tenant, room, recurrence=weekly())
    [master] = held(tenant, room)
    second = instances(graph, room, master["id"])[1]["id"]
    declined = graph.post(f"/users/{room['id']}/events/{second}/decline", json={})
    own = instances(graph, ann, made["id"])

    assert declined.status_code == 202
    assert starts(instances(graph, room, master["id"])) == [f"{day(number)}T09:00" for number in (0, 14, 21)]
    assert [each["attendees"][0]["status"]["response"] for each in own] == [
        "accepted",
        "declined",
        "accepted",
        "accepted",
    ]


def test_a_room_for_one_occurrence_alone(tenant):
    graph, (first, second), ann = tenant.graph(), rooms_of(tenant), people_of(tenant)[0]
    made = invite(tenant, first, recurrence=weekly())
    url = f"/users/{ann['id']}/events"
    third = instances(graph, ann, made["id"])[2]
    graph.patch(f"{url}/{third['id']}", json=inviting(second))
    [orphan] = held(tenant, second)
    [master] = held(tenant, first)

    assert (orphan["type"], starts([orphan]), orphan["iCalUId"]) == (
        "singleInstance",
        [f"{day(14)}T09:00"],
        third["iCalUId"],
    )
    assert starts(instances(graph, first, master["id"])) == [f"{day(number)}T09:00" for number in (0, 7, 21)]
    graph.patch(f"{url}/{made['id']}", json={"subject": "Renamed"})
    [master] = held(tenant, first)
    assert starts(instances(graph, first, master["id"])) == [f"{day(number)}T09:00" for number in (0, 7, 21)]
    graph.delete(f"{url}/{made['id']}")
    assert held(tenant, first) == held(tenant, second) == []


def test_a_single_meeting_becomes_a_series_in_the_room_as_well(tenant):
    graph, room, ann = tenant.graph(), rooms_of(tenant)[0], people_of(tenant)[0]
    made = invite(tenant, room)
    [single] = held(tenant, room)
    graph.patch(f"/users/{ann['id']}/events/{made['id']}", json={"recurrence": weekly()})
    [master] = held(tenant, room)

    assert (master["id"], master["iCalUId"], master["type"]) == (single["id"], single["iCalUId"], "seriesMaster")
    assert len(instances(graph, room, master["id"])) == 4
