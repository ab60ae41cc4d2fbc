"""The simulated Exchange as Microsoft's own SDK for Python sees it, and as the O365 package does."""

import asyncio
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msal import ConfidentialClientApplication

from tests.calendars import CALENDARS, day, event, inviting, people_of, receiver, rooms_of, weekly
from tests.cloud import NewTenant, TestTenant
from tests.test_cloud_msgraph_sdk import DEPRECATED, run

with warnings.catch_warnings():
    for message in DEPRECATED:
        warnings.filterwarnings("ignore", message, DeprecationWarning)
    from kiota_abstractions.base_request_configuration import RequestConfiguration
    from msgraph.generated.models.attendee import Attendee
    from msgraph.generated.models.attendee_type import AttendeeType
    from msgraph.generated.models.date_time_time_zone import DateTimeTimeZone
    from msgraph.generated.models.email_address import EmailAddress
    from msgraph.generated.models.event import Event
    from msgraph.generated.models.event_type import EventType
    from msgraph.generated.models.o_data_errors.o_data_error import ODataError
    from msgraph.generated.models.recurrence_pattern_type import RecurrencePatternType
    from msgraph.generated.models.response_type import ResponseType
    from msgraph.generated.models.subscription import Subscription
    from msgraph.generated.users.item.calendar_view.delta.delta_request_builder import DeltaRequestBuilder
    from msgraph.generated.users.item.events.events_request_builder import EventsRequestBuilder
    from msgraph.generated.users.item.events.item.instances.instances_request_builder import InstancesRequestBuilder
    from O365 import Account, MSGraphProtocol  # type: ignore[import-untyped]  # ships no types
    from O365.utils.token import MemoryTokenBackend  # type: ignore[import-untyped]  # ships no types

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}:DeprecationWarning") for message in DEPRECATED]


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of two rooms and two people with an app that may write calendars."""
    return new_tenant(users=2, guestShare=0, rooms=2, roles=CALENDARS)


def an_hour(subject: str, on: int, hour: int = 9) -> Event:
    start = DateTimeTimeZone(date_time=f"{day(on)}T{hour:02}:00:00", time_zone="Eastern Standard Time")
    end = DateTimeTimeZone(date_time=f"{day(on)}T{hour + 1:02}:00:00", time_zone="Eastern Standard Time")
    return Event(subject=subject, start=start, end=end)


def with_immutable_ids(parameters: Any = None) -> RequestConfiguration[Any]:
    configuration: RequestConfiguration[Any] = RequestConfiguration(query_parameters=parameters)
    configuration.headers.add("Prefer", 'IdType="ImmutableId"')
    return configuration


# Microsoft's SDK


def test_sdk_writes_events(tenant):
    room = rooms_of(tenant)[0]

    async def work(graph: Any) -> tuple[Any, ...]:
        events = graph.users.by_user_id(room["emailAddress"]).events
        made = await events.post(an_hour("Made by the SDK", 0), with_immutable_ids())
        one = events.by_event_id(made.id)
        changed = await one.patch(Event(subject="Changed"))
        found = await events.get(
            RequestConfiguration(
                query_parameters=EventsRequestBuilder.EventsRequestBuilderGetQueryParameters(
                    filter=f"iCalUId eq '{made.i_cal_u_id}'", select=["subject", "start"]
                )
            )
        )
        await one.delete()
        try:
            await one.get()
        except ODataError as error:
            return made, changed, found.value, error
        return made, changed, found.value, None

    made, changed, found, error = run(tenant, work)

    assert made.organizer.email_address.address == room["emailAddress"]
    assert made.original_start_time_zone == "Eastern Standard Time"
    assert (changed.subject, changed.type) == ("Changed", EventType.SingleInstance)
    assert [each.subject for each in found] == ["Changed"]
    assert (error.response_status_code, error.error.code) == (404, "ErrorItemNotFound")


def test_sdk_follows_a_room(tenant):
    """Pages of a first round, a booking by invitation, a series and a deletion in later ones."""
    room, ann = rooms_of(tenant)[0], people_of(tenant)[0]
    for number in range(15):
        tenant.control.post(f"mailboxes/{room['id']}/events", event(f"No. {number}", on=number, hour=6))
    window = DeltaRequestBuilder.DeltaRequestBuilderGetQueryParameters(
        start_date_time=f"{day(-7)}T00:00:00Z", end_date_time=f"{day(60)}T00:00:00Z"
    )

    async def round_of(builder: Any, parameters: Any = None) -> tuple[list[Any], str]:
        rows: list[Any] = []
        page = await builder.get(with_immutable_ids(parameters))
        while not page.odata_delta_link:
            rows += page.value
            page = await builder.with_url(page.odata_next_link).get(with_immutable_ids())
        return rows + page.value, page.odata_delta_link

    async def work(graph: Any) -> tuple[Any, ...]:
        user = graph.users.by_user_id(room["id"])
        builder = user.calendar_view.delta
        first, link = await round_of(builder, window)
        invited = Attendee(type=AttendeeType.Resource, email_address=EmailAddress(address=room["emailAddress"]))
        meeting = an_hour("Meeting", 3, 11)
        meeting.attendees = [invited]
        booked = await graph.users.by_user_id(ann["id"]).events.post(meeting)
        await asyncio.to_thread(
            tenant.control.post, f"mailboxes/{room['id']}/events", event("Series", hour=20, recurrence=weekly())
        )
        await user.events.by_event_id(first[0].id).delete()
        second, _ = await round_of(builder.with_url(link))
        own = await graph.users.by_user_id(ann["id"]).events.by_event_id(booked.id).get()
        return first, second, own

    first, second, own = run(tenant, work)
    removed = [each.id for each in second if "@removed" in each.additional_data]
    by_type = {kind: [each for each in second if each.type == kind] for kind in EventType}

    assert [each.subject for each in first] == [f"No. {number}" for number in range(15)]
    assert removed == [first[0].id]
    assert [each.subject for each in by_type[EventType.SingleInstance]] == [ann["displayName"]]
    assert [each.subject for each in by_type[EventType.SeriesMaster]] == ["Series"]
    assert [(each.subject, each.start is not None) for each in by_type[EventType.Occurrence]] == [(None, True)] * 4
    assert own.attendees[0].status.response == ResponseType.Accepted


def test_sdk_reads_a_series(tenant):
    room = rooms_of(tenant)[0]
    made = tenant.control.post(f"mailboxes/{room['id']}/events", event(recurrence=weekly()))
    window = InstancesRequestBuilder.InstancesRequestBuilderGetQueryParameters(
        start_date_time=f"{day(-7)}T00:00:00Z",
        end_date_time=f"{day(60)}T00:00:00Z",
        select=["originalStart", "type", "seriesMasterId"],
    )

    async def work(graph: Any) -> tuple[Any, Any]:
        one = graph.users.by_user_id(room["id"]).events.by_event_id(made["id"])
        return await one.get(), await one.instances.get(with_immutable_ids(window))

    master, instances = run(tenant, work)

    assert master.recurrence.pattern.type == RecurrencePatternType.Weekly
    assert master.recurrence.range.start_date == date.fromisoformat(day(0))
    assert [each.original_start.date().isoformat() for each in instances.value] == [day(7 * n) for n in range(4)]
    assert {each.series_master_id for each in instances.value} == {made["id"]}


def test_sdk_lists_places(tenant):
    async def work(graph: Any) -> tuple[Any, Any]:
        rooms = await graph.places.graph_room.get()
        return rooms, await graph.places.by_place_id(rooms_of(tenant)[1]["emailAddress"]).graph_room.get()

    rooms, one = run(tenant, work)

    assert [(each.email_address, each.capacity) for each in rooms.value] == [
        (each["emailAddress"], each["capacity"]) for each in rooms_of(tenant)
    ]
    assert one.display_name == "Room 2"


def test_sdk_subscribes(tenant):
    room = rooms_of(tenant)[0]

    async def work(graph: Any, url: str) -> tuple[Any, ...]:
        wanted = Subscription(
            change_type="created,updated,deleted",
            notification_url=url,
            lifecycle_notification_url=url,
            resource=f"users/{room['id']}/events",
            expiration_date_time=datetime.now(UTC) + timedelta(days=3),
            client_state="between us",
        )
        made = await graph.subscriptions.post(wanted)
        one = graph.subscriptions.by_subscription_id(made.id)
        later = await one.patch(Subscription(expiration_date_time=datetime.now(UTC) + timedelta(days=6)))
        listed = await graph.subscriptions.get()
        await one.reauthorize.post()
        await one.delete()
        return made, later, listed.value

    with receiver() as hook:
        made, later, listed = run(tenant, lambda graph: work(graph, hook.url))

    assert [each.id for each in listed] == [made.id]
    assert later.expiration_date_time - made.expiration_date_time > timedelta(days=2)
    assert len(hook.handshakes) == 2


# O365


@pytest.fixture
def account(tenant: TestTenant, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A signed-in account of the O365 package, its MSAL and its protocol pointed at the simulated hosts."""

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", tenant.cloud.ca)

    class Here(MSGraphProtocol):  # type: ignore[misc]  # O365 ships no types
        _protocol_url = f"{tenant.cloud.graph}/"
        _oauth_scope_prefix = f"{tenant.cloud.graph}/"

    made = Account(
        (tenant.client_id, tenant.secret),
        auth_flow_type="credentials",
        tenant_id=tenant.id,
        protocol=Here(timezone="Europe/Berlin"),
        token_backend=MemoryTokenBackend(),
        verify_ssl=tenant.cloud.ca,
        requests_delay=0,
    )
    made.con._msal_client = ConfidentialClientApplication(
        tenant.client_id,
        client_credential=tenant.secret,
        authority=tenant.authority,
        token_cache=made.con.token_backend,
        verify=tenant.cloud.ca,
        instance_discovery=False,
    )
    assert made.authenticate(requested_scopes=[f"{tenant.cloud.graph}/.default"])
    yield made
    made.con.session.close()


