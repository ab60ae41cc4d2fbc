"""Subscriptions to rooms against the simulated Exchange: removed, and what a crash leaves of them."""

import random
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from sync import subscriptions
from sync.calendars.model import RoomState
from sync.connections import find
from sync.subscriptions import RENEWALS
from tests.cloud import NewTenant
from tests.house import House
from tests.webhooks import CALENDARS, NAME, at_graph, connect, heard, index, room, senders, subscribed, subscriber


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

    def test_before_the_state_was_written(self, reachable: House) -> None:
        """A run that died after the subscription was made: the next one takes it away and makes its own."""
        subscribed(reachable)
        (before,) = at_graph(reachable)
        kept = subscribed(reachable)

        self.one(reachable, kept)
        assert at_graph(reachable)[0]["id"] != before["id"]

    @pytest.mark.parametrize("save", [1, 2])
    def test_around_the_post(self, reachable: House, monkeypatch: pytest.MonkeyPatch, save: int) -> None:
        """A run that died before the POST, or before it noted down whose id Graph gave."""
        saves, keep = iter(range(1, 3)), subscriptions.save_sender

        def dying(*arguments: Any) -> None:
            if next(saves) == save:
                raise ServiceRequestError("reset")
            keep(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(subscriptions, "save_sender", dying)
            with pytest.raises(ServiceRequestError):
                subscribed(reachable)
        assert len(at_graph(reachable)) == save - 1

        self.one(reachable, subscribed(reachable))

    def test_an_answer_that_got_lost(self, reachable: House) -> None:
        """The POST that is sent again meets the subscription that the first has made: it makes way."""
        seed = next(seed for seed in range(1000) if lost_first(seed))
        reachable.tenants[NAME].control.post("faults", {"rateReset": 0.5, "seed": seed})
        kept = subscribed(reachable)
        reachable.tenants[NAME].control.post("faults", {})

        self.one(reachable, kept)

    def test_of_another_connection(self, reachable: House) -> None:
        """Two connections to one tenant by one app: who comes second to a mailbox polls, and takes nothing from the first."""
        connect(reachable, reachable.tenants[NAME], "second")
        first = subscribed(reachable)
        second = subscribed(reachable, name="second")

        (found,) = at_graph(reachable)
        assert first.subscription is not None
        assert (found["id"], second.subscription) == (first.subscription.id, None)
        assert [row["connection"] for row in senders(reachable)] == [NAME]

    def test_of_somebody_else(self, reachable: House) -> None:
        """A subscription of the same app to another address stands in the way and stays."""
        graph, here = reachable.tenants[NAME].graph(), room(reachable)
        other = {
            "changeType": "created,updated,deleted",
            "notificationUrl": f"{reachable.app.settings.webhook_base_url}/webhooks/graph?other",
            "resource": f"users/{here.external_calendar}/events",
            "expirationDateTime": (reachable.clock() + timedelta(hours=2)).isoformat(),
        }
        made = graph.post("/subscriptions", json=other).json()

        assert subscribed(reachable).subscription is None
        assert [each["id"] for each in at_graph(reachable)] == [made["id"]]


def lost_first(seed: int) -> bool:
    """Whether a rate of one half takes the first answer and none of the next ten."""
    rng = random.Random(seed)
    first, *others = (rng.random() for _ in range(11))
    return first < 0.5 <= min(others)


class TestRemoving:
    def test_a_room(self, reachable: House) -> None:
        """The subscription of one room goes, those of others stay; a second time nothing happens."""
        for number in range(2):
            subscribed(reachable, number)
        for _ in range(2):
            subscriber(reachable).remove("room 0")

            assert [each["resource"] for each in at_graph(reachable)] == [
                f"users/{room(reachable, 1).external_calendar}/events"
            ]
            assert [row["room"] for row in senders(reachable)] == ["room 1"]
            assert len(index(reachable)) == 1

    def test_one_that_graph_has_no_more(self, reachable: House) -> None:
        subscribed(reachable)
        reachable.tenants[NAME].control.delete(f"subscriptions/{at_graph(reachable)[0]['id']}")
        subscriber(reachable).remove("room 0")

        assert (senders(reachable), index(reachable)) == ([], [])

    def test_a_connection(self, reachable: House, new_tenant: NewTenant) -> None:
        """With a connection all its subscriptions go, at Graph and here, and none of another connection."""
        connect(reachable, new_tenant(rooms=1, roles=CALENDARS), "other")
        for number in range(3):
            subscribed(reachable, number)
        subscribed(reachable, 0, "other")
        reachable.call("DELETE", f"connections/{NAME}")
        reachable.work()

        assert at_graph(reachable) == []
        assert [row["connection"] for row in senders(reachable)] == ["other"]
        assert len(at_graph(reachable, "other")) == 1
        assert {row["connection"] for row in reachable.app.tables.due.scan(RENEWALS)} == {"other"}

    @pytest.mark.parametrize("trouble", ["credential", "vault", "throttled", "time"])
    def test_a_connection_that_graph_does_not_serve(
        self, reachable: House, cloud: Any, monkeypatch: pytest.MonkeyPatch, trouble: str
    ) -> None:
        """A removal does not wait for Graph: what is left there leads to nobody and runs out."""
        tenant = reachable.tenants[NAME]
        for number in range(3):
            subscribed(reachable, number)
        match trouble:
            case "credential":
                tenant.control.patch(f"apps/{tenant.client_id}", {"enabled": False})
                reachable.app.forget_sign_in(NAME)
            case "vault":
                reachable.app.forget_sign_in(NAME)
                cloud.control.post("vault", {"unavailable": True})
            case "throttled":
                tenant.control.post("faults", {"rate429": 1, "retryAfter": {"seconds": 3600}})
            case "time":
                monkeypatch.setattr(subscriptions, "REMOVAL_TIME", timedelta(0))
        connection = find(reachable.app.tables.connections, NAME)
        assert connection is not None
        subscriptions.remove_all(reachable.app, connection)
        cloud.control.post("vault", {})

        assert (senders(reachable), index(reachable)) == ([], [])
        assert len(at_graph(reachable)) == 3
