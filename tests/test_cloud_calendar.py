"""Events in the simulated Exchange, over HTTPS: one mailbox at a time."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.calendars import CALENDARS, IMMUTABLE, at, day, event, people_of, refusal, rooms_of, starts, weekly, window
from tests.cloud import NewTenant, TestTenant


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of a room and two people with an app that may write calendars."""
    return new_tenant(users=2, guestShare=0, rooms=1, roles=CALENDARS)


@pytest.fixture
def room(tenant: TestTenant) -> dict[str, Any]:
    return rooms_of(tenant)[0]


def events_of(room: dict[str, Any]) -> str:
    return f"/users/{room['emailAddress']}/events"


# One event


def test_a_new_event_has_the_shape_of_graph(tenant, room):
    body = event(transactionId="7e1b", location={"displayName": "Room 1"}, categories=["Red"])
    answer = tenant.graph().post(events_of(room), json=body, headers=IMMUTABLE)
    made = answer.json()

    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == 'IdType="ImmutableId"'
    assert made["@odata.context"].endswith(f"$metadata#users('{room['id']}')/events/$entity")
    assert made["@odata.etag"] == f'W/"{made["changeKey"]}"'
    assert made["start"] == {"dateTime": f"{day(0)}T09:00:00.0000000", "timeZone": "UTC"}
    assert made["end"] == {"dateTime": f"{day(0)}T10:00:00.0000000", "timeZone": "UTC"}
    assert made["organizer"] == {"emailAddress": {"name": "Room 1", "address": room["emailAddress"]}}
    assert made["responseStatus"] == {"response": "none", "time": "0001-01-01T00:00:00Z"}
    assert made["location"]["displayName"] == made["locations"][0]["displayName"] == "Room 1"
    assert {name: made[name] for name in ("type", "isOrganizer", "showAs", "sensitivity", "isAllDay")} == {
        "type": "singleInstance",
        "isOrganizer": True,
        "showAs": "busy",
        "sensitivity": "normal",
        "isAllDay": False,
    }
    assert (made["transactionId"], made["categories"], made["seriesMasterId"]) == ("7e1b", ["Red"], None)
    assert (made["originalStartTimeZone"], made["recurrence"], made["attendees"]) == ("UTC", None, [])
    assert made["iCalUId"].startswith("040000008200E00074C5B7101A82E008")
    assert "originalStart" not in made


def test_a_mailbox_is_found_by_id_name_and_address(tenant, room):
    graph, ann = tenant.graph(), people_of(tenant)[0]
    tenant.control.patch(f"users/{ann['id']}", {"mail": "Ann.Lee@elsewhere.example"})
    made = graph.post(f"/users/{ann['id']}/events", json=event()).json()

    for key in (ann["id"].upper(), ann["userPrincipalName"], "ann.lee@elsewhere.example"):
        assert graph.get(f"/users/{key}/events/{made['id']}").json()["subject"] == "Planning"
    assert graph.get(f"/users/{room['id']}/events/{made['id']}").status_code == 404


