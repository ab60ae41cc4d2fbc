"""Rooms with subscriptions, as the reachable, Outlook and the timers see them: through runs, and what Graph posts by itself."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from sync import jobs, subscriptions
from sync.calendars import run, store
from sync.calendars.model import RoomState
from sync.calendars.pull import pull
from sync.runs import active_run
from sync.subscriptions import LIFE, RENEW_BEFORE, asked_of, renew_due
from tests.house import House
from tests.webhooks import NAME, at_graph, heard, index, requests, room, senders, subscribed, subscriber


class TestNotifications:
    """What the simulated Exchange posts by itself."""

    def test_an_event(self, reachable: House) -> None:
        """What changes in the room's mailbox is heard, and wakes the connection."""
        subscribed(reachable)
        tenant = reachable.tenants[NAME].control
        tenant.post("notifications", {"mode": "collect"})
        event = tenant.get(f"mailboxes/{room(reachable).external_calendar}/events")[0]
        tenant.patch(f"mailboxes/{room(reachable).external_calendar}/events/{event['id']}", {"subject": "Moved"})
        assert set(tenant.post("notifications/deliver")["statuses"]) == {202}

        assert heard(reachable) == {"room~200": set()}
        assert active_run(reachable.app.tables.data, NAME, "calendars") is not None

    def test_before_the_subscription_is_known(self, reachable: House) -> None:
        """A notification that overtakes the answer to the POST is heard as well."""
        reachable.tenants[NAME].control.post("faults", {"notificationBefore201": True})
        subscribed(reachable)

        assert heard(reachable) == {"room~200": set()}

    def test_forged(self, reachable: House) -> None:
        """What only looks like Graph's is answered like Graph's, and does nothing."""
        made, tenant = subscribed(reachable), reachable.tenants[NAME].control
        tenant.post("notifications", {"mode": "collect"})
        assert made.subscription is not None
        for item in ({"clientState": "wrong"}, {"subscriptionId": "wrong"}, {"tenantId": "wrong"}):
            tenant.post("notifications/forge", {"subscriptionId": made.subscription.id, "item": item})

        assert set(tenant.post("notifications/deliver")["statuses"]) == {202}
        assert heard(reachable) == {}

    @pytest.mark.parametrize(
        ("event", "flags"),
        [("reauthorizationRequired", {"renew"}), ("subscriptionRemoved", {"recreate"}), ("missed", set())],
    )
    def test_lifecycle_events(self, reachable: House, event: str, flags: set[str]) -> None:
        """Each event is heard with what it asks for, and what it asks for gives the room a subscription that lives."""
        made, tenant = subscribed(reachable), reachable.tenants[NAME].control
        assert made.subscription is not None
        tenant.post("notifications", {"mode": "collect"})
        tenant.post("lifecycle", {"event": event, "subscriptionId": made.subscription.id})
        tenant.post("notifications/deliver")
        assert heard(reachable) == {"room~200": flags}

        tenant.post("counters")
        reachable.clock.ahead += timedelta(hours=1)
        kept = subscriber(reachable).keep(room(reachable), made, reachable.clock(), asked_of(flags))

        (found,) = at_graph(reachable)
        assert kept.subscription is not None
        assert found["id"] == kept.subscription.id
        assert (found["id"] == made.subscription.id) == (event != "subscriptionRemoved")
        assert requests(reachable) == {"missed": 0, "reauthorizationRequired": 1, "subscriptionRemoved": 2}[event]
        assert (kept.subscription.expires_at > made.subscription.expires_at) == (event != "missed")


