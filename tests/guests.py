"""A meeting of Ann's with a guest, as the calendars' cases of attendees and notes find it."""

from collections.abc import Callable
from typing import Any

import pytest

from sync.graph.client import GraphClient
from tests.office import (
    Count,
    Json,
    Make,
    Office,
    room_attendee,
)

DAN = "dan@fabrikam.com"
Act = Callable[[], object]


def guest(address: str, kind: str = "required") -> Json:
    """An attendee as Graph has them."""
    return {"type": kind, "emailAddress": {"address": address, "name": address.partition("@")[0].title()}}


def people(*addresses: str) -> list[Json]:
    """Attendees as the portal writes them."""
    return [{"name": "", "email": address} for address in addresses]


def shown(one: Json) -> list[str]:
    return [each["email"] for each in one["attendees"]]


def invited(event: Json) -> dict[str, str]:
    """How an event invites whom."""
    return {each["emailAddress"]["address"]: each["type"] for each in event["attendees"]}


class Anns:
    """A meeting of Ann's with Bo, who need not come; the portal may change it unless the flags say otherwise."""

    def __init__(self, office: Office, **event: Any) -> None:
        self.office = office
        self.ann, self.bo, self.cy = office.people
        office.link()
        guests = [room_attendee(office.rooms[0]), guest(self.bo, "optional")]
        self.event = office.meet(0, **{"attendees": guests, **event})
        office.sync()

    @property
    def copy(self) -> Json:
        """Her own copy."""
        return self.office.events(self.ann)[0]

    @property
    def one(self) -> Json:
        return self.office.reservations()[0]

    def invite(self, *addresses: str, **fields: Any) -> Json:
        return self.office.edit(self.one, attendees=people(*addresses), **fields)

    def send(self) -> Count:
        with self.office.counting() as count:
            self.office.send()
        return count

    def between(self, monkeypatch: pytest.MonkeyPatch, act: Act) -> Count:
        """Send while Ann does something after her copy was read."""
        real = GraphClient.write
        done: list[object] = []

        def write(self: GraphClient, *args: Any, **kwargs: Any) -> Json:
            if not done:
                done.append(act())
            return real(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(GraphClient, "write", write)
            return self.send()


@pytest.fixture
def anns(make_office: Make) -> Anns:
    return Anns(make_office("100"))


def break_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent makes no sense to Graph."""
    real = GraphClient.write

    def broken(self: GraphClient, method: Any, path: str, json: Any, **kwargs: Any) -> Json:
        return real(self, method, path, {**json, "showAs": "sideways"}, **kwargs)

    monkeypatch.setattr(GraphClient, "write", broken)


def made_on_user(office: Office, **fields: Any) -> Json:
    """A meeting that the portal has made in Ann's calendar."""
    owner = {"name": "Ann", "email": office.people[0]}
    one = office.book(owner=owner, attendees=people(office.people[1]), notes="Cake", **fields)
    office.sync()
    office.sync()
    return office.again(one)