def test_every_save_has_a_new_change_key_and_the_old_one_is_refused(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    made = graph.post(events, json=event()).json()
    changed = graph.patch(
        f"{events}/{made['id']}", json={"subject": "Moved"}, headers={"If-Match": made["@odata.etag"]}
    )
    stale = {"If-Match": made["@odata.etag"]}

    assert (changed.status_code, changed.json()["subject"]) == (200, "Moved")
    assert changed.json()["changeKey"] != made["changeKey"]
    assert changed.json()["lastModifiedDateTime"] > made["lastModifiedDateTime"]
    assert (changed.json()["iCalUId"], changed.json()["id"]) == (made["iCalUId"], made["id"])
    refused = graph.patch(f"{events}/{made['id']}", json={"subject": "x"}, headers=stale)
    assert refusal(refused) == (412, "ErrorIrresolvableConflict")
    assert refusal(graph.delete(f"{events}/{made['id']}", headers=stale)) == (412, "ErrorIrresolvableConflict")
    assert graph.delete(f"{events}/{made['id']}", headers={"If-Match": "*"}).status_code == 204
    assert refusal(graph.get(f"{events}/{made['id']}")) == (404, "ErrorItemNotFound")
    assert refusal(graph.patch(f"{events}/{made['id']}", json={})) == (404, "ErrorItemNotFound")
    assert refusal(graph.delete(f"{events}/{made['id']}")) == (404, "ErrorItemNotFound")


def test_two_ids_find_an_event_and_only_one_survives_a_move(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    made = graph.post(events, json=event()).json()
    kept = graph.get(f"{events}/{made['id']}", headers=IMMUTABLE).json()["id"]
    translated = graph.post(
        f"/users/{room['id']}/translateExchangeIds",
        json={"inputIds": [kept], "sourceIdType": "restImmutableEntryId", "targetIdType": "restId"},
    ).json()["value"]
    tenant.control.post(f"mailboxes/{room['id']}/events/{kept}/move")

    assert translated == [{"sourceId": kept, "targetId": made["id"]}]
    assert refusal(graph.get(f"{events}/{made['id']}")) == (404, "ErrorItemNotFound")
    moved = graph.get(f"{events}/{kept}").json()
    assert moved["subject"] == "Planning"
    assert moved["id"] not in (made["id"], kept)
    assert refusal(graph.get(f"{events}/{kept.swapcase()}"))[0] in (400, 404)
    assert refusal(graph.get(f"{events}/nonsense")) == (400, "ErrorInvalidIdMalformed")


def test_a_transaction_id_makes_one_event(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    body = event(transactionId="one")
    first = graph.post(events, json=body)
    again = graph.post(events, json=body)
    other = graph.post(events, json=body | {"subject": "Other"})

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert refusal(other) == (409, "ErrorDuplicateTransactionId")
    assert len(graph.get(events).json()["value"]) == 1
    assert graph.post(f"/users/{people_of(tenant)[0]['id']}/events", json=body).json()["id"] != first.json()["id"]


def test_a_client_sees_times_and_bodies_as_it_prefers(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    body = event(zone="America/New_York", hour=9, body={"contentType": "text", "content": "a < b\nnext"})
    made = graph.post(events, json=body).json()
    prefer = 'outlook.timezone="Tokyo Standard Time", outlook.body-content-type="text", IdType="ImmutableId"'
    shown = graph.get(f"{events}/{made['id']}", headers={"Prefer": prefer})

    assert made["originalStartTimeZone"] == "Eastern Standard Time"
    assert made["start"]["timeZone"] == "UTC"
    assert shown.json()["start"]["timeZone"] == "Tokyo Standard Time"
    assert shown.json()["start"]["dateTime"][11:16] == "23:00"
    assert shown.json()["body"] == {"contentType": "text", "content": "a < b\nnext"}
    assert "a &lt; b<br>" in made["body"]["content"]
    assert made["bodyPreview"] == "a < b\nnext"
    for part in ('outlook.timezone="Tokyo Standard Time"', 'outlook.body-content-type="text"', 'IdType="ImmutableId"'):
        assert part in shown.headers["Preference-Applied"]
    wrong = graph.get(f"{events}/{made['id']}", headers={"Prefer": 'outlook.timezone="Mars"'})
    assert refusal(wrong) == (400, "TimeZoneNotSupportedException")


def test_whole_days_keep_their_dates_in_every_zone(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    whole = {"isAllDay": True, "start": at(0, 0, zone="Asia/Tokyo"), "end": at(2, 0, zone="Asia/Tokyo")}
    made = graph.post(events, json={"subject": "Fair", **whole}).json()
    pacific = {"Prefer": 'outlook.timezone="Pacific Standard Time"'}
    shown = graph.get(f"{events}/{made['id']}", headers=pacific).json()

    assert made["start"] == {"dateTime": f"{day(0)}T00:00:00.0000000", "timeZone": "UTC"}
    assert made["originalStartTimeZone"] == "Tokyo Standard Time"
    assert shown["start"] == {"dateTime": f"{day(0)}T00:00:00.0000000", "timeZone": "Pacific Standard Time"}
    assert shown["end"]["dateTime"] == f"{day(2)}T00:00:00.0000000"


def test_a_change_leaves_the_rest(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    made = graph.post(events, json=event(importance="high", location={"displayName": "Here"})).json()
    url = f"{events}/{made['id']}"
    moved = graph.patch(url, json={"start": at(1, 9), "end": at(1, 11)}).json()
    cleared = graph.patch(url, json={"subject": None, "location": {"displayName": "There"}, "id": "x"}).json()

    assert (moved["subject"], moved["importance"], starts([moved])) == ("Planning", "high", [f"{day(1)}T09:00"])
    assert (cleared["subject"], cleared["locations"][0]["displayName"]) == ("", "There")
    assert cleared["id"] == made["id"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"start": {"dateTime": "2026-01-01T10:00:00", "timeZone": "Mars"}}, "TimeZoneNotSupportedException"),
        ({"start": {"dateTime": "tomorrow", "timeZone": "UTC"}}, "RequestBodyRead"),
        ({"start": None}, "RequestBodyRead"),
        ({"end": {"dateTime": "2020-01-01T10:00:00", "timeZone": "UTC"}}, "ErrorCalendarEndDateIsEarlierThanStartDate"),
        ({"isAllDay": True}, "ErrorInvalidRequest"),
        ({"showAs": "sleeping"}, "RequestBodyRead"),
        ({"subject": 5}, "RequestBodyRead"),
        ({"shoeSize": 42}, "RequestBodyRead"),
        ({"attendees": [{"emailAddress": {"address": "nobody"}}]}, "ErrorInvalidRecipients"),
        (
            {"attendees": [{"emailAddress": {"address": f"{n}@a.b"}} for n in range(501)]},
            "ErrorPropertyValidationFailure",
        ),
        ({"singleValueExtendedProperties": [{"id": "x"}]}, "RequestBodyRead"),
        ({"recurrence": {"pattern": {"type": "daily", "interval": 1}}}, "ErrorPropertyValidationFailure"),
    ],
)
def test_what_exchange_refuses(tenant, room, change, code):
    graph, events = tenant.graph(), events_of(room)
    made = graph.post(events, json=event()).json()

    assert refusal(graph.post(events, json=event() | change)) == (400, code)
    assert refusal(graph.patch(f"{events}/{made['id']}", json=change)) == (400, code)
    assert graph.get(f"{events}/{made['id']}").json()["changeKey"] == made["changeKey"]
    assert len(graph.get(events).json()["value"]) == 1


def test_what_only_a_creation_or_only_a_change_refuses(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    made = graph.post(events, json=event()).json()

    assert refusal(graph.post(events, json={"subject": "x"})) == (400, "ErrorPropertyValidationFailure")
    assert refusal(graph.post(events, data="{")) == (400, "RequestBodyRead")
    changed = graph.patch(f"{events}/{made['id']}", json={"transactionId": "late"})
    assert refusal(changed) == (400, "ErrorInvalidPropertySet")


def test_extended_properties_come_when_asked_for(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    name = "String {66f5a359-4659-4830-9070-00047ec6ac6e} Name PortalEventId"
    extension = {"@odata.type": "microsoft.graph.openTypeExtension", "extensionName": "com.portal.ref", "eventId": "1"}
    extras: dict[str, Any] = {
        "singleValueExtendedProperties": [{"id": name, "value": "Abc"}],
        "extensions": [extension],
    }
    made = graph.post(events, json=event(**extras)).json()
    graph.post(events, json=event("Other", hour=11))
    expand = f"singleValueExtendedProperties($filter=id eq '{name}'),extensions($filter=id eq 'com.portal.ref')"
    shown = graph.get(f"{events}/{made['id']}?$expand={quote(expand)}").json()
    clause = f"singleValueExtendedProperties/Any(ep: ep/id eq '{name}' and ep/value eq 'abc')"
    found = graph.get(f"{events}?$filter={quote(clause)}").json()["value"]

    assert "singleValueExtendedProperties" not in made
    assert "extensions" not in made
    assert shown["singleValueExtendedProperties"] == [{"id": name, "value": "Abc"}]
    assert shown["extensions"][0]["eventId"] == "1"
    assert shown["extensions"][0]["id"] == "microsoft.graph.openTypeExtension.com.portal.ref"
    assert [each["id"] for each in found] == [made["id"]]


# Lists


def test_a_list_has_pages_and_a_count(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    for number in range(12):
        graph.post(events, json=event(f"No. {number}", on=number))
    first = graph.get(f"{events}?$count=true&$select=subject").json()
    second = graph.get(first["@odata.nextLink"]).json()
    sized = graph.get(events, headers={"Prefer": "odata.maxpagesize=5"})

    assert (len(first["value"]), first["@odata.count"], len(second["value"])) == (10, 12, 2)
    assert "@odata.nextLink" not in second
    assert set(first["value"][0]) == {"@odata.etag", "id", "subject"}
    assert len(sized.json()["value"]) == 5
    assert sized.headers["Preference-Applied"] == "odata.maxpagesize=5"
    assert len(graph.get(f"{events}?$top=5000").json()["value"]) == 12
    assert [each["subject"] for each in graph.get(f"{events}?$top=2&$skip=3").json()["value"]] == ["No. 3", "No. 4"]


def test_filters_and_order(tenant, room):
    graph, events = tenant.graph(), events_of(room)
    made = [graph.post(events, json=event(f"No. {number}", on=number)).json() for number in (2, 0, 1)]

    def found(clause: str, more: str = "") -> list[str]:
        return [each["subject"] for each in graph.get(f"{events}?$filter={quote(clause)}{more}").json()["value"]]

    assert found(f"iCalUId eq '{made[1]['iCalUId']}'") == ["No. 0"]
    assert found(f"start/dateTime ge '{day(1)}T00:00:00' and end/dateTime lt '{day(2)}T00:00:00'") == ["No. 1"]
    assert found("subject eq 'no. 2' or subject eq 'No. 0'", "&$orderby=start/dateTime") == ["No. 0", "No. 2"]
    assert found("(isCancelled eq false)", "&$orderby=start/dateTime desc") == ["No. 2", "No. 1", "No. 0"]
    assert found("startsWith(subject,'No. 1')") == ["No. 1"]
    for wrong in ("transactionId eq 'x'", "subject gt 'a'", "start/dateTime ge 'soon'", "subject eq"):
        assert refusal(graph.get(f"{events}?$filter={quote(wrong)}")) == (400, "ErrorInvalidUrlQueryFilter")
    assert refusal(graph.get(f"{events}?$select=shoeSize")) == (400, "RequestBroker--ParseUri")


def test_a_view_is_of_a_window(tenant, room):
    graph, view = tenant.graph(), f"/users/{room['id']}/calendarView"
    for on in (0, 5, 9):
        graph.post(events_of(room), json=event(f"Day {on}", on=on))
    graph.post(events_of(room), json=event("Series", on=0, hour=12, recurrence=weekly(count=2)))
    shown = graph.get(f"{view}?{window(0, 8)}&$orderby=start/dateTime").json()["value"]
    at_offset = graph.get(
        f"{view}?startDateTime={day(5)}T12:00:00%2B03:00&endDateTime={day(5)}T12:30:00%2B03:00"
    ).json()

    assert [each["subject"] for each in shown] == ["Day 0", "Series", "Day 5", "Series"]
    assert {each["type"] for each in shown} == {"singleInstance", "occurrence"}
    assert [each["subject"] for each in at_offset["value"]] == ["Day 5"]
    assert [each["type"] for each in graph.get(events_of(room)).json()["value"]].count("seriesMaster") == 1
    for wrong in ("", "?startDateTime=now&endDateTime=then", f"?{window(10, 0)}", f"?{window(0, 2000)}"):
        assert refusal(graph.get(view + wrong)) == (400, "ErrorInvalidParameter")


def test_the_calendar_has_a_name_and_an_id(tenant, room):
    graph = tenant.graph()
    calendar = graph.get(f"/users/{room['id']}/calendar").json()
    by_id = f"/users/{room['id']}/calendars/{calendar['id']}"
    made = graph.post(f"{by_id}/events", json=event()).json()

    assert [each["id"] for each in graph.get(f"/users/{room['id']}/calendars").json()["value"]] == [calendar["id"]]
    assert (calendar["name"], calendar["isDefaultCalendar"]) == ("Calendar", True)
    assert graph.get(f"/users/{room['id']}/calendar/events/{made['id']}").json()["subject"] == "Planning"
    assert graph.patch(f"{by_id}/events/{made['id']}", json={"subject": "x"}).status_code == 200
    assert len(graph.get(f"{by_id}/calendarView?{window()}").json()["value"]) == 1
    assert refusal(graph.get(f"/users/{room['id']}/calendars/{made['id']}/events")) == (404, "ErrorItemNotFound")


def test_the_schedule_of_a_room(tenant, room):
    graph = tenant.graph()
    graph.post(events_of(room), json=event(hour=9))
    graph.post(events_of(room), json=event("Maybe", hour=10, showAs="tentative", sensitivity="private"))
    wanted = {"schedules": [room["emailAddress"], "nobody@x.example"], "startTime": at(0, 8), "endTime": at(0, 12)}
    url = f"/users/{room['id']}/calendar/getSchedule"
    known, unknown = graph.post(url, json=wanted | {"availabilityViewInterval": 60}).json()["value"]

    assert known["availabilityView"] == "0210"
    assert [(each["status"], each.get("subject")) for each in known["scheduleItems"]] == [
        ("busy", "Planning"),
        ("tentative", None),
    ]
    assert unknown["error"]["responseCode"] == "ErrorMailRecipientNotFound"
    assert refusal(graph.post(url, json=wanted | {"availabilityViewInterval": 1})) == (400, "ErrorInvalidParameter")


def test_the_zones_that_exchange_knows(tenant, room):
    zones = tenant.graph().get(f"/users/{room['id']}/outlook/supportedTimeZones").json()["value"]

    assert {"GTB Standard Time", "UTC", "Eastern Standard Time"} <= {each["alias"] for each in zones}


# Who may


def test_roles(new_tenant):
    tenant = new_tenant(users=1, guestShare=0, rooms=1, roles=["Calendars.Read"])
    graph, room = tenant.graph(), rooms_of(tenant)[0]

    assert graph.get(events_of(room)).status_code == 200
    assert refusal(graph.post(events_of(room), json=event())) == (403, "ErrorAccessDenied")
    assert refusal(graph.get("/places/microsoft.graph.room")) == (403, "ErrorAccessDenied")


def test_mailboxes_that_an_app_cannot_reach(tenant, room):
    graph, (ann, bob) = tenant.graph(), people_of(tenant)
    tenant.control.patch(f"mailboxes/{bob['id']}", {"mailbox": "onPremises"})
    tenant.control.post("users", {"userPrincipalName": "no@mail.example", "displayName": "No"})
    tenant.control.patch(f"apps/{tenant.client_id}", {"mailboxScope": [room["emailAddress"].upper()]})

    assert graph.get(events_of(room)).status_code == 200
    assert refusal(graph.get(f"/users/{ann['id']}/events")) == (403, "ErrorAccessDenied")
    assert refusal(graph.get(f"/users/{bob['id']}/events")) == (404, "MailboxNotEnabledForRESTAPI")
    assert refusal(graph.get("/users/no@mail.example/events")) == (404, "MailboxNotEnabledForRESTAPI")
    assert refusal(graph.get("/users/nobody@mail.example/events")) == (404, "ErrorInvalidUser")
    tenant.control.patch(f"apps/{tenant.client_id}", {"mailboxScope": None})
    assert graph.get(f"/users/{ann['id']}/events").status_code == 200
    tenant.control.patch(f"mailboxes/{room['id']}", {"denied": True})
    assert refusal(graph.get(events_of(room))) == (403, "ErrorAccessDenied")


def test_a_tenant_file_says_where_mailboxes_are(cloud):
    data = {
        "displayName": "Fabrikam",
        "domain": "mailboxes.example",
        "apps": [{"roles": CALENDARS, "secrets": [{}]}],
        "rooms": [{"emailAddress": "one@mailboxes.example", "displayName": "One", "capacity": 3}],
        "users": [
            {"userPrincipalName": "a@mailboxes.example", "mail": "a@mailboxes.example", "mailbox": "none"},
            {"userPrincipalName": "b@mailboxes.example", "mail": "b@mailboxes.example"},
        ],
    }
    tenant = cloud.load(data)
    graph = tenant.graph()

    assert refusal(graph.get("/users/a@mailboxes.example/events")) == (404, "MailboxNotEnabledForRESTAPI")
    assert graph.get("/users/b@mailboxes.example/events").json()["value"] == []
    assert graph.get("/users/one@mailboxes.example/events").json()["value"] == []
    tenant.control.delete("")


# Limits


def test_four_requests_at_a_time_to_one_mailbox(tenant, room):
    items = [{"id": str(n), "method": "GET", "url": events_of(room)} for n in range(6)]
    answers = tenant.graph().post("/$batch", json={"requests": items}).json()["responses"]
    refused = [each for each in answers if each["status"] == 429]

    assert len(refused) == 2
    assert {each["body"]["error"]["code"] for each in refused} == {"ApplicationThrottled"}
    assert all("Retry-After" in each["headers"] for each in refused)


def test_so_many_requests_to_one_mailbox_in_ten_minutes(tenant, room):
    graph = tenant.graph()
    tenant.control.post("faults", {"mailboxRequests": 3})
    statuses = [graph.get(events_of(room)).status_code for _ in range(4)]

    assert statuses == [200, 200, 200, 429]
    assert graph.get(f"/users/{people_of(tenant)[0]['id']}/events").status_code == 200


def test_writes_in_a_batch_are_noted(tenant, room):
    graph = tenant.graph()
    post = {"method": "POST", "url": events_of(room), "headers": {"Content-Type": "application/json"}}
    items = [post | {"id": "1", "body": event()}, post | {"id": "2", "body": event("Second", hour=11)}]
    answers = graph.post("/$batch", json={"requests": items}).json()["responses"]
    writes = tenant.control.get("calendar-writes")

    assert {each["status"] for each in answers} == {201}
    assert [(each["method"], each["mailbox"], each["body"]["subject"]) for each in writes] == [
        ("POST", room["emailAddress"], "Planning"),
        ("POST", room["emailAddress"], "Second"),
    ]
    tenant.control.delete("calendar-writes")
    assert tenant.control.get("calendar-writes") == []


def test_the_journal_names_the_mailbox(tenant, room):
    graph, ann = tenant.graph(), people_of(tenant)[0]
    graph.get(events_of(room))
    graph.batch(
        f"/users/{ann['id'].upper()}/calendar", "/places/microsoft.graph.room", "/users/nobody@x.example/events"
    )
    journal = tenant.control.get("journal")

    assert {(each["template"], each["mailbox"]) for each in journal} == {
        ("GET /users/{id}/events", room["emailAddress"]),
        ("GET /users/{id}/calendar", ann["mail"]),
        ("GET /places/microsoft.graph.room", None),
        ("GET /users/{id}/events", "nobody@x.example"),
        ("POST /$batch", None),
    }
