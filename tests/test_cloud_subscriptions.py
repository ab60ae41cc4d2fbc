"""Subscriptions and notifications of the simulated Graph, over real sockets."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.calendars import (
    CALENDARS,
    ONE_NOTICE,
    Receiver,
    event,
    inviting,
    people_of,
    receiver,
    refusal,
    rooms_of,
    subscribe,
)
from tests.cloud import NewTenant, TestTenant

Json = dict[str, Any]
NOBODY = "http://127.0.0.1:9/notify"


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of two rooms and two people, where every change is notified once."""
    made: TestTenant = new_tenant(users=2, guestShare=0, rooms=2, roles=CALENDARS)
    made.control.post("faults", ONE_NOTICE)
    return made


@pytest.fixture
def room(tenant: TestTenant) -> Json:
    return rooms_of(tenant)[0]


@pytest.fixture
def hook():
    with receiver() as told:
        yield told


def in_minutes(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def expiry(shown: Json) -> datetime:
    """Graph writes seven digits of a second, which Python reads as six."""
    return datetime.fromisoformat(shown["expirationDateTime"][:26] + "+00:00")


def create(tenant: TestTenant, mailbox: Json, **body: Any) -> Json:
    made: Json = tenant.control.post(f"mailboxes/{mailbox['id']}/events", event(**body))
    return made


def counts(tenant: TestTenant) -> Json:
    found: Json = tenant.control.get("notifications/counts")
    return found


# Subscribing


def test_a_subscription_comes_after_its_handshake(tenant, room, hook):
    answer = subscribe(tenant.graph(), room["id"], hook.url)
    made = answer.json()

    assert answer.status_code == 201
    assert [each["path"].partition("?")[0] for each in hook.handshakes] == ["/notify", "/lifecycle"]
    assert all(each["path"].startswith(("/notify?code=abc&", "/lifecycle?code=abc&")) for each in hook.handshakes)
    assert {each["type"] for each in hook.handshakes} == {"text/plain; charset=utf-8"}
    assert re.fullmatch(r"Validation: .+ [0-9a-f-]{36}", hook.handshakes[0]["token"])
    assert (made["resource"], made["clientState"]) == (f"users/{room['id']}/events", "between us")
    assert (made["applicationId"], made["changeType"]) == (tenant.client_id, "created,updated,deleted")
    assert tenant.graph().get(f"/subscriptions/{made['id']}").json()["notificationUrl"] == hook.url


@pytest.mark.parametrize(
    "echo",
    [
        lambda token: (202, "text/plain", token),
        lambda token: (500, "text/plain", token),
        lambda token: (200, "application/json", token),
        lambda token: (200, "text/plain", token.replace(" ", "%20")),
        lambda token: (200, "text/plain", f'"{token}"'),
        lambda _: (302, "text/plain", ""),
    ],
)
def test_a_receiver_that_fails_the_handshake(tenant, room, hook, echo):
    hook.echo = echo

    assert refusal(subscribe(tenant.graph(), room["id"], hook.url)) == (400, "ValidationError")
    assert tenant.control.get("subscriptions") == []


def test_a_receiver_that_is_not_there_or_too_slow(tenant, room, hook):
    assert refusal(subscribe(tenant.graph(), room["id"], NOBODY)) == (400, "ValidationError")
    tenant.control.post("faults", {**ONE_NOTICE, "tooSlowAfterMs": 50})
    hook.pause = 0.2
    assert refusal(subscribe(tenant.graph(), room["id"], hook.url)) == (400, "ValidationError")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"changeType": "moved"}, "InvalidRequest"),
        ({"changeType": None}, "InvalidRequest"),
        ({"notificationUrl": "http://portal.example/notify"}, "InvalidRequest"),
        ({"lifecycleNotificationUrl": "ftp://x"}, "InvalidRequest"),
        ({"clientState": "x" * 129}, "InvalidRequest"),
        ({"expirationDateTime": "soon"}, "InvalidRequest"),
        ({"colour": "red"}, "InvalidRequest"),
    ],
)
def test_what_is_refused_without_a_handshake(tenant, room, hook, wrong, code):
    assert refusal(subscribe(tenant.graph(), room["id"], hook.url, **wrong)) == (400, code)
    assert hook.handshakes == []


