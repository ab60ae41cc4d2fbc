"""Subscriptions to rooms against the simulated Exchange: made, renewed, made anew, removed, and refused."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from storage.meter import METER, Meter
from storage.tables import Write
from sync import jobs, subscriptions
from sync.calendars import store
from sync.calendars.model import Room, RoomState, Subscription
from sync.connections import find
from sync.errors import GraphError, SignInError
from sync.runs import active_run
from sync.subscriptions import (
    BACKOFF,
    RENEW_BEFORE,
    RENEWALS,
    Action,
    Asked,
    Subscriber,
    asked_of,
    decide,
    parse_subscription,
    renew_due,
)
from sync.sync_settings import CalendarsSettings
from tests.cloud import TestTenant
from tests.contents import contents
from tests.house import House
from tests.test_secrets_nowhere import spellings
from tests.webhooks import Server

NewTenant = Callable[..., TestTenant]
NAME = "primary"
CALENDARS = ["Calendars.ReadWrite", "Place.Read.All"]
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LIFE = timedelta(minutes=4230)


def state(expires_in: timedelta | None, refused_for: timedelta | None = None) -> RoomState:
    """A room's state with a subscription that expires, and a refusal that is waited out, so long after NOW."""
    return RoomState(
        subscription=None if expires_in is None else Subscription("id", "digest", NOW + expires_in),
        no_subscription_until=None if refused_for is None else NOW + refused_for,
    )


HOUR, SECOND, NEVER = timedelta(hours=1), timedelta(seconds=1), timedelta(0)


class TestDecisions:
    @pytest.mark.parametrize(
        ("held", "refused", "asked", "action"),
        [
            (None, None, "", "create"),
            (None, HOUR, "", "wait"),
            (None, NEVER, "", "create"),
            (None, HOUR, "recreate", "create"),
            (None, HOUR, "renew", "create"),
            (LIFE, None, "", "keep"),
            (LIFE, HOUR, "", "keep"),
            (RENEW_BEFORE, None, "", "keep"),
            (RENEW_BEFORE - SECOND, None, "", "renew"),
            (RENEW_BEFORE - SECOND, HOUR, "", "wait"),
            (RENEW_BEFORE - SECOND, NEVER, "", "renew"),
            (SECOND, None, "", "renew"),
            (NEVER, None, "", "create"),
            (-HOUR, HOUR, "", "wait"),
            (LIFE, None, "renew", "renew"),
            (LIFE, HOUR, "renew", "renew"),
            (LIFE, None, "recreate", "create"),
        ],
    )
    def test_table(self, held: timedelta | None, refused: timedelta | None, asked: Asked, action: Action) -> None:
        """Missing, expired or removed: create; in its last day or asked for: renew; a refusal is waited out; else keep."""
        assert decide(state(held, refused), NOW, asked) == action

    @given(
        held=st.none() | st.timedeltas(-LIFE, LIFE),
        refused=st.none() | st.timedeltas(-LIFE, LIFE),
        asked=st.sampled_from(["", "renew", "recreate"]),
    )
    def test_a_room_is_never_left_without(self, held: Any, refused: Any, asked: Any) -> None:
        """Only what lives on for a day is kept as it is, and only a refusal that is not over is a reason to wait."""
        action = decide(state(held, refused), NOW, asked)

        if action == "keep":
            assert held is not None
            assert held >= RENEW_BEFORE
        if action == "wait":
            assert refused is not None
            assert refused > NEVER
        if action == "renew":
            assert held is not None
            assert held > NEVER

    def test_what_is_asked_for(self) -> None:
        """Of two lifecycle events the one that says more counts."""
        assert asked_of(frozenset()) == ""
        assert asked_of({"renew"}) == "renew"
        assert asked_of({"renew", "recreate"}) == "recreate"

    @pytest.mark.parametrize(
        ("text", "expires"),
        [
            ("2026-11-29T10:30:00Z", datetime(2026, 11, 29, 10, 30, tzinfo=UTC)),
            ("2026-11-29T10:30:00.9356913Z", datetime(2026, 11, 29, 10, 30, 0, 935691, tzinfo=UTC)),
            ("2026-11-29T10:30:00", datetime(2026, 11, 29, 10, 30, tzinfo=UTC)),
            ("2026-11-29T11:30:00+01:00", datetime(2026, 11, 29, 10, 30, tzinfo=UTC)),
        ],
    )
    def test_expiries(self, text: str, expires: datetime) -> None:
        """However Graph writes an expiry, it is read as that moment."""
        assert parse_subscription({"id": "a", "expirationDateTime": text}, "d") == Subscription("a", "d", expires)

    @pytest.mark.parametrize(
        "answer", [{}, {"id": "a"}, {"id": "a", "expirationDateTime": None}, {"expirationDateTime": "x"}]
    )
    def test_answers_that_tell_of_none(self, answer: dict[str, Any]) -> None:
        with pytest.raises(GraphError) as caught:
            parse_subscription(answer, "d")
        assert caught.value.code == "answer-unreadable"


