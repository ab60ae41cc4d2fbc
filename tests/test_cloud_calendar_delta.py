"""calendarView/delta of the simulated Exchange: rounds, stubs, removals, and everything that a reader must withstand."""

from typing import Any
from urllib.parse import quote

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
    round_of,
    view_delta,
    weekly,
)
from tests.cloud import NewTenant, TestTenant

Json = dict[str, Any]


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of two rooms and two people with an app that may write calendars."""
    return new_tenant(users=2, guestShare=0, rooms=2, roles=CALENDARS)


@pytest.fixture
def room(tenant: TestTenant) -> Json:
    return rooms_of(tenant)[0]


def create(tenant: TestTenant, room: Json, **body: Any) -> Json:
    made: Json = tenant.control.post(f"mailboxes/{room['id']}/events", event(**body))
    return made


def gone(rows: list[Json]) -> set[str]:
    return {row["id"] for row in rows if "@removed" in row}


def there(rows: list[Json]) -> set[str]:
    return {row["id"] for row in rows if "@removed" not in row}


def test_a_first_round_has_everything_in_the_window(tenant, room):
    graph = tenant.graph()
    inside, _ = create(tenant, room), create(tenant, room, on=300)
    series = create(tenant, room, on=1, recurrence=weekly(on=1, days=("tuesday",)))
    second = instances(graph, room, series["id"])[1]["id"]
    tenant.control.patch(f"mailboxes/{room['id']}/events/{second}", {"subject": "Special"})
    rows, link = round_of(graph, view_delta(room))
    by_type = {kind: [row for row in rows if row["type"] == kind] for kind in {row["type"] for row in rows}}
    nothing, _ = round_of(graph, link)

    assert {kind: len(found) for kind, found in by_type.items()} == {
        "singleInstance": 1,
        "seriesMaster": 1,
        "occurrence": 3,
        "exception": 1,
    }
    assert by_type["singleInstance"][0]["id"] == inside["id"]
    assert by_type["exception"][0]["subject"] == "Special"
    assert by_type["seriesMaster"][0]["recurrence"]["range"]["numberOfOccurrences"] == 4
    for stub in by_type["occurrence"]:
        assert set(stub) == {"@odata.type", "@odata.etag", "id", "seriesMasterId", "type", "start", "end"}
        assert stub["seriesMasterId"] == series["id"]
        assert graph.get(f"/users/{room['id']}/events/{stub['id']}").json()["subject"] == "Planning"
    assert nothing == []


def test_pages_are_as_long_as_the_client_prefers(tenant, room):
    graph = tenant.graph()
    for number in range(7):
        create(tenant, room, on=number)
    by_three = graph.get(view_delta(room), headers={"Prefer": "odata.maxpagesize=3"})
    rows, _ = round_of(graph, view_delta(room), Prefer='IdType="ImmutableId", odata.maxpagesize=3')

    assert len(by_three.json()["value"]) == 3
    assert by_three.headers["Preference-Applied"] == "odata.maxpagesize=3"
    assert by_three.json()["@odata.context"].endswith("$metadata#Collection(event)")
    assert "@odata.deltaLink" not in by_three.json()
    assert [row["start"]["dateTime"][:10] for row in rows] == [day(number) for number in range(7)]


def test_a_round_tells_what_changed(tenant, room):
    graph = tenant.graph()
    stays, changes, goes, leaves = (create(tenant, room, on=number) for number in range(4))
    own = f"mailboxes/{room['id']}/events"
    _, link = round_of(graph, view_delta(room))
    tenant.control.patch(f"{own}/{changes['id']}", {"subject": "Changed"})
    tenant.control.delete(f"{own}/{goes['id']}")
    tenant.control.patch(f"{own}/{leaves['id']}", {"start": at(300, 9), "end": at(300, 10)})
    outside = create(tenant, room, on=301)
    added = create(tenant, room, on=5)
    rows, link = round_of(graph, link)

    assert there(rows) == {changes["id"], added["id"]}
    assert gone(rows) == {goes["id"], leaves["id"], outside["id"]}
    assert {row["@removed"]["reason"] for row in rows if "@removed" in row} == {"deleted"}
    assert stays["id"] not in there(rows)
    tenant.control.patch(f"{own}/{leaves['id']}", {"start": at(8, 9), "end": at(8, 10)})
    rows, _ = round_of(graph, link)
    assert there(rows) == {leaves["id"]}


def test_a_series_that_moves_has_other_occurrences(tenant, room):
    graph = tenant.graph()
    series = create(tenant, room, recurrence=weekly())
    rows, link = round_of(graph, view_delta(room))
    before = there(rows) - {series["id"]}
    tenant.control.patch(f"mailboxes/{room['id']}/events/{series['id']}", {"start": at(0, 13), "end": at(0, 14)})
    rows, link = round_of(graph, link)
    after = there(rows) - {series["id"]}

    assert (gone(rows), len(after), after & before) == (before, 4, set())
    tenant.control.delete(f"mailboxes/{room['id']}/events/{series['id']}")
    rows, _ = round_of(graph, link)
    assert gone(rows) == after | {series["id"]}


@pytest.mark.parametrize("silent", [False, True])
def test_a_deleted_occurrence_may_give_no_sign(tenant, room, silent):
    graph = tenant.graph()
    series = create(tenant, room, recurrence=weekly())
    tenant.control.post("faults", {"silentOccurrenceDeletes": silent})
    _, link = round_of(graph, view_delta(room))
    second = instances(graph, room, series["id"])[1]["id"]
    tenant.control.delete(f"mailboxes/{room['id']}/events/{second}")
    rows, _ = round_of(graph, link)

    assert (second in gone(rows)) == (not silent)
    assert (rows == []) == silent
    assert second not in there(round_of(graph, view_delta(room))[0])


def test_a_single_event_that_becomes_a_series_and_one_again(tenant, room):
    graph = tenant.graph()
    made = create(tenant, room)
    own = f"mailboxes/{room['id']}/events/{made['id']}"
    _, link = round_of(graph, view_delta(room))
    tenant.control.patch(own, {"recurrence": weekly()})
    rows, link = round_of(graph, link)
    assert [row["type"] for row in rows] == ["seriesMaster", *["occurrence"] * 4]

    occurrences = there(rows) - {made["id"]}
    tenant.control.patch(own, {"recurrence": None})
    rows, _ = round_of(graph, link)
    assert (there(rows), gone(rows)) == ({made["id"]}, occurrences)


def test_a_booking_is_two_changes_for_a_reader_in_between(tenant, room):
    graph, ann = tenant.graph(), people_of(tenant)[0]
    tenant.control.post("meetings", {"delayMs": "manual"})
    _, link = round_of(graph, view_delta(room))
    tenant.control.post(f"mailboxes/{ann['id']}/events", event(**inviting(room)))
    tenant.control.post("meetings/deliver", {"count": 1})
    [first], link = round_of(graph, link)
    tenant.control.post("meetings/deliver")
    [second], _ = round_of(graph, link)

    assert (first["subject"], second["subject"]) == ("Planning", ann["displayName"])
    assert (first["id"], first["iCalUId"]) == (second["id"], second["iCalUId"])
    assert first["@odata.etag"] != second["@odata.etag"]


def test_a_declined_meeting_leaves_only_a_removal(tenant, room):
    graph, ann = tenant.graph(), people_of(tenant)[0]
    create(tenant, room)
    _, link = round_of(graph, view_delta(room))
    tenant.control.post(f"mailboxes/{ann['id']}/events", event(**inviting(room)))
    rows, _ = round_of(graph, link)

    assert (there(rows), len(gone(rows))) == (set(), 1)


def test_links_expire(tenant, room):
    graph = tenant.graph()
    create(tenant, room)
    _, link = round_of(graph, view_delta(room))
    tenant.control.post("expire", {"delta": True})
    refused = graph.get(link)

    assert refusal(refused) == (410, "SyncStateNotFound")
    assert "calendarView/delta" in refused.headers["Location"]
    tenant.control.post("faults", {"expiredDelta": "syncStateNotFound"})
    assert refusal(graph.get(link)) == (400, "syncStateNotFound")
    assert len(round_of(graph, view_delta(room))[0]) == 1


def test_only_the_latest_generations_are_kept(tenant, room):
    graph = tenant.graph()
    tenant.control.post("faults", {"deltaGenerations": 3})
    links = [round_of(graph, view_delta(room))[1]]
    for _ in range(3):
        links.append(round_of(graph, links[-1])[1])

    assert [graph.get(link).status_code for link in reversed(links[1:2])] == [200]
    assert refusal(graph.get(links[0])) == (410, "SyncStateNotFound")
    assert refusal(graph.get(links[1])) == (410, "SyncStateNotFound")
    assert graph.get(links[3]).status_code == 200


def test_a_link_may_be_used_again(tenant, room):
    graph = tenant.graph()
    _, link = round_of(graph, view_delta(room))
    made = create(tenant, room)

    assert there(round_of(graph, link)[0]) == there(round_of(graph, link)[0]) == {made["id"]}


def test_what_goes_in_the_middle_of_a_round_is_shown_as_gone(tenant, room):
    graph = tenant.graph()
    made = [create(tenant, room, on=number) for number in range(4)]
    page = graph.get(view_delta(room), headers={"Prefer": 'IdType="ImmutableId", odata.maxpagesize=2'}).json()
    tenant.control.delete(f"mailboxes/{room['id']}/events/{made[3]['id']}")
    rows, link = round_of(graph, page["@odata.nextLink"])

    assert (there(rows), gone(rows)) == ({made[2]["id"]}, {made[3]["id"]})
    assert gone(round_of(graph, link)[0]) == {made[3]["id"]}


def test_untidy_rounds_hold_everything_all_the_same(tenant, room):
    graph = tenant.graph()
    made = {create(tenant, room, on=number)["id"] for number in range(40)}
    tenant.control.post("faults", {"untidyPaging": True, "seed": 4})
    small = {"Prefer": 'IdType="ImmutableId", odata.maxpagesize=4'}
    pages, url = [], view_delta(room)
    while url:
        pages.append(graph.get(url, headers=small).json())
        url = pages[-1].get("@odata.nextLink", "")
    rows = [row["id"] for page in pages for row in page["value"]]

    assert set(rows) == made
    assert len(rows) > 40
    assert any(not page["value"] and "@odata.nextLink" in page for page in pages)
    _, link = round_of(graph, view_delta(room))
    assert there(round_of(graph, link)[0]) <= made


def test_a_complete_round_may_be_empty_once(tenant, room):
    graph = tenant.graph()
    made = create(tenant, room)
    tenant.control.post("faults", {"emptyRounds": 1})
    empty, _ = round_of(graph, view_delta(room))
    whole, _ = round_of(graph, view_delta(room))

    assert (empty, there(whole)) == ([], {made["id"]})
    assert tenant.control.get("faults")["emptyRounds"] == 0


@pytest.mark.parametrize("option", ["$select=id", "$filter=type eq 'x'", "$expand=extensions", "$top=3", "$orderby=id"])
def test_options_that_delta_does_not_have(tenant, room, option):
    assert refusal(tenant.graph().get(f"{view_delta(room)}&{option}"))[0] == 400


def test_links_belong_to_a_mailbox(tenant, room):
    graph, other = tenant.graph(), rooms_of(tenant)[1]
    _, link = round_of(graph, view_delta(room))

    assert graph.get(link.replace(room["emailAddress"], other["emailAddress"])).status_code in (400, 410)
    assert refusal(graph.get(f"/users/{room['id']}/calendarView/delta")) == (400, "ErrorInvalidParameter")
    named = graph.get(view_delta(room).replace("calendarView", "calendar/calendarView"), headers=IMMUTABLE)
    assert named.status_code == 200


def test_the_window_may_be_read_in_another_zone(tenant, room):
    create(tenant, room)
    rows, _ = round_of(tenant.graph(), view_delta(room), Prefer='outlook.timezone="India Standard Time"')

    assert (rows[0]["start"]["dateTime"][11:16], rows[0]["start"]["timeZone"]) == ("14:30", "India Standard Time")


def test_links_of_a_name_that_needs_encoding(tenant):
    """Such as the userPrincipalName of somebody who came from another tenant."""
    graph, ann = tenant.graph(), people_of(tenant)[0]
    tenant.control.patch(f"users/{ann['id']}", {"userPrincipalName": f"ann_x#EXT#@{tenant.domain}"})
    for number in range(12):
        create(tenant, ann, on=number)
    name = quote(f"ann_x#EXT#@{tenant.domain}")
    rows, link = round_of(graph, view_delta({"emailAddress": name}))
    page = graph.get(f"/users/{name}/events").json()

    assert len(rows) == 12
    assert round_of(graph, link)[0] == []
    assert len(graph.get(page["@odata.nextLink"]).json()["value"]) == 2