@pytest.mark.parametrize("minutes", [10_090, -1])
def test_an_end_that_is_too_far_away_or_over(tenant, room, hook, minutes):
    wrong = subscribe(tenant.graph(), room["id"], hook.url, expirationDateTime=in_minutes(minutes))

    assert refusal(wrong) == (400, "ValidationError")
    assert hook.handshakes == []


def test_how_long_a_subscription_lives(tenant, room, hook):
    graph = tenant.graph()
    now = datetime.now(UTC)
    made = subscribe(graph, room["id"], hook.url, expirationDateTime=in_minutes(5)).json()
    url = f"/subscriptions/{made['id']}"

    assert timedelta(minutes=44) < expiry(made) - now < timedelta(minutes=46)
    renewed = graph.patch(url, json={"expirationDateTime": in_minutes(10_000)})
    assert renewed.status_code == 200
    assert expiry(renewed.json()) - now > timedelta(minutes=9_990)
    assert refusal(graph.patch(url, json={"expirationDateTime": in_minutes(10_090)})) == (400, "ValidationError")
    assert refusal(graph.patch(url, json={"clientState": "x"})) == (400, "ValidationError")
    assert graph.post(f"{url}/reauthorize").status_code == 204
    tenant.control.post("clock", {"advanceSeconds": 10_001 * 60})
    later = tenant.graph()
    assert later.get("/subscriptions").json()["value"] == []
    assert refusal(later.patch(url, json={"expirationDateTime": in_minutes(60)})) == (404, "ResourceNotFound")
    assert refusal(later.delete(url)) == (404, "ResourceNotFound")


def test_a_subscription_is_listed_and_deleted(tenant, room, hook):
    graph = tenant.graph()
    made = [subscribe(graph, each["id"], hook.url).json()["id"] for each in rooms_of(tenant)]

    assert [each["id"] for each in graph.get("/subscriptions").json()["value"]] == made
    assert graph.delete(f"/subscriptions/{made[0]}").status_code == 204
    assert refusal(graph.get(f"/subscriptions/{made[0]}")) == (404, "ResourceNotFound")
    create(tenant, room)
    assert counts(tenant)["posts"] == 0


def test_lists_of_subscriptions_are_few(tenant):
    graph = tenant.graph()
    statuses = [graph.get("/subscriptions").status_code for _ in range(26)]

    assert statuses == [200] * 25 + [429]
    assert graph.get("/subscriptions/none").status_code == 404


def test_a_new_url_has_to_prove_itself(tenant, room, hook):
    graph = tenant.graph()
    made = subscribe(graph, room["id"], hook.url).json()
    refused = graph.patch(f"/subscriptions/{made['id']}", json={"notificationUrl": NOBODY})
    moved = graph.patch(f"/subscriptions/{made['id']}", json={"notificationUrl": hook.url + "&new=1"})

    assert refusal(refused) == (400, "ValidationError")
    assert moved.json()["notificationUrl"].endswith("&new=1")


def test_the_same_again_or_too_many(tenant, room, hook):
    graph = tenant.graph()
    first = subscribe(graph, room["id"], hook.url).json()
    again = subscribe(graph, room["emailAddress"], hook.url)
    other = subscribe(graph, room["id"], hook.url, changeType="created")
    tenant.control.post("faults", {**ONE_NOTICE, "subscriptionsPerMailbox": 2})
    third = subscribe(graph, room["id"], hook.url, changeType="deleted")

    assert refusal(again) == (409, "ObjectIdentifierInUse")
    assert first["id"] in again.json()["error"]["message"]
    assert other.status_code == 201
    assert refusal(third)[0] == 403