def test_o365_reads_the_events_of_a_room(tenant, account):
    room, ann = rooms_of(tenant)[0], people_of(tenant)[0]
    tenant.control.post(f"mailboxes/{ann['id']}/events", event("Booked", hour=9, **inviting(room)))
    tenant.control.post(f"mailboxes/{room['id']}/events", event("Own", hour=11))
    tenant.control.post(f"mailboxes/{room['id']}/events", event("Series", hour=13, recurrence=weekly()))
    calendar = account.schedule(resource=room["emailAddress"]).get_default_calendar()
    start = datetime.fromisoformat(f"{day(0)}T00:00:00+00:00")
    view = list(
        calendar.get_events(
            limit=50, include_recurring=True, start_recurring=start, end_recurring=start + timedelta(days=20)
        )
    )
    stored = list(calendar.get_events(limit=50, include_recurring=False))

    assert sorted(each.subject for each in view) == sorted(["Own", "Series", "Series", "Series", ann["displayName"]])
    assert sorted(each.subject for each in stored) == sorted(["Own", "Series", ann["displayName"]])
    [own] = [each for each in view if each.subject == "Own"]
    assert own.start == datetime.fromisoformat(f"{day(0)}T11:00:00+00:00")
    assert own.start.tzinfo == ZoneInfo("Europe/Berlin")


