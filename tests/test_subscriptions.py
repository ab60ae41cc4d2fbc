"""Subscriptions to rooms against the simulated Exchange: made, renewed, made anew, and refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.meter import METER, Meter
from storage.tables import Write
from sync import jobs
from sync.calendars import store
from sync.calendars.model import RoomState, Subscription
from sync.errors import GraphError, SignInError
from sync.runs import active_run
from sync.subscriptions import (
    BACKOFF,
    RENEW_BEFORE,
    RENEWALS,
    Action,
    Asked,
    asked_of,
    decide,
    granted,
    renew_due,
)
from sync.sync_settings import CalendarsSettings
from tests.cloud import NewTenant
from tests.contents import contents
from tests.house import House
from tests.test_secrets_nowhere import spellings
from tests.webhooks import (
    CALENDARS,
    NAME,
    Server,
    at_graph,
    connect,
    heard,
    index,
    requests,
    room,
    senders,
    subscribed,
    subscribed_of,
    subscriber,
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LIFE = timedelta(minutes=4230)


def state(expires_in: timedelta | None, refused_for: timedelta | None = None) -> RoomState:
    """A room's state with a subscription that expires, and a refusal that is waited out, so long after NOW."""
    return RoomState(
        subscription=None
        if expires_in is None
        else Subscription("id", "digest", NOW + expires_in, NOW + expires_in - RENEW_BEFORE),
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
            (None, NOW + LIFE),
        ],
    )
    def test_expiries(self, text: str | None, expires: datetime) -> None:
        """However Graph writes an expiry, it is read as that moment; where it writes none, it is the one asked for."""
        found = granted("a", "d", {"expirationDateTime": text}, NOW)

        assert found == Subscription("a", "d", expires, expires - RENEW_BEFORE)

    @pytest.mark.parametrize("life", [timedelta(minutes=1), timedelta(minutes=60), timedelta(hours=23)])
    def test_a_short_life(self, life: timedelta) -> None:
        """One that Graph grants less than a day is renewed halfway: it is no reason to renew it again and again."""
        found = granted("a", "d", {"expirationDateTime": (NOW + life).isoformat()}, NOW)

        assert (found.expires_at, found.renew_at) == (NOW + life, NOW + life / 2)
        assert decide(RoomState(subscription=found), NOW) == "keep"

    @pytest.mark.parametrize(
        ("subscription", "expires"), [("", None), ("a", "x"), ("a", 5), ("a", "2026-11-26T12:00:00Z")]
    )
    def test_answers_that_tell_of_none(self, subscription: str, expires: Any) -> None:
        """No id, an expiry that cannot be read, or one that is over."""
        with pytest.raises(GraphError) as caught:
            granted(subscription, "d", {"expirationDateTime": expires}, NOW)
        assert caught.value.code == "answer-unreadable"