def test_mailboxes_that_take_no_subscription(tenant, room, hook):
    graph, (ann, bob) = tenant.graph(), people_of(tenant)
    tenant.control.patch(f"mailboxes/{room['id']}", {"noSubscriptions": True})
    tenant.control.patch(f"mailboxes/{ann['id']}", {"mailbox": "onPremises"})
    tenant.control.patch(f"mailboxes/{bob['id']}", {"denied": True})

    assert refusal(subscribe(graph, room["id"], hook.url)) == (404, "ExtensionError")
    assert refusal(subscribe(graph, ann["id"], hook.url)) == (404, "ExtensionError")
    assert refusal(subscribe(graph, bob["id"], hook.url)) == (403, "ExtensionError")
    assert refusal(subscribe(graph, "nobody@x.example", hook.url)) == (404, "ExtensionError")
    assert refusal(subscribe(graph, "x", hook.url, resource="groups")) == (501, "NotSimulated")
    assert graph.get(f"/users/{room['id']}/events").status_code == 200


# Notifications


def test_a_change_is_notified(tenant, room, hook):
    graph = tenant.graph()
    subscription = subscribe(graph, room["id"], hook.url).json()
    made = create(tenant, room)
    [item] = hook.wait_for(1)
    path = f"Users/{room['id']}/Events/{made['id']}"

    assert hook.posts[0]["path"] == "/notify?code=abc"
    assert item.pop("subscriptionExpirationDateTime").endswith("+00:00")
    assert item == {
        "subscriptionId": subscription["id"],
        "clientState": "between us",
        "changeType": "created",
        "tenantId": tenant.id,
        "resource": path,
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.Event",
            "@odata.id": path,
            "@odata.etag": made["@odata.etag"],
            "id": made["id"],
        },
    }


def test_own_writes_are_notified_as_well(tenant, room, hook):
    graph = tenant.graph()
    subscribe(graph, room["id"], hook.url)
    made = graph.post(f"/users/{room['id']}/events", json=event()).json()
    hook.wait_for(1)
    graph.patch(f"/users/{room['id']}/events/{made['id']}", json={"subject": "x"})
    hook.wait_for(2)
    graph.delete(f"/users/{room['id']}/events/{made['id']}")

    assert [each["changeType"] for each in hook.wait_for(3)] == ["created", "updated", "deleted"]


def test_a_booking_is_notified_several_times(tenant, room, hook):
    """Once for the booking, once for the room's making it anonymous, each of them more than once."""
    tenant.control.post("faults", {"notificationCopies": [2, 2]})
    subscribe(tenant.graph(), room["id"], hook.url)
    tenant.control.post(f"mailboxes/{people_of(tenant)[0]['id']}/events", event(**inviting(room)))

    items = hook.wait_for(4)
    assert [each["changeType"] for each in items] == ["created", "updated", "updated", "updated"]
    assert len({each["resourceData"]["id"] for each in items}) == 1
    assert len({each["resourceData"]["@odata.etag"] for each in items}) == 2


def test_only_the_wanted_kinds_of_change(tenant, room, hook):
    subscribe(tenant.graph(), room["id"], hook.url, changeType="deleted")
    made = create(tenant, room)
    tenant.control.patch(f"mailboxes/{room['id']}/events/{made['id']}", {"subject": "x"})
    tenant.control.delete(f"mailboxes/{room['id']}/events/{made['id']}")

    assert [each["changeType"] for each in hook.wait_for(1)] == ["deleted"]


def test_many_notifications_share_a_post(tenant, room, hook):
    subscribe(tenant.graph(), room["id"], hook.url)
    tenant.control.post("notifications", {"mode": "collect"})
    for number in range(50):
        create(tenant, room, on=number)
    waiting = counts(tenant)["waiting"]
    tenant.control.post("notifications", {"mode": "send"})
    hook.wait_for(50)

    assert waiting == 50
    assert sorted(len(post["value"]) for post in hook.posts) == [10, 20, 20]