def test_o365_writes_events(tenant, account):
    room = rooms_of(tenant)[0]
    schedule = account.schedule(resource=room["emailAddress"])
    made = schedule.new_event("From O365")
    made.start = datetime.fromisoformat(f"{day(0)}T09:00:00").replace(tzinfo=ZoneInfo("Europe/Berlin"))
    made.end = made.start + timedelta(hours=1)
    made.location = "Room 1"
    made.body = "What it is about"
    assert made.save()
    made.subject = "Renamed"
    assert made.save()
    [truth] = tenant.control.get(f"mailboxes/{room['id']}/events")

    assert (truth["subject"], truth["location"]["displayName"]) == ("Renamed", "Room 1")
    assert truth["originalStartTimeZone"] == "W. Europe Standard Time"
    assert made.delete()
    assert tenant.control.get(f"mailboxes/{room['id']}/events") == []


def test_o365_writes_a_series_and_one_exception(tenant, account):
    room = rooms_of(tenant)[0]
    calendar = account.schedule(resource=room["emailAddress"]).get_default_calendar()
    made = calendar.new_event("Weekly")
    made.start = datetime.fromisoformat(f"{day(0)}T09:00:00").replace(tzinfo=ZoneInfo("Europe/Berlin"))
    made.end = made.start + timedelta(hours=1)
    made.recurrence.set_weekly(
        1,
        days_of_week=["monday"],
        first_day_of_week="monday",
        start=date.fromisoformat(day(0)),
        end=date.fromisoformat(day(21)),
    )
    assert made.save()
    since = datetime.fromisoformat(f"{day(-1)}T00:00:00+00:00")
    master = calendar.get_event(made.object_id)
    found = sorted(master.get_occurrences(since, since + timedelta(days=40), limit=10), key=lambda each: each.start)
    found[1].subject = "Special"
    assert found[1].save()
    [truth] = tenant.control.get(f"mailboxes/{room['id']}/events", start=f"{day(-1)}", end=f"{day(40)}")

    assert len(found) == 4
    assert truth["recurrence"]["range"]["endDate"] == day(21)
    assert [each["subject"] for each in truth["instances"]] == ["Weekly", "Special", "Weekly", "Weekly"]


def test_o365_asks_who_is_free(tenant, account):
    room = rooms_of(tenant)[0]
    tenant.control.post(f"mailboxes/{room['id']}/events", event(hour=9))
    start = datetime.fromisoformat(f"{day(0)}T08:00:00+00:00")
    schedule = account.schedule(resource=room["emailAddress"])
    [found] = schedule.get_availability([room["emailAddress"]], start, start + timedelta(hours=4))

    assert found["availabilityView"] == ["free", "busy", "free", "free"]