class TestRuns:
    """Subscriptions as the portal and Outlook see them: through runs, and what Graph posts by itself."""

    @pytest.fixture
    def linked(self, reachable: House) -> House:
        """A house whose first room is linked and was synced once; notifications wait until they are asked for."""
        reachable.tenants[NAME].control.post("notifications", {"mode": "collect"})
        self.link(reachable, 0)
        return reachable

    def put(self, house: House, number: int, name: str = "oak", **fields: Any) -> None:
        body = {"displayName": "Oak", "calendarType": "office365", "active": True}
        mailbox = {"externalCalendar": room(house, number).external_calendar}
        assert house.call("PUT", f"connections/{NAME}/rooms/{name}", {**body, **mailbox, **fields}).status in (200, 201)

    def link(self, house: House, number: int, **fields: Any) -> Any:
        self.put(house, number, **fields)
        house.work()
        return self.shown(house)

    def shown(self, house: House, name: str = "oak") -> Any:
        return house.get(f"connections/{NAME}/rooms/{name}")

    def deliver(self, house: House) -> None:
        """What waits at Graph comes in, and a little later its run works."""
        statuses = house.tenants[NAME].control.post("notifications/deliver")["statuses"]
        assert set(statuses) <= {202}
        self.wake(house)

    def wake(self, house: House) -> None:
        """Work as the queue would after the run's delay."""
        found = active_run(house.app.tables.data, NAME, "calendars")
        if found is not None:
            jobs.work(house.app, {"connection": NAME, "run": found[0].id})

    def titles(self, house: House) -> set[str]:
        return {one["title"] for one in house.get(f"connections/{NAME}/rooms/oak/reservations")["items"]}

    def test_a_room_becomes_active(self, linked: House) -> None:
        """A room that is linked is active by its first run, with a subscription whose end the portal shows."""
        shown = self.shown(linked)

        assert (shown["status"], shown["statusDetail"]) == ("active", "webhook")
        assert shown["subscriptionExpiresAt"] is not None
        assert [each["resource"] for each in at_graph(linked)] == [f"users/{room(linked).external_calendar}/events"]

    def test_a_room_that_comes_while_another_is_read(self, reachable: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A room that is linked, or changed, while a run works is looked at by that run as it is now."""
        pulled: list[str] = []

        def and_meanwhile(visit: Any, **options: Any) -> Any:
            pulled.append(visit.mailbox)
            if len(pulled) == 1:
                self.put(reachable, 1, "elm")
                self.put(reachable, 2, "oak")
            return pull(visit, **options)

        monkeypatch.setattr(run, "pull", and_meanwhile)
        self.put(reachable, 0)
        self.wake(reachable)

        shown = [self.shown(reachable, name) for name in ("elm", "oak")]
        assert [(one["status"], one["statusDetail"]) for one in shown] == [("active", "webhook")] * 2
        assert pulled == [room(reachable, number).external_calendar for number in (0, 1, 2)]
        assert {each["resource"].split("/")[1] for each in at_graph(reachable)} == set(pulled[1:])

    def test_an_event_in_outlook(self, linked: House) -> None:
        """What is booked in Outlook is a reservation after one notification, at no more than three requests to Graph."""
        tenant, mailbox = linked.tenants[NAME].control, room(linked).external_calendar
        before = self.titles(linked)
        start = (linked.clock() + timedelta(days=2)).strftime("%Y-%m-%dT12:00:00")
        end = (linked.clock() + timedelta(days=2)).strftime("%Y-%m-%dT13:00:00")
        times = {"start": {"dateTime": start, "timeZone": "UTC"}, "end": {"dateTime": end, "timeZone": "UTC"}}
        tenant.post(f"mailboxes/{mailbox}/events", {"subject": "Planning", **times})
        tenant.post("counters")
        self.deliver(linked)

        assert self.titles(linked) - before == {"Planning"}
        assert requests(linked) <= 3
        assert heard(linked) == {}

    def test_a_subscription_that_graph_takes_away(self, linked: House) -> None:
        """After subscriptionRemoved the next run makes another one and reads what has changed meanwhile."""
        (before,) = at_graph(linked)
        linked.tenants[NAME].control.post("lifecycle", {"event": "subscriptionRemoved", "subscriptionId": before["id"]})
        self.deliver(linked)

        (after,) = at_graph(linked)
        assert after["id"] != before["id"]
        assert [row["subscription"] for row in senders(linked)] == [after["id"]]
        assert heard(linked) == {}

    @pytest.mark.parametrize("life", [timedelta(minutes=60), timedelta(hours=23)])
    def test_a_subscription_with_a_short_life(
        self, reachable: House, monkeypatch: pytest.MonkeyPatch, life: timedelta
    ) -> None:
        """One that lives less than a day is made once, and renewed once when half of its life is over."""
        monkeypatch.setattr(subscriptions, "LIFE", life)
        self.link(reachable, 0)
        begun = reachable.clock()
        (made,) = at_graph(reachable)
        reachable.clock.ahead += life / 2 + timedelta(minutes=1)
        tenant = reachable.tenants[NAME].control
        tenant.post("counters")
        renew_due(reachable.app)
        self.wake(reachable)

        (kept,) = at_graph(reachable)
        assert kept["id"] == made["id"]
        assert datetime.fromisoformat(kept["expirationDateTime"]) > begun + life
        assert requests(reachable) <= 3

    def test_a_subscription_in_its_last_day(self, linked: House) -> None:
        """The timer finds it and a run renews it, once; the portal shows its new end."""
        before = self.shown(linked)["subscriptionExpiresAt"]
        linked.clock.ahead += LIFE - RENEW_BEFORE + timedelta(minutes=1)
        for _ in range(2):
            renew_due(linked.app)
            self.wake(linked)

        assert self.shown(linked)["subscriptionExpiresAt"] > before
        assert len(at_graph(linked)) == 1

    def test_a_room_that_is_refused(self, reachable: House) -> None:
        """A mailbox that takes no subscription is synced all the same; the portal sees that it is polled."""
        mailbox = room(reachable).external_calendar
        reachable.tenants[NAME].control.patch(f"mailboxes/{mailbox}", {"noSubscriptions": True})
        shown = self.link(reachable, 0)

        assert (shown["status"], shown["statusDetail"], shown["subscriptionExpiresAt"]) == (
            "active",
            "polling-only",
            None,
        )
        assert shown["lastSyncedAt"] is not None

    def test_a_room_with_another_calendar(self, linked: House) -> None:
        """The subscription moves with the room."""
        shown = self.link(linked, 1)

        assert (shown["status"], shown["statusDetail"]) == ("active", "webhook")
        assert [each["resource"] for each in at_graph(linked)] == [f"users/{room(linked, 1).external_calendar}/events"]
        assert len(senders(linked)) == 1

    @pytest.mark.parametrize("how", ["off", "removed"])
    def test_a_room_that_leaves(self, linked: House, how: str) -> None:
        """A room that is switched off or removed has no subscription any more, at Graph or here."""
        if how == "off":
            self.link(linked, 0, active=False)
        else:
            assert linked.call("DELETE", f"connections/{NAME}/rooms/oak").status in (202, 204)
            linked.work()

        assert (at_graph(linked), senders(linked), index(linked)) == ([], [], [])

    def book(self, house: House) -> Any:
        """A reservation made in the portal, not sent yet."""
        day = (house.clock() + timedelta(days=2)).strftime("%Y-%m-%d")
        times = {end: {"dateTime": f"{day}T{hour}:00:00"} for end, hour in (("start", 12), ("end", 13))}
        answer = house.call("POST", f"connections/{NAME}/rooms/oak/reservations", {"title": "Planning", **times})
        assert answer.status == 201
        return answer.json

    def switch(self, house: House, *, enabled: bool) -> None:
        settings = {"enabled": enabled, "schedule": {"mode": "manual"}}
        assert house.call("PUT", f"connections/{NAME}/syncs/calendars", settings).status == 200

    def test_a_sync_that_is_switched_off(self, linked: House) -> None:
        """No room has a subscription any more, nothing else is asked of Graph, and what waits goes on waiting. Switched
        on again the rooms are as before.
        """
        self.put(linked, 1, "elm")
        linked.work()
        assert len(at_graph(linked)) == 2
        self.book(linked)
        self.switch(linked, enabled=False)
        assert self.shown(linked)["subscriptionExpiresAt"] is None
        linked.tenants[NAME].control.post("counters")
        linked.work()

        assert (at_graph(linked), senders(linked), index(linked)) == ([], [], [])
        assert requests(linked) == 2
        shown = self.shown(linked)
        assert (shown["status"], shown["statusDetail"], shown["pendingChanges"]) == ("pending", "sync-disabled", 1)

        self.switch(linked, enabled=True)
        linked.run(NAME, "calendars")

        shown = self.shown(linked)
        assert (shown["status"], shown["statusDetail"], shown["pendingChanges"]) == ("active", "webhook", 0)
        assert shown["subscriptionExpiresAt"] is not None
        assert len(at_graph(linked)) == 2

    def test_a_sync_that_is_switched_off_while_a_run_works(
        self, linked: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a run that began before makes is taken away by one that the timer starts, if its first tick finds that run
        still at work.
        """
        linked.start(NAME, "calendars")
        self.put(linked, 1, "elm")

        def and_meanwhile(visit: Any, **options: Any) -> Any:
            self.switch(linked, enabled=False)
            renew_due(linked.app)
            return pull(visit, **options)

        with monkeypatch.context() as patch:
            patch.setattr(run, "pull", and_meanwhile)
            linked.work()
        assert len(at_graph(linked)) == 2
        renew_due(linked.app)
        linked.work()

        assert (at_graph(linked), senders(linked), index(linked)) == ([], [], [])
        assert self.shown(linked)["subscriptionExpiresAt"] is None

    def test_a_sync_that_was_off_all_the_time(self, reachable: House) -> None:
        """Where there is no subscription no run is started."""
        self.switch(reachable, enabled=False)

        assert active_run(reachable.app.tables.data, NAME, "calendars") is None

    def test_a_room_that_is_removed_while_the_sync_is_off(self, linked: House) -> None:
        """What the portal had cancelled in it waits, too, until the sync is on again."""
        tenant, mailbox = linked.tenants[NAME].control, room(linked).external_calendar
        one = self.book(linked)
        linked.work()
        before = len(tenant.get(f"mailboxes/{mailbox}/events"))
        linked.call("DELETE", f"connections/{NAME}/rooms/oak/reservations/{one['id']}")
        self.switch(linked, enabled=False)
        linked.call("DELETE", f"connections/{NAME}/rooms/oak")
        linked.work()
        assert (len(tenant.get(f"mailboxes/{mailbox}/events")), at_graph(linked)) == (before, [])

        self.switch(linked, enabled=True)
        linked.run(NAME, "calendars")

        assert len(tenant.get(f"mailboxes/{mailbox}/events")) == before - 1
        assert store.load_state(linked.app.tables.data, NAME, "oak") == (RoomState(), None)