class TestKeeping:
    def test_a_room_without(self, reachable: House, webhooks: Server) -> None:
        """One request makes a subscription that tells of every change by immutable ids, in 4,230 minutes at most; both of
        its URLs are proved to listen, and its secret stays at Graph.
        """
        reachable.tenants[NAME].control.post("counters")
        made = subscribed(reachable)

        (found,) = at_graph(reachable)
        assert (requests(reachable), webhooks.posts) == (1, 2)
        assert found["resource"] == f"users/{room(reachable).external_calendar}/events"
        assert set(found["changeType"].split(",")) == {"created", "updated", "deleted"}
        assert found["notificationUrl"] == f"{webhooks.base_url}/webhooks/graph"
        assert found["lifecycleNotificationUrl"] == f"{webhooks.base_url}/webhooks/graph/lifecycle"
        assert (found["immutableIds"], found["latestSupportedTlsVersion"]) == (True, "v1_2")
        assert 43 <= len(found["clientState"]) <= 128
        assert made.subscription is not None
        assert made.subscription.id == found["id"]
        assert timedelta(0) <= reachable.clock() + LIFE - made.subscription.expires_at < timedelta(minutes=1)
        assert (made.detail, made.no_subscription_until) == ("webhook", None)
        (sender,) = senders(reachable)
        assert (sender["PartitionKey"], sender["connection"], sender["room"]) == (
            made.subscription.digest,
            NAME,
            "room 0",
        )
        assert (sender["subscription"], sender["tenant"]) == (found["id"], reachable.tenants[NAME].id)
        assert contents(reachable).naming(*spellings(found["clientState"])) == []

    def test_each_has_a_secret_of_its_own(self, reachable: House) -> None:
        for number in range(3):
            subscribed(reachable, number)

        assert len({each["clientState"] for each in at_graph(reachable)}) == 3

    def test_one_that_lives(self, reachable: House) -> None:
        """A subscription that lives on costs neither a request nor a storage transaction."""
        made, keeper = subscribed(reachable), subscriber(reachable)
        reachable.tenants[NAME].control.post("counters")
        meter = Meter()
        token = METER.set(meter)
        kept = keeper.keep(room(reachable), made, reachable.clock())
        METER.reset(token)

        assert kept == made
        assert (requests(reachable), meter.transactions) == (0, 0)

    def test_renewed(self, reachable: House, webhooks: Server) -> None:
        """With 20 hours left it is renewed by one request, and stays who it is."""
        made = subscribed(reachable)
        reachable.tenants[NAME].control.post("counters")
        reachable.clock.ahead += LIFE - timedelta(hours=20)
        kept = subscriber(reachable).keep(room(reachable), made, reachable.clock())

        assert made.subscription is not None
        assert kept.subscription is not None
        assert requests(reachable) == 1
        assert (kept.subscription.id, kept.subscription.digest) == (made.subscription.id, made.subscription.digest)
        assert kept.subscription.expires_at > reachable.clock() + LIFE - timedelta(minutes=1)
        assert len(at_graph(reachable)) == 1

    @pytest.mark.parametrize("hours", [20, -1])
    def test_renewed_too_late(self, reachable: House, hours: int) -> None:
        """Where Graph has it no more another one is made, with a secret of its own; the old one leads to nobody."""
        made = subscribed(reachable)
        (before,) = at_graph(reachable)
        reachable.tenants[NAME].control.delete(f"subscriptions/{before['id']}")
        reachable.clock.ahead += LIFE - timedelta(hours=hours)
        kept = subscriber(reachable).keep(room(reachable), made, reachable.clock())

        (after,) = at_graph(reachable)
        assert after["id"] != before["id"]
        assert after["clientState"] != before["clientState"]
        assert kept.subscription is not None
        assert [row["subscription"] for row in senders(reachable)] == [after["id"]] == [kept.subscription.id]
        assert index(reachable) == [kept.subscription.digest]

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
    def test_by_graph(self, reachable: House, refuse: Callable[[Any, str], Any]) -> None:
        """ExtensionError, 403 and 404: nothing is left behind, and for an hour Graph is not asked again."""
        tenant, here = reachable.tenants[NAME].control, room(reachable)
        refuse(tenant, here.external_calendar)
        refused = subscribed_of(reachable, here, RoomState())

        assert (refused.subscription, refused.detail) == (None, "polling-only")
        assert refused.no_subscription_until is not None
        assert timedelta(0) <= reachable.clock() + BACKOFF - refused.no_subscription_until < timedelta(minutes=1)
        assert (senders(reachable), index(reachable), list(reachable.app.tables.due.scan(RENEWALS))) == ([], [], [])
        tenant.post("counters")
        assert subscribed_of(reachable, here, refused) == refused
        assert requests(reachable) == 0

    def test_over(self, reachable: House) -> None:
        """An hour later the reason may be gone."""
        tenant, here = reachable.tenants[NAME].control, room(reachable)
        tenant.patch(f"mailboxes/{here.external_calendar}", {"noSubscriptions": True})
        refused = subscribed_of(reachable, here, RoomState())
        tenant.patch(f"mailboxes/{here.external_calendar}", {"noSubscriptions": False})
        reachable.clock.ahead += BACKOFF
        kept = subscribed_of(reachable, here, refused)

        assert kept.subscription is not None
        assert (kept.detail, kept.no_subscription_until) == ("webhook", None)

    def test_because_nobody_listens(self, build_house: Callable[..., House], new_tenant: NewTenant) -> None:
        """The handshake that fails is a refusal like others."""
        house = build_house(webhook_base_url="http://127.0.0.1:1/api")
        connect(house, new_tenant(rooms=1, roles=CALENDARS), NAME)
        refused = subscribed(house)

        assert (refused.subscription, refused.detail, senders(house)) == (None, "polling-only", [])

    def test_of_a_renewal(self, reachable: House) -> None:
        """A subscription that cannot be renewed now counts until it expires, and the next try waits."""
        made = subscribed(reachable)
        reachable.clock.ahead += LIFE - timedelta(hours=20)
        reachable.tenants[NAME].control.patch(f"apps/{reachable.tenants[NAME].client_id}", {"roles": []})
        reachable.tenants[NAME].control.post("faults", {"rate429": 1, "retryAfter": {"seconds": 3600}})
        kept = subscribed_of(reachable, room(reachable), made)

        assert kept.subscription == made.subscription
        assert kept.no_subscription_until is not None
        assert kept.no_subscription_until - reachable.clock() > timedelta(minutes=50)
        assert decide(kept, reachable.clock()) == "wait"

    def test_by_entra(self, reachable: House) -> None:
        """A credential that does not work is the connection's trouble and not the room's."""
        reachable.tenants[NAME].control.patch(f"apps/{reachable.tenants[NAME].client_id}", {"enabled": False})

        with pytest.raises(SignInError):
            subscribed(reachable)


