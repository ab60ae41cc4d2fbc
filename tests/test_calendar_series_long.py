"""Series that do not fit into one transaction: there as a whole or not at all, whenever somebody dies."""

from datetime import timedelta
from typing import Any

import pytest

from sync.calendars import parts, rooms, store
from tests.house import House
from tests.rooms import BODY, NAME, OAK, SPRING, at, book, daily, listed, portal, problem

__all__ = ["portal"]


class TestLong:
    """Series that do not fit into one transaction."""

    def test_made_and_cancelled(self, portal: House) -> None:
        """A long series is there whole, and gone whole."""
        series = book(portal, recurrence=daily(250))
        assert len(listed(portal, "from=2027-01-01&to=2029-01-01")) == 250

        assert portal.call("DELETE", f"{OAK}/{series['id']}").status == 204

        assert listed(portal, "from=2027-01-01&to=2029-01-01") == []
        assert {one.link.state for one, _ in store.load_reservations(portal.app.tables.data, NAME, "oak")} == {"gone"}
        changes = [one["change"] for one in portal.changes(NAME)[0] if one["entity"] == "reservation"]
        assert (changes.count("created"), changes.count("deleted")) == (251, 251)
        book(portal)

    def test_large_rows(self, portal: House) -> None:
        """Occurrences with long texts and many people are written in as many transactions as they need."""
        people = [{"name": "😀" * 127, "email": f"a{n}@contoso.com"} for n in range(100)]

        book(portal, recurrence=daily(20), notes="é" * 20_000, attendees=people)

        found = listed(portal)
        assert len(found) == 20
        assert all(len(one["attendees"]) == 100 for one in found)

    def test_a_clash_leaves_nothing_behind(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the room is taken after the occurrences were written ahead, they are taken back."""
        write, other = parts.Batch.step, {**BODY, "start": at("2027-04-01T09:00"), "end": at("2027-04-01T10:00")}

        def overtaken(self: parts.Batch, *arguments: Any) -> Any:
            result = write(self, *arguments)
            monkeypatch.undo()
            assert portal.call("POST", OAK, other).status == 201
            return result

        monkeypatch.setattr(parts.Batch, "step", overtaken)

        assert problem(portal.call("POST", OAK, {**BODY, "recurrence": daily(150)})) == (409, "room-busy")
        assert len(store.load_reservations(portal.app.tables.data, NAME, "oak")) == 1

    def test_killed_on_the_way(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that died between its transactions shows nothing and keeps nobody out; repeated under its key it
        makes the series once.
        """
        data = portal.app.tables.data
        commit = data.commit

        def die(partition: str, writes: Any) -> list[str]:
            if any(write.key.startswith(store.WAITS) for write in writes):
                raise KeyboardInterrupt
            return commit(partition, writes)

        monkeypatch.setattr(data, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k")
        monkeypatch.undo()
        orphans = store.load_reservations(data, NAME, "oak")

        assert len(orphans) == 150
        assert listed(portal, "from=2027-03-01&to=2028-01-01&status=any") == []
        assert portal.call("GET", f"{OAK}/{orphans[0][0].id}").status == 404
        assert portal.call("DELETE", f"{OAK}/{orphans[0][0].id}").status == 404
        single = book(portal)
        assert portal.call("DELETE", f"{OAK}/{single['id']}").status == 204
        portal.clock.ahead += timedelta(minutes=2)
        again = portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k")
        assert again.status == 201
        assert {one["id"] for one in listed(portal, "from=2027-03-01&to=2028-01-01")} == {one.id for one, _ in orphans}
        assert portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k").json == again.json

    def test_killed_after_its_last_write(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that died when all was done is answered with what it made."""

        def die(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(rooms, "start_run", die)
        with pytest.raises(KeyboardInterrupt):
            portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k")
        monkeypatch.undo()
        (series,) = listed(portal, f"{SPRING}&type=series")
        portal.clock.ahead += timedelta(minutes=2)

        assert portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k").json == series

    def test_changed(self, portal: House) -> None:
        """A long series gets another title, another hour and another length; each time all of it does."""
        series = book(portal, recurrence=daily(150))
        path, year = f"{OAK}/{series['id']}", "from=2027-03-01&to=2028-03-01"

        portal.call("PATCH", path, {"title": "Review"})
        assert {one["title"] for one in listed(portal, year)} == {"Review"}
        portal.call("PATCH", path, {"start": at("2027-03-01T11:00"), "end": at("2027-03-01T11:30")})
        moved = listed(portal, year)
        assert [one["start"]["dateTime"][11:] for one in moved] == ["11:00:00"] * 150
        assert portal.call("PATCH", path, {"recurrence": daily(100)}).status == 200
        assert {one["id"] for one in listed(portal, year)} == {one["id"] for one in moved[:100]}
        book(portal)

    def test_a_change_that_died(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A change of hour that died before its series was written shows nothing of it; the next one does away with it."""
        series = book(portal, recurrence=daily(150))
        path, year = f"{OAK}/{series['id']}", "from=2027-03-01&to=2028-03-01"
        before = listed(portal, year)
        data = portal.app.tables.data
        commit = data.commit

        def die(partition: str, writes: Any) -> list[str]:
            if any(write.key.startswith(store.WAITS) for write in writes):
                raise KeyboardInterrupt
            return commit(partition, writes)

        monkeypatch.setattr(data, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            portal.call("PATCH", path, {"start": at("2027-03-01T11:00"), "end": at("2027-03-01T12:00")})
        monkeypatch.undo()

        assert len(store.load_reservations(data, NAME, "oak")) == 301
        assert listed(portal, year) == before
        assert (
            portal.call("POST", OAK, {**BODY, "start": at("2027-03-03T11:00"), "end": at("2027-03-03T12:00")}).status
            == 201
        )
        assert portal.call("PATCH", path, {"title": "Review"}).status == 200
        after = [one for one in listed(portal, year) if one["seriesId"]]
        assert [(one["id"], one["title"]) for one in after] == [(one["id"], "Review") for one in before]
        assert len(store.load_reservations(data, NAME, "oak")) == 152
