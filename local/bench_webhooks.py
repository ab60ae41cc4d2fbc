"""A burst of notifications at a running app: how long the answers take, and whether every room is looked at afterwards."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from random import Random

import aiohttp

from local.portal import Control, Json, Portal, Tenant
from local.processes import Failed
from local.stack import Stack

PER_ROOM = 50  # notifications about each room
CONNECTION = "bench-rooms"
AT_ONCE = 100  # requests under way
PATIENCE_SECONDS = 3.0  # Graph takes a later answer for a slow one
SETTLED_SECONDS = 300
ROLES = ("Calendars.ReadWrite", "Place.Read.All")


@dataclass(frozen=True)
class Burst:
    """What became of so many notifications, one in each request: seconds of each answer, and who was forgotten."""

    rooms: int
    answers: Sequence[float]
    refused: int
    seconds: float
    forgotten: int

    def percentile(self, share: float) -> float:
        """Milliseconds within which that share of the answers came."""
        return 1000 * sorted(self.answers)[ceil(share * len(self.answers)) - 1]

    @property
    def slowest(self) -> float:
        return 1000 * max(self.answers)

    def __str__(self) -> str:
        return (
            f"{len(self.answers):,} notifications about {self.rooms} rooms in {self.seconds:.1f} s, {AT_ONCE} at once: "
            f"answers in {self.percentile(0.5):.0f} ms (median), {self.percentile(0.99):.0f} ms (99 of 100), "
            f"{self.slowest:.0f} ms (slowest); {self.refused} not taken, {self.forgotten} rooms not looked at"
        )


def burst(stack: Stack, notifications: int) -> Burst:
    """Link rooms, post the notifications, and wait until runs have looked at the rooms."""
    portal, control = Portal.of(stack), Control.of(stack)
    tenant = control.generate(users=0, seed=1, rooms=ceil(notifications / PER_ROOM), roles=list(ROLES))
    _link(portal, tenant)
    items = list(_items(tenant, notifications))
    begun = time.monotonic()
    sent, answers, refused = asyncio.run(_post(f"{stack.api}/webhooks/graph", items))
    seconds = time.monotonic() - begun
    return Burst(len(sent), answers, refused, seconds, _forgotten(portal, sent))


def _link(portal: Portal, tenant: Tenant) -> None:
    """A connection with a room for each mailbox, all of them synced and subscribed to."""
    mailboxes = tenant.call("GET", "rooms")
    portal.post("connections", tenant.connection(CONNECTION))
    portal.enable(CONNECTION, "calendars", schedule={"mode": "manual"})
    for room in mailboxes:
        link = {"calendarType": "office365", "active": True, "externalCalendar": room["emailAddress"]}
        name = room["emailAddress"].partition("@")[0]
        portal.put(f"connections/{CONNECTION}/rooms/{name}", {"displayName": room["displayName"], **link})
    last = time.monotonic() + SETTLED_SECONDS
    while len(tenant.call("GET", "subscriptions")) < len(mailboxes):
        if time.monotonic() > last:
            raise Failed("Not every room has a subscription: see the log of the host.")
        time.sleep(0.5)


def _items(tenant: Tenant, count: int) -> Iterator[tuple[str, Json]]:
    """Notifications as Graph sends them, about the rooms by turns in a mixed order, each with its room."""
    subscriptions = tenant.call("GET", "subscriptions")
    rounds = [subscriptions[number % len(subscriptions)] for number in range(count)]
    Random(1).shuffle(rounds)
    for subscription in rounds:
        mailbox = subscription["resource"].split("/")[1]
        event = f"Users/{subscription['mailboxId']}/Events/AAMk"
        yield (
            mailbox.partition("@")[0],
            {
                "subscriptionId": subscription["id"],
                "subscriptionExpirationDateTime": subscription["expirationDateTime"],
                "clientState": subscription["clientState"],
                "changeType": "updated",
                "tenantId": tenant.id,
                "resource": event,
                "resourceData": {"@odata.type": "#Microsoft.Graph.Event", "@odata.id": event, "id": "AAMk"},
            },
        )


async def _post(url: str, items: Sequence[tuple[str, Json]]) -> tuple[dict[str, datetime], list[float], int]:
    """When each room was told of last, how long each answer took, and how many were not 202."""
    sent: dict[str, datetime] = {}
    answers: list[float] = []
    refused = 0
    waiting = iter(items)

    async def worker(session: aiohttp.ClientSession) -> None:
        nonlocal refused
        for room, item in waiting:
            sent[room] = datetime.now(UTC)
            begun = time.monotonic()
            async with session.post(url, json={"value": [item]}) as answer:
                await answer.read()
            answers.append(time.monotonic() - begun)
            refused += answer.status != 202

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        await asyncio.gather(*(worker(session) for _ in range(AT_ONCE)))
    return sent, answers, refused


def _forgotten(portal: Portal, sent: dict[str, datetime]) -> int:
    """How many rooms no run has begun to read since they were told of last, once that has had its time."""
    last = time.monotonic() + SETTLED_SECONDS
    while True:
        shown = {room["id"]: room["lastSyncedAt"] for room in portal.items(f"connections/{CONNECTION}/rooms")}
        left = sum(datetime.fromisoformat(shown[room]) < at for room, at in sent.items())
        if not left or time.monotonic() > last:
            return left
        time.sleep(1)