class TestRenewals:
    """The timer asks nobody whose subscriptions live on."""

    def store_states(self, house: House, *numbers: int) -> None:
        for number in numbers:
            kept = subscribed(house, number)
            key = store.state_key(room(house, number).id)
            house.app.tables.data.commit(NAME, [Write("replace", key, store.state_row(kept))])

    def test_before_it_is_time(self, reachable: House) -> None:
        """While nothing is due a tick is one read."""
        self.store_states(reachable, 0)
        reachable.clock.ahead += LIFE - RENEW_BEFORE - timedelta(minutes=1)
        meter = Meter()
        token = METER.set(meter)
        renew_due(reachable.app)
        METER.reset(token)

        assert (meter.transactions, heard(reachable)) == (1, {})

    def test_when_it_is_time(self, reachable: House) -> None:
        """One run looks at all rooms that are due; afterwards they are not due again."""
        self.store_states(reachable, 0, 1)
        reachable.clock.ahead += LIFE - RENEW_BEFORE + timedelta(minutes=1)
        for _ in range(2):
            renew_due(reachable.app)

        assert set(heard(reachable)) == {"room~200", "room~201"}
        found = active_run(reachable.app.tables.data, NAME, "calendars")
        assert found is not None
        assert found[0].trigger == "timer"
        assert list(reachable.app.tables.due.scan(RENEWALS)) == []

    def test_what_has_been_renewed_before(self, reachable: House) -> None:
        """A room that some run has renewed meanwhile is left in peace; it is due again at its new time."""
        self.store_states(reachable, 0)
        reachable.clock.ahead += LIFE - RENEW_BEFORE + timedelta(minutes=1)
        kept = subscribed_of(reachable, room(reachable), store.load_state(reachable.app.tables.data, NAME, "room 0")[0])
        key = store.state_key("room 0")
        reachable.app.tables.data.commit(NAME, [Write("replace", key, store.state_row(kept))])
        renew_due(reachable.app)

        assert (heard(reachable), active_run(reachable.app.tables.data, NAME, "calendars")) == ({}, None)
        assert len(list(reachable.app.tables.due.scan(RENEWALS))) == 1

    def test_whose_sync_is_off(self, reachable: House) -> None:
        """A run takes away what there is; the tick after that finds nothing more to do."""
        self.store_states(reachable, 0)
        _, etag = jobs.load_settings(reachable.app, NAME, "calendars")
        jobs.save_settings(reachable.app, NAME, "calendars", CalendarsSettings(), etag)
        reachable.clock.ahead += LIFE
        renew_due(reachable.app)
        reachable.work()
        renew_due(reachable.app)

        assert (heard(reachable), list(reachable.app.tables.due.scan(RENEWALS))) == ({}, [])
        assert (at_graph(reachable), index(reachable)) == ([], [])

    def test_whose_credential_has_expired(self, reachable: House) -> None:
        """The rows of such a connection wait for its new credential."""
        self.store_states(reachable, 0)
        reachable.app.mark_sign_in_failed(
            NAME, SignInError("", remedy="", code="aadsts-7000222", aadsts=7000222, expired=True)
        )
        reachable.clock.ahead += LIFE
        renew_due(reachable.app)

        assert (heard(reachable), len(list(reachable.app.tables.due.scan(RENEWALS)))) == ({}, 1)