def test_a_failed_delivery_is_tried_again_and_given_up_after_four_hours(tenant, room, hook):
    subscribe(tenant.graph(), room["id"], hook.url)
    hook.statuses = [503, 404, 202]
    create(tenant, room)
    hook.wait_for(1)
    tenant.control.post("clock", {"advanceSeconds": 11})
    hook.wait_for(2)
    tenant.control.post("clock", {"advanceSeconds": 21})
    items = hook.wait_for(3)

    assert items[0] == items[1] == items[2]
    hook.statuses = [500] * 100
    create(tenant, room, on=1)
    hook.wait_for(4)
    for number in range(5, 40):
        tenant.control.post("clock", {"advanceSeconds": 31 * 60})
        if counts(tenant)["expired"]:
            break
        hook.wait_for(number)
    assert counts(tenant)["expired"] == 1
    assert counts(tenant)["waiting"] == 0


def test_an_answer_that_takes_too_long_is_none(tenant, room, hook):
    tenant.control.post("faults", {**ONE_NOTICE, "slowAfterMs": 50})
    subscribe(tenant.graph(), room["id"], hook.url)
    hook.pause = 0.15
    create(tenant, room)
    hook.wait_for(1)
    tenant.control.post("clock", {"advanceSeconds": 11})

    assert len(hook.wait_for(2)) == 2  # the second try may take longer


def test_a_slow_receiver_is_told_later_and_then_nothing(tenant, room, hook):
    subscribe(tenant.graph(), room["id"], hook.url)
    tenant.control.post("faults", {**ONE_NOTICE, "slowAfterMs": 30, "tooSlowAfterMs": 30_000})
    tenant.control.post("notifications", {"mode": "collect"})
    hook.pause = 0.06
    for number in range(10):
        create(tenant, room, on=number)
        tenant.control.post("notifications/deliver", {"count": 1})
    tenant.control.get("notifications")
    create(tenant, room, on=20)
    [late] = tenant.control.get("notifications")
    now = datetime.fromisoformat(tenant.control.get("clock")["now"])
    assert timedelta(minutes=9) < datetime.fromisoformat(late["due"]) - now <= timedelta(minutes=10)

    tenant.control.post("faults", {**ONE_NOTICE, "slowAfterMs": 10, "tooSlowAfterMs": 20})
    create(tenant, room, on=21)
    tenant.control.post("notifications/deliver")
    create(tenant, room, on=22)
    assert counts(tenant)["dropped"] == 1
    tenant.control.post("clock", {"advanceSeconds": 3600})
    tenant.control.get("notifications")
    create(tenant, room, on=23)
    assert len(tenant.control.get("notifications")) == 1


@pytest.mark.parametrize(("loss", "expected"), [(1, 0), (0.3, 30), (0, 40)])
def test_notifications_are_lost_on_demand(tenant, room, hook, loss, expected):
    subscribe(tenant.graph(), room["id"], hook.url)
    tenant.control.post("notifications", {"mode": "collect"})
    tenant.control.post("faults", {**ONE_NOTICE, "notificationLoss": loss, "seed": 3})
    for number in range(40):
        create(tenant, room, on=number)

    assert len(tenant.control.get("notifications")) == expected
    assert counts(tenant)["lost"] == 40 - expected


def test_notifications_come_late_and_in_disorder_on_demand(tenant, room, hook):
    subscribe(tenant.graph(), room["id"], hook.url)
    slow = {**ONE_NOTICE, "notificationDelayMs": 600_000, "notificationShuffle": True, "seed": 5}
    tenant.control.post("faults", slow)
    made = [create(tenant, room, on=number)["id"] for number in range(8)]
    before = counts(tenant)
    tenant.control.post("clock", {"advanceSeconds": 601})
    ids = [each["resourceData"]["id"] for each in hook.wait_for(8)]

    assert (before["waiting"], before["posts"]) == (8, 0)
    assert (sorted(ids), ids != made) == (sorted(made), True)


def test_a_notification_may_overtake_the_answer_to_the_subscription(tenant, room, hook):
    create(tenant, room)
    tenant.control.post("faults", {**ONE_NOTICE, "notificationBefore201": True})
    answer = subscribe(tenant.graph(), room["id"], hook.url)

    assert [each["subscriptionId"] for each in hook.items] == [answer.json()["id"]]