@pytest.fixture
def portal(listening: House, new_tenant: NewTenant) -> House:
    """A house that Graph can reach, with a connection to a tenant of three rooms whose calendars are synced."""
    connect(listening, new_tenant(rooms=3, eventsPerRoom=1, roles=CALENDARS), NAME)
    return listening


def connect(house: House, tenant: TestTenant, name: str) -> None:
    house.connect(tenant, name)
    settings = CalendarsSettings.model_validate({"enabled": True, "schedule": {"mode": "manual"}})
    jobs.save_settings(house.app, name, "calendars", settings, None)


def room(house: House, number: int = 0, name: str = NAME) -> Room:
    """One of the tenant's rooms as an admin links it."""
    mailbox = house.tenants[name].control.get("rooms")[number]["emailAddress"]
    return Room(f"room {number}", "Oak", "office365", mailbox.lower(), active=True, time_zone="UTC", since=NOW)


def subscriber(house: House, name: str = NAME) -> Subscriber:
    graph = house.app.graph(name, deadline=house.clock() + timedelta(minutes=5))
    graph._sleep = lambda _: None
    return Subscriber(graph, house.app, name)


def subscribed(house: House, number: int = 0, name: str = NAME) -> RoomState:
    """The state of a room whose subscription was just made."""
    return subscriber(house, name).keep(room(house, number, name), RoomState(), house.clock())


def at_graph(house: House, name: str = NAME) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = house.tenants[name].control.get("subscriptions")
    return found


def senders(house: House) -> list[dict[str, Any]]:
    return list(contents(house).rows["subscriptions"])


def index(house: House, name: str = NAME) -> list[str]:
    return [row["digest"] for row in house.app.tables.data.scan(name, "subscription|")]


def requests(house: House) -> int:
    """Graph requests since the counters were last set to nothing."""
    return int(house.tenants[NAME].control.get("counters")["graph"]["requests"])


def heard(house: House, name: str = NAME) -> dict[str, set[str]]:
    rows = house.app.tables.data.scan(name, store.TODO)
    return {row["key"].split("|")[1]: {flag for flag in ("renew", "recreate") if row.get(flag)} for row in rows}


