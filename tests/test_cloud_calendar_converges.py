"""Whoever follows a room's delta by the book knows what its calendar holds, whatever happens in it."""

import random
from typing import Any

import pytest

from tests.calendars import CALENDARS, IMMUTABLE, at, event, inviting, people_of, rooms_of, view_delta, weekly, window
from tests.cloud import NewTenant, TestTenant

Json = dict[str, Any]
STEPS = 25


class Reader:
    """Keeps the events of a room's window by id: last seen wins, removed is gone."""

    def __init__(self, graph: Any, room: Json) -> None:
        self.graph, self.room = graph, room
        self.events: dict[str, Json] = {}
        self.link = view_delta(room)

    def read(self) -> None:
        headers = {"Prefer": 'IdType="ImmutableId", odata.maxpagesize=5'}
        url = self.link
        while True:
            page = self.graph.get(url, headers=headers).json()
            for row in page["value"]:
                if "@removed" in row:
                    self.events.pop(row["id"], None)
                else:
                    self.events[row["id"]] = row
            if "@odata.deltaLink" in page:
                self.link = page["@odata.deltaLink"]
                return
            url = page["@odata.nextLink"]

    @property
    def shown(self) -> dict[str, tuple[str, str, str]]:
        """What happens in the room: masters say what, not when."""
        every = {key: row for key, row in self.events.items() if row["type"] != "seriesMaster"}
        return {key: self._told(row) for key, row in every.items()}

    def _told(self, row: Json) -> tuple[str, str, str]:
        whole = row if "subject" in row else self.events[row["seriesMasterId"]]
        return row["start"]["dateTime"], row["end"]["dateTime"], whole["subject"]


def truth(graph: Any, room: Json) -> dict[str, tuple[str, str, str]]:
    url = f"/users/{room['id']}/calendarView?{window()}&$top=1000"
    every = graph.get(url, headers=IMMUTABLE).json()["value"]
    return {row["id"]: (row["start"]["dateTime"], row["end"]["dateTime"], row["subject"]) for row in every}


def step(tenant: TestTenant, rng: random.Random) -> None:
    """Something that people do in Outlook, in their own calendars or in a room's."""
    mailbox = rng.choice([*people_of(tenant), *rooms_of(tenant)])["id"]
    events = f"mailboxes/{mailbox}/events"
    known = tenant.control.get(events, start="2000-01-01", end="2100-01-01")
    on, hour = rng.randrange(6), rng.randrange(6, 18)
    rooms = rng.sample(rooms_of(tenant), k=rng.randrange(3))
    match rng.randrange(8):
        case 0 | 1:
            tenant.control.post(events, event(f"E{rng.random():.4f}", on=on, hour=hour, **inviting(*rooms)))
        case 2:
            series = weekly(on=7 * (on // 7), count=rng.randrange(1, 6))
            body = event(f"S{rng.random():.4f}", on=7 * (on // 7), hour=hour, recurrence=series, **inviting(*rooms))
            tenant.control.post(events, body)
        case 3 if known:
            tenant.control.patch(f"{events}/{rng.choice(known)['id']}", {"subject": f"R{rng.random():.4f}"})
        case 4 if known:
            tenant.control.patch(f"{events}/{rng.choice(known)['id']}", inviting(*rooms))
        case 5 if known:
            chosen = rng.choice(known)
            later = on if chosen["recurrence"] is None else 7 * (on // 7)
            times = {"start": at(later, hour), "end": at(later, hour + 1)}
            tenant.control.patch(f"{events}/{chosen['id']}", times)
        case 6 if known:
            _one_occurrence(tenant, events, rng.choice(known), rng)
        case 7 if known:
            tenant.control.delete(f"{events}/{rng.choice(known)['id']}")


def _one_occurrence(tenant: TestTenant, events: str, chosen: Json, rng: random.Random) -> None:
    if chosen["recurrence"] is None or not chosen["instances"]:
        return
    occurrence = rng.choice(chosen["instances"])
    if rng.random() < 0.4:
        tenant.control.delete(f"{events}/{occurrence['id']}")
    else:
        tenant.control.patch(f"{events}/{occurrence['id']}", {"subject": f"O{rng.random():.4f}"})


@pytest.mark.parametrize("seed", range(6))
def test_a_reader_of_delta_ends_with_what_the_calendar_holds(new_tenant: NewTenant, seed: int):
    tenant = new_tenant(users=2, guestShare=0, rooms=2, roles=CALENDARS)
    graph, rng = tenant.graph(), random.Random(seed)
    tenant.control.post("faults", {"untidyPaging": seed % 2 == 1, "seed": seed})
    tenant.control.post("meetings", {"delayMs": "manual"})
    readers = [Reader(graph, room) for room in rooms_of(tenant)]
    for _ in range(STEPS):
        step(tenant, rng)
        if rng.random() < 0.6:
            tenant.control.post("meetings/deliver", {"count": rng.randrange(1, 4)})
        if rng.random() < 0.5:
            rng.choice(readers).read()
    tenant.control.post("meetings/deliver")
    for reader, room in zip(readers, rooms_of(tenant), strict=True):
        reader.read()

        assert reader.shown == truth(graph, room)