def test_notifications_can_be_taken_instead_of_sent(tenant, room, hook):
    subscribe(tenant.graph(), room["id"], hook.url)
    tenant.control.post("notifications", {"mode": "collect"})
    create(tenant, room)
    create(tenant, room, on=1)
    taken = tenant.control.get("notifications")
    create(tenant, room, on=2)
    create(tenant, room, on=3)
    sent = tenant.control.post("notifications/deliver", {"count": 1})

    assert [(each["url"], each["item"]["changeType"]) for each in taken] == [(hook.url, "created")] * 2
    assert (sent, len(hook.items)) == ({"items": 1, "statuses": [202]}, 1)
    assert len(tenant.control.get("notifications")) == 1


def test_false_notifications(tenant, room, hook):
    made = subscribe(tenant.graph(), room["id"], hook.url).json()
    create(tenant, room)
    hook.wait_for(1)
    tenant.control.post("notifications/forge", {"subscriptionId": made["id"], "item": {"clientState": "guess"}})
    tenant.control.post(
        "notifications/forge", {"subscriptionId": made["id"], "item": {"subscriptionId": "x"}, "count": 2}
    )

    items = hook.wait_for(4)
    assert [(each["clientState"], each["subscriptionId"]) for each in items[1:]] == [
        ("guess", made["id"]),
        ("between us", "x"),
        ("between us", "x"),
    ]


def test_a_subscription_dies_without_a_word(tenant, room, hook):
    graph = tenant.graph()
    made = subscribe(graph, room["id"], hook.url).json()
    tenant.control.delete(f"subscriptions/{made['id']}")
    create(tenant, room)

    assert counts(tenant) == {
        "waiting": 0,
        "posts": 0,
        "delivered": 0,
        "failed": 0,
        "lost": 0,
        "dropped": 0,
        "expired": 0,
    }
    assert refusal(graph.patch(f"/subscriptions/{made['id']}", json={"expirationDateTime": in_minutes(60)}))[0] == 404


@pytest.mark.parametrize("happens", ["reauthorizationRequired", "missed", "subscriptionRemoved"])
def test_lifecycle_events(tenant, room, hook, happens):
    made = subscribe(tenant.graph(), room["id"], hook.url).json()
    tenant.control.post("lifecycle", {"event": happens, "subscriptionId": made["id"]})
    [item] = hook.wait_for(1)

    assert hook.posts[0]["path"] == "/lifecycle?code=abc"
    assert (item["lifecycleEvent"], item["subscriptionId"], item["clientState"]) == (happens, made["id"], "between us")
    assert "resourceData" not in item
    assert len(tenant.control.get("subscriptions")) == (0 if happens == "subscriptionRemoved" else 1)


def test_ids_in_notifications_are_of_the_kind_that_was_asked_for(tenant, room, hook):
    graph = tenant.graph()
    body = {
        "changeType": "created",
        "notificationUrl": hook.url,
        "resource": f"/users/{room['id']}/calendar/events",
        "expirationDateTime": in_minutes(60),
    }
    assert graph.post("/subscriptions", json=body).status_code == 201
    made = create(tenant, room)
    [item] = hook.wait_for(1)

    assert item["clientState"] is None
    assert item["resourceData"]["id"] == made["restrictedId"] != made["id"]
    [shown] = tenant.control.get("subscriptions")
    assert (shown["mailboxId"], shown["immutableIds"]) == (room["id"], False)


def test_a_burst(tenant, hook: Receiver):
    """Thousands of notifications in a few seconds, none lost."""
    graph, rooms = tenant.graph(), rooms_of(tenant)
    made = [subscribe(graph, each["id"], hook.url).json()["id"] for each in rooms]
    for each in rooms:
        create(tenant, each)
    hook.wait_for(2)
    for key in made:
        tenant.control.post("notifications/forge", {"subscriptionId": key, "count": 1000})
    items = hook.wait_for(2002)

    assert counts(tenant)["delivered"] == len(items) == 2002