class TestKeeping:
    def test_a_room_without(self, portal: House, webhooks: Server) -> None:
        """One request makes a subscription that tells of every change by immutable ids, in 4,230 minutes at most; both of
        its URLs are proved to listen, and its secret stays at Graph.
        """
        portal.tenants[NAME].control.post("counters")
        made = subscribed(portal)

        (found,) = at_graph(portal)
        assert (requests(portal), webhooks.posts) == (1, 2)
        assert found["resource"] == f"users/{room(portal).external_calendar}/events"
        assert set(found["changeType"].split(",")) == {"created", "updated", "deleted"}
        assert found["notificationUrl"] == f"{webhooks.base_url}/webhooks/graph"
        assert found["lifecycleNotificationUrl"] == f"{webhooks.base_url}/webhooks/graph/lifecycle"
        assert (found["immutableIds"], found["latestSupportedTlsVersion"]) == (True, "v1_2")
        assert 43 <= len(found["clientState"]) <= 128
        assert made.subscription is not None
        assert made.subscription.id == found["id"]
        assert timedelta(0) <= portal.clock() + LIFE - made.subscription.expires_at < timedelta(minutes=1)
        assert (made.detail, made.no_subscription_until) == ("webhook", None)
        (sender,) = senders(portal)
        assert (sender["PartitionKey"], sender["connection"], sender["room"]) == (
            made.subscription.digest,
            NAME,
            "room 0",
        )
        assert (sender["subscription"], sender["tenant"]) == (found["id"], portal.tenants[NAME].id)
        assert contents(portal).naming(*spellings(found["clientState"])) == []

    def test_each_has_a_secret_of_its_own(self, portal: House) -> None:
        for number in range(3):
            subscribed(portal, number)

        assert len({each["clientState"] for each in at_graph(portal)}) == 3

    def test_one_that_lives(self, portal: House) -> None:
        """A subscription that lives on costs neither a request nor a storage transaction."""
        made, keeper = subscribed(portal), subscriber(portal)
        portal.tenants[NAME].control.post("counters")
        meter = Meter()
        token = METER.set(meter)
        kept = keeper.keep(room(portal), made, portal.clock())
        METER.reset(token)

        assert kept == made
        assert (requests(portal), meter.transactions) == (0, 0)

    def test_renewed(self, portal: House, webhooks: Server) -> None:
        """With 20 hours left it is renewed by one request, and stays who it is."""
        made = subscribed(portal)
        portal.tenants[NAME].control.post("counters")
        portal.clock.ahead += LIFE - timedelta(hours=20)
        kept = subscriber(portal).keep(room(portal), made, portal.clock())

        assert made.subscription is not None
        assert kept.subscription is not None
        assert requests(portal) == 1
        assert (kept.subscription.id, kept.subscription.digest) == (made.subscription.id, made.subscription.digest)
        assert kept.subscription.expires_at > portal.clock() + LIFE - timedelta(minutes=1)
        assert len(at_graph(portal)) == 1

    @pytest.mark.parametrize("hours", [20, -1])
    def test_renewed_too_late(self, portal: House, hours: int) -> None:
        """Where Graph has it no more another one is made, with a secret of its own; the old one leads to nobody."""
        made = subscribed(portal)
        (before,) = at_graph(portal)
        portal.tenants[NAME].control.delete(f"subscriptions/{before['id']}")
        portal.clock.ahead += LIFE - timedelta(hours=hours)
        kept = subscriber(portal).keep(room(portal), made, portal.clock())

        (after,) = at_graph(portal)
        assert after["id"] != before["id"]
        assert after["clientState"] != before["clientState"]
        assert kept.subscription is not None
        assert [row["subscription"] for row in senders(portal)] == [after["id"]] == [kept.subscription.id]
        assert index(portal) == [kept.subscription.digest]

    def test_where_graph_cannot_come(self, build_house: Callable[..., House], new_tenant: NewTenant) -> None:
        """Without a public address no subscription is asked for: the rooms are polled."""
        house = build_house()
        connect(house, new_tenant(rooms=1, roles=CALENDARS), NAME)
        kept = subscribed(house)

        assert (kept.subscription, kept.detail, at_graph(house)) == (None, "polling-only", [])


class TestRefusals:
    """A room whose subscription is refused goes on, is polled, and asks again an hour later."""

    @pytest.mark.parametrize(
        "refuse",
        [
            pytest.param(
                lambda tenant, mailbox: tenant.patch(f"mailboxes/{mailbox}", {"noSubscriptions": True}), id="backend"
            ),
            pytest.param(lambda tenant, mailbox: tenant.patch(f"mailboxes/{mailbox}", {"denied": True}), id="scope"),
            pytest.param(lambda tenant, mailbox: tenant.delete(f"rooms/{mailbox}"), id="gone"),
            pytest.param(lambda tenant, _: tenant.post("faults", {"subscriptionsPerMailbox": 0}), id="quota"),
        ],
    )
    def test_by_graph(self, portal: House, refuse: Callable[[Any, str], Any]) -> None:
        """ExtensionError, 403 and 404: nothing is left behind, and for an hour Graph is not asked again."""
        tenant, here = portal.tenants[NAME].control, room(portal)
        refuse(tenant, here.external_calendar)
        refused = subscribed_of(portal, here, RoomState())

        assert (refused.subscription, refused.detail) == (None, "polling-only")
        assert refused.no_subscription_until is not None
        assert timedelta(0) <= portal.clock() + BACKOFF - refused.no_subscription_until < timedelta(minutes=1)
        assert (senders(portal), index(portal), list(portal.app.tables.due.scan(RENEWALS))) == ([], [], [])
        tenant.post("counters")
        assert subscribed_of(portal, here, refused) == refused
        assert requests(portal) == 0

    def test_over(self, portal: House) -> None:
        """An hour later the reason may be gone."""
        tenant, here = portal.tenants[NAME].control, room(portal)
        tenant.patch(f"mailboxes/{here.external_calendar}", {"noSubscriptions": True})
        refused = subscribed_of(portal, here, RoomState())
        tenant.patch(f"mailboxes/{here.external_calendar}", {"noSubscriptions": False})
        portal.clock.ahead += BACKOFF
        kept = subscribed_of(portal, here, refused)

        assert kept.subscription is not None
        assert (kept.detail, kept.no_subscription_until) == ("webhook", None)

    def test_because_nobody_listens(self, build_house: Callable[..., House], new_tenant: NewTenant) -> None:
        """The handshake that fails is a refusal like others."""
        house = build_house(webhook_base_url="http://127.0.0.1:1/api")
        connect(house, new_tenant(rooms=1, roles=CALENDARS), NAME)
        refused = subscribed(house)

        assert (refused.subscription, refused.detail, senders(house)) == (None, "polling-only", [])

    def test_of_a_renewal(self, portal: House) -> None:
        """A subscription that cannot be renewed now counts until it expires, and the next try waits."""
        made = subscribed(portal)
        portal.clock.ahead += LIFE - timedelta(hours=20)
        portal.tenants[NAME].control.patch(f"apps/{portal.tenants[NAME].client_id}", {"roles": []})
        portal.tenants[NAME].control.post("faults", {"rate429": 1, "retryAfter": {"seconds": 3600}})
        kept = subscribed_of(portal, room(portal), made)

        assert kept.subscription == made.subscription
        assert kept.no_subscription_until is not None
        assert kept.no_subscription_until - portal.clock() > timedelta(minutes=50)
        assert decide(kept, portal.clock()) == "wait"

    def test_by_entra(self, portal: House) -> None:
        """A credential that does not work is the connection's trouble and not the room's."""
        portal.tenants[NAME].control.patch(f"apps/{portal.tenants[NAME].client_id}", {"enabled": False})

        with pytest.raises(SignInError):
            subscribed(portal)


def subscribed_of(house: House, here: Room, before: RoomState) -> RoomState:
    return subscriber(house).keep(here, before, house.clock())


class TestCrashes:
    """However often and wherever it breaks off, one subscription is left, and one secret that leads to its room."""

    def one(self, house: House, kept: RoomState) -> None:
        (found,) = at_graph(house)
        assert kept.subscription is not None
        assert kept.subscription.id == found["id"]
        assert [row["subscription"] for row in senders(house)] == [found["id"]]
        assert index(house) == [kept.subscription.digest]
        house.tenants[NAME].control.post("notifications", {"mode": "collect"})
        house.tenants[NAME].control.post("notifications/forge", {"subscriptionId": found["id"]})
        assert house.tenants[NAME].control.post("notifications/deliver")["statuses"] == [202]
        assert heard(house) == {"room~200": set()}

    def test_before_the_state_was_written(self, portal: House) -> None:
        """A run that died after the subscription was made: the next one takes it away and makes its own."""
        subscribed(portal)
        (before,) = at_graph(portal)
        kept = subscribed(portal)

        self.one(portal, kept)
        assert at_graph(portal)[0]["id"] != before["id"]

    @pytest.mark.parametrize("save", [1, 2])
    def test_around_the_post(self, portal: House, monkeypatch: pytest.MonkeyPatch, save: int) -> None:
        """A run that died before the POST, or before it noted down whose id Graph gave."""
        saves, keep = iter(range(1, 3)), subscriptions.save_sender

        def dying(*arguments: Any) -> None:
            if next(saves) == save:
                raise ServiceRequestError("reset")
            keep(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(subscriptions, "save_sender", dying)
            with pytest.raises(ServiceRequestError):
                subscribed(portal)
        assert len(at_graph(portal)) == save - 1

        self.one(portal, subscribed(portal))

    def test_an_answer_that_got_lost(self, portal: House) -> None:
        """The POST that is sent again meets the subscription that the first has made: it makes way."""
        seed = next(seed for seed in range(1000) if lost_first(seed))
        portal.tenants[NAME].control.post("faults", {"rateReset": 0.5, "seed": seed})
        kept = subscribed(portal)
        portal.tenants[NAME].control.post("faults", {})

        self.one(portal, kept)

    def test_of_another_connection(self, portal: House) -> None:
        """Two connections to one tenant by one app: who comes second to a mailbox polls, and takes nothing from the first."""
        connect(portal, portal.tenants[NAME], "second")
        first = subscribed(portal)
        second = subscribed(portal, name="second")

        (found,) = at_graph(portal)
        assert first.subscription is not None
        assert (found["id"], second.subscription) == (first.subscription.id, None)
        assert [row["connection"] for row in senders(portal)] == [NAME]

    def test_of_somebody_else(self, portal: House) -> None:
        """A subscription of the same app to another address stands in the way and stays."""
        graph, here = portal.tenants[NAME].graph(), room(portal)
        other = {
            "changeType": "created,updated,deleted",
            "notificationUrl": f"{portal.app.settings.webhook_base_url}/webhooks/graph?other",
            "resource": f"users/{here.external_calendar}/events",
            "expirationDateTime": (portal.clock() + timedelta(hours=2)).isoformat(),
        }
        made = graph.post("/subscriptions", json=other).json()

        assert subscribed(portal).subscription is None
        assert [each["id"] for each in at_graph(portal)] == [made["id"]]


def lost_first(seed: int) -> bool:
    """Whether a rate of one half takes the first answer and none of the next ten."""
    rng = random.Random(seed)
    first, *others = (rng.random() for _ in range(11))
    return first < 0.5 <= min(others)


class TestRemoving:
    def test_a_room(self, portal: House) -> None:
        """The subscription of one room goes, those of others stay; a second time nothing happens."""
        for number in range(2):
            subscribed(portal, number)
        for _ in range(2):
            subscriber(portal).remove("room 0")

            assert [each["resource"] for each in at_graph(portal)] == [
                f"users/{room(portal, 1).external_calendar}/events"
            ]
            assert [row["room"] for row in senders(portal)] == ["room 1"]
            assert len(index(portal)) == 1

    def test_one_that_graph_has_no_more(self, portal: House) -> None:
        subscribed(portal)
        portal.tenants[NAME].control.delete(f"subscriptions/{at_graph(portal)[0]['id']}")
        subscriber(portal).remove("room 0")

        assert (senders(portal), index(portal)) == ([], [])

    def test_a_connection(self, portal: House, new_tenant: NewTenant) -> None:
        """With a connection all its subscriptions go, at Graph and here, and none of another connection."""
        connect(portal, new_tenant(rooms=1, roles=CALENDARS), "other")
        for number in range(3):
            subscribed(portal, number)
        subscribed(portal, 0, "other")
        portal.call("DELETE", f"connections/{NAME}")
        portal.work()

        assert at_graph(portal) == []
        assert [row["connection"] for row in senders(portal)] == ["other"]
        assert len(at_graph(portal, "other")) == 1
        assert {row["connection"] for row in portal.app.tables.due.scan(RENEWALS)} == {"other"}

    @pytest.mark.parametrize("trouble", ["credential", "vault", "throttled", "time"])
    def test_a_connection_that_graph_does_not_serve(
        self, portal: House, cloud: Any, monkeypatch: pytest.MonkeyPatch, trouble: str
    ) -> None:
        """A removal does not wait for Graph: what is left there leads to nobody and runs out."""
        tenant = portal.tenants[NAME]
        for number in range(3):
            subscribed(portal, number)
        match trouble:
            case "credential":
                tenant.control.patch(f"apps/{tenant.client_id}", {"enabled": False})
                portal.app.forget_sign_in(NAME)
            case "vault":
                portal.app.forget_sign_in(NAME)
                cloud.control.post("vault", {"unavailable": True})
            case "throttled":
                tenant.control.post("faults", {"rate429": 1, "retryAfter": {"seconds": 3600}})
            case "time":
                monkeypatch.setattr(subscriptions, "REMOVAL_TIME", timedelta(0))
        connection = find(portal.app.tables.connections, NAME)
        assert connection is not None
        subscriptions.remove_all(portal.app, connection)
        cloud.control.post("vault", {})

        assert (senders(portal), index(portal)) == ([], [])
        assert len(at_graph(portal)) == 3


class TestNotifications:
    """What the simulated Exchange posts by itself."""

    def test_an_event(self, portal: House) -> None:
        """What changes in the room's mailbox is heard, and wakes the connection."""
        subscribed(portal)
        tenant = portal.tenants[NAME].control
        tenant.post("notifications", {"mode": "collect"})
        event = tenant.get(f"mailboxes/{room(portal).external_calendar}/events")[0]
        tenant.patch(f"mailboxes/{room(portal).external_calendar}/events/{event['id']}", {"subject": "Moved"})
        assert set(tenant.post("notifications/deliver")["statuses"]) == {202}

        assert heard(portal) == {"room~200": set()}
        assert active_run(portal.app.tables.data, NAME, "calendars") is not None

    def test_before_the_subscription_is_known(self, portal: House) -> None:
        """A notification that overtakes the answer to the POST is heard as well."""
        portal.tenants[NAME].control.post("faults", {"notificationBefore201": True})
        subscribed(portal)

        assert heard(portal) == {"room~200": set()}

    def test_forged(self, portal: House) -> None:
        """What only looks like Graph's is answered like Graph's, and does nothing."""
        made, tenant = subscribed(portal), portal.tenants[NAME].control
        tenant.post("notifications", {"mode": "collect"})
        assert made.subscription is not None
        for item in ({"clientState": "wrong"}, {"subscriptionId": "wrong"}, {"tenantId": "wrong"}):
            tenant.post("notifications/forge", {"subscriptionId": made.subscription.id, "item": item})

        assert set(tenant.post("notifications/deliver")["statuses"]) == {202}
        assert heard(portal) == {}

    @pytest.mark.parametrize(
        ("event", "flags"),
        [("reauthorizationRequired", {"renew"}), ("subscriptionRemoved", {"recreate"}), ("missed", set())],
    )
    def test_lifecycle_events(self, portal: House, event: str, flags: set[str]) -> None:
        """Each event is heard with what it asks for, and what it asks for gives the room a subscription that lives."""
        made, tenant = subscribed(portal), portal.tenants[NAME].control
        assert made.subscription is not None
        tenant.post("notifications", {"mode": "collect"})
        tenant.post("lifecycle", {"event": event, "subscriptionId": made.subscription.id})
        tenant.post("notifications/deliver")
        assert heard(portal) == {"room~200": flags}

        tenant.post("counters")
        portal.clock.ahead += timedelta(hours=1)
        kept = subscriber(portal).keep(room(portal), made, portal.clock(), asked_of(flags))

        (found,) = at_graph(portal)
        assert kept.subscription is not None
        assert found["id"] == kept.subscription.id
        assert (found["id"] == made.subscription.id) == (event != "subscriptionRemoved")
        assert requests(portal) == {"missed": 0, "reauthorizationRequired": 1, "subscriptionRemoved": 2}[event]
        assert (kept.subscription.expires_at > made.subscription.expires_at) == (event != "missed")


class TestRenewals:
    """The timer asks nobody whose subscriptions live on."""

    def store_states(self, house: House, *numbers: int) -> None:
        for number in numbers:
            kept = subscribed(house, number)
            key = store.state_key(room(house, number).id)
            house.app.tables.data.commit(NAME, [Write("replace", key, store.state_row(kept))])

    def test_before_it_is_time(self, portal: House) -> None:
        """While nothing is due a tick is one read."""
        self.store_states(portal, 0)
        portal.clock.ahead += LIFE - RENEW_BEFORE - timedelta(minutes=1)
        meter = Meter()
        token = METER.set(meter)
        renew_due(portal.app)
        METER.reset(token)

        assert (meter.transactions, heard(portal)) == (1, {})

    def test_when_it_is_time(self, portal: House) -> None:
        """One run looks at all rooms that are due; afterwards they are not due again."""
        self.store_states(portal, 0, 1)
        portal.clock.ahead += LIFE - RENEW_BEFORE + timedelta(minutes=1)
        for _ in range(2):
            renew_due(portal.app)

        assert set(heard(portal)) == {"room~200", "room~201"}
        found = active_run(portal.app.tables.data, NAME, "calendars")
        assert found is not None
        assert found[0].trigger == "timer"
        assert list(portal.app.tables.due.scan(RENEWALS)) == []

    def test_what_has_been_renewed_before(self, portal: House) -> None:
        """A room that some run has renewed meanwhile is left in peace; it is due again at its new time."""
        self.store_states(portal, 0)
        portal.clock.ahead += LIFE - RENEW_BEFORE + timedelta(minutes=1)
        kept = subscribed_of(portal, room(portal), store.load_state(portal.app.tables.data, NAME, "room 0")[0])
        key = store.state_key("room 0")
        portal.app.tables.data.commit(NAME, [Write("replace", key, store.state_row(kept))])
        renew_due(portal.app)

        assert (heard(portal), active_run(portal.app.tables.data, NAME, "calendars")) == ({}, None)
        assert len(list(portal.app.tables.due.scan(RENEWALS))) == 1

    def test_whose_sync_is_off(self, portal: House) -> None:
        self.store_states(portal, 0)
        _, etag = jobs.load_settings(portal.app, NAME, "calendars")
        jobs.save_settings(portal.app, NAME, "calendars", CalendarsSettings(), etag)
        portal.clock.ahead += LIFE
        renew_due(portal.app)

        assert (heard(portal), list(portal.app.tables.due.scan(RENEWALS))) == ({}, [])

    def test_whose_credential_has_expired(self, portal: House) -> None:
        """The rows of such a connection wait for its new credential."""
        self.store_states(portal, 0)
        portal.app.mark_sign_in_failed(
            NAME, SignInError("", remedy="", code="aadsts-7000222", aadsts=7000222, expired=True)
        )
        portal.clock.ahead += LIFE
        renew_due(portal.app)

        assert (heard(portal), len(list(portal.app.tables.due.scan(RENEWALS)))) == ({}, 1)
