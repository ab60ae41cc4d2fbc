"""The calendars' cases, of delta rounds and full syncs: what is read, and what may be deleted. The names are those of
the reference, section 7.
"""

from dataclasses import replace
from typing import Any

import pytest

from storage.tables import Write
from sync import jobs
from sync.calendars import store
from sync.calendars.event import Remote, Unreadable, parse_event
from sync.graph.client import GraphClient
from sync.graph.protocol import Page
from tests.office import (
    DAY,
    DELTA,
    GET,
    HOUR,
    MINUTE,
    NAME,
    Json,
    Office,
    graph_time,
    make_office,
    office,
    span,
    weekly,
)

__all__ = ["make_office", "office"]


def meetings(office: Office, count: int) -> None:
    for number in range(count):
        office.outlook("POST", "oak", body={"subject": f"Event {number}", **span(office.noon + number * HOUR)})


def titles(office: Office, room: str = "oak") -> list[str]:
    return [one["title"] for one in office.reservations(room)]


def only_full(office: Office) -> Json:
    """A full sync, and nothing of what comes after it."""
    run = office.house.start(NAME, "calendars", mode="full")
    message = next(office.house.messages())
    jobs.work(office.house.app, message)
    done: Json = office.house.get(f"connections/{NAME}/runs/{run}")
    return done


def forget(office: Office) -> None:
    """Everything that is stored of the room's reservations is lost."""
    data = office.house.app.tables.data
    for row in list(data.scan(NAME, store.RESERVATION)):
        data.commit(NAME, [Write("delete", row["key"])])


# --- rounds ----------------------------------------------------------------------------------------------------------


def test_empty_first_page_with_next_link(office: Office) -> None:
    """Followed. Rows that are shuffled, repeated and replayed come to the same."""
    office.tenant.control.post("faults", {"untidyPaging": True, "seed": 3})
    meetings(office, 4)

    for _ in range(3):
        office.sync()

    assert titles(office) == [f"Event {number}" for number in range(4)]


def test_410(office: Office) -> None:
    """New round, no cancellations."""
    meetings(office, 2)
    office.sync()
    for number, style in enumerate(("gone", "syncStateNotFound", "syncStateInvalid", "resyncRequired"), start=1):
        office.tenant.control.post("faults", {"expiredDelta": style})
        office.tenant.control.post("expire", {"delta": True})
        office.outlook("POST", "oak", body={"subject": style, **span(office.noon + number * DAY)})

        with office.counting() as count:
            run = office.sync()

        assert (run["status"], count.by_template) == ("succeeded", {DELTA: 2})
        assert len(office.reservations()) == 2 + number
    assert "deleted" not in [change for _, change in office.changes()]


def test_a_link_that_leads_elsewhere(office: Office) -> None:
    """A stored link to another host is not followed: a new round begins."""
    meetings(office, 1)
    state = replace(office.state(), delta_link="https://elsewhere.example/delta")
    office.house.app.tables.data.commit(NAME, [Write("replace", store.state_key("oak"), store.state_row(state))])

    with office.counting() as count:
        office.sync()

    assert (titles(office), count.by_template) == (["Event 0"], {DELTA: 1})


def test_a_new_round_forgets_nothing(office: Office) -> None:
    """What went while the link had expired is found to be gone, each proved by a GET."""
    meetings(office, 3)
    office.sync()
    office.outlook("DELETE", "oak", office.events()[1]["id"])
    office.tenant.control.post("expire", {"delta": True})

    with office.counting() as count:
        office.sync()

    assert titles(office) == ["Event 0", "Event 2"]
    assert count.by_template == {DELTA: 2, GET: 1}


def test_notification_with_nothing_new(office: Office) -> None:
    """An empty delta after a notification is retried once after 60 s."""
    office.hear()
    with office.counting() as count:
        office.advance(MINUTE / 2)
        office.wake()
    assert count.requests == 0

    meetings(office, 1)
    office.advance(MINUTE / 2)
    with office.counting() as count:
        office.wake()
        office.advance(MINUTE)
        office.wake()

    assert (titles(office), count.by_template) == (["Event 0"], {DELTA: 1})


# --- the window ------------------------------------------------------------------------------------------------------


def test_day_passes(office: Office) -> None:
    """Event formerly at day 366 imported; yesterday's kept."""
    meetings(office, 1)
    far = office.today.replace(hour=0) + 366 * DAY + 2 * HOUR
    office.outlook("POST", "oak", body={"subject": "Far", **span(far)})
    office.outlook("POST", "oak", body={"subject": "Today", **span(office.today + HOUR)})
    office.sync()
    assert titles(office) == ["Today", "Event 0"]

    office.advance(DAY)
    with office.counting() as count:
        office.sync()

    assert titles(office) == ["Today", "Event 0", "Far"]
    assert count.by_template == {DELTA: 1}
    office.advance(5 * DAY)
    office.sync()
    assert [one["title"] for one in office.reservations(**{"from": office.today.date().isoformat()})] == [
        "Today",
        "Event 0",
        "Far",
    ]
    assert {change for _, change in office.changes()} == {"created"}


def test_horizon_moves_with_the_window(office: Office) -> None:
    """noEnd: only window instances; the next ones as days pass."""
    office.settings(window={"pastDays": 1, "futureDays": 20})
    office.link()
    office.outlook(
        "POST", "oak", body={"subject": "For ever", "recurrence": weekly(office.noon, None), **span(office.noon)}
    )
    ours = office.book(start=office.noon + 2 * HOUR, recurrence=weekly(office.noon, None))
    office.sync()
    assert len(office.reservations()) == 6

    office.advance(7 * DAY)
    office.sync()

    found = office.reservations(**{"from": office.today.date().isoformat()})
    assert len(found) == 8
    new = [one for one in found if one["start"] == graph_time(office.noon + 21 * DAY + 2 * HOUR)]
    assert [(one["origin"], one["seriesId"], one["syncState"]) for one in new] == [("portal", ours["id"], "synced")]
    assert "deleted" not in [change for _, change in office.changes()]


def test_a_series_beyond_the_window(office: Office) -> None:
    """The portal's is made at Graph, and its occurrences come with the window."""
    office.settings(window={"pastDays": 1, "futureDays": 20})
    office.link()
    start = office.noon + 30 * DAY
    one = office.book(start=start, recurrence=weekly(start, 2))
    office.sync()
    last = (office.noon + 20 * DAY).strftime("%Y-%m-%d")
    assert (office.again(one)["syncState"], office.reservations(to=last)) == ("synced", [])
    assert len(office.events()) == 2

    office.advance(14 * DAY)
    office.sync()

    [first] = office.reservations(to=(start + DAY).strftime("%Y-%m-%d"))
    assert (first["start"], first["seriesId"], first["origin"]) == (graph_time(start), one["id"], "portal")


# --- full sync -------------------------------------------------------------------------------------------------------


def test_second_click_at_9_min(office: Office) -> None:
    """429; at 10 min accepted."""
    office.sync(mode="full")
    office.advance(9 * MINUTE)
    refused = office.portal("POST", "syncs/calendars/runs", {"mode": "full"})
    assert (refused.status, refused.json["code"]) == (429, "full-sync-too-soon")
    assert 50 <= int(refused.headers["Retry-After"]) <= 60

    office.advance(MINUTE)
    meetings(office, 1)
    assert office.portal("POST", "syncs/calendars/runs", {"mode": "full"}).status == 202
    office.send()
    assert titles(office) == ["Event 0"]


def test_local_single_unlinked(office: Office) -> None:
    """Full sync; created."""
    office.book()

    office.house.run(NAME, "calendars", mode="full")

    assert len(office.events()) == 1
    assert office.only()["syncState"] == "synced"


def test_local_weekly_unlinked(office: Office) -> None:
    """Full sync; not created, skipped=1; ongoing sync creates it."""
    office.book(recurrence=weekly(office.noon, 3))
    done = only_full(office)
    assert (office.events(), done["counts"]["skipped"], done["status"]) == ([], 1, "succeeded")

    office.wake()
    assert len(office.events()) == 3
    assert {one["syncState"] for one in office.reservations()} == {"synced"}


def test_full_sync_leaves_local_series_alone(office: Office) -> None:
    """No Graph write of any kind for them; their absence in Graph is no deletion of the portal's, nor the other way."""
    one = office.book(recurrence=weekly(office.noon, 3))
    office.sync()
    office.edit(one, title="Ours", notes="Tea")

    with office.counting() as count:
        only_full(office)

    assert count.graph_writes == []
    assert {each["notes"] for each in office.reservations()} == {"Tea"}
    assert len(office.reservations()) == 3


def test_full_sync_twice_changes_nothing(office: Office) -> None:
    """A fixpoint: a further one makes zero writes on either side."""
    office.link("elm", 1)
    office.meet(0)
    office.meet(1, recurrence=weekly(office.noon + 3 * HOUR, 3), start=office.noon + 3 * HOUR)
    office.book(start=office.noon + 6 * HOUR)
    office.book(start=office.noon + 9 * HOUR, recurrence=weekly(office.noon, 3))
    office.sync()
    office.full()

    with office.counting() as count:
        run = office.full()

    assert (count.graph_writes, count.rows) == ([], set())
    assert run["counts"]["updated"] == run["counts"]["created"] == run["counts"]["deleted"] == 0
    assert len(office.reservations()) == 8


def test_imported_again(office: Office) -> None:
    """What Graph has and the portal has lost is imported again; nothing is deleted in Graph because of that."""
    meetings(office, 2)
    office.book(start=office.noon + 5 * HOUR)
    office.sync()
    forget(office)

    with office.counting() as count:
        office.full()

    assert len(office.reservations()) == 3
    assert (count.graph_writes, len(office.events())) == ([], 3)


# --- deletion safety -------------------------------------------------------------------------------------------------


def test_an_empty_round(office: Office) -> None:
    """While links exist it is discarded and repeated."""
    meetings(office, 3)
    office.sync()
    office.tenant.control.post("faults", {"emptyRounds": 1})

    with office.counting() as count:
        office.full()

    assert len(office.reservations()) == 3
    assert count.by_template == {DELTA: 2}


def test_removals_held(office: Office) -> None:
    """More than max(5, 30 %): held, Error `remote_empty`, until a second round ≥10 min later agrees."""
    meetings(office, 8)
    office.sync()
    for event in office.events()[:6]:
        office.outlook("DELETE", "oak", event["id"])

    office.sync()
    assert office.status() == ("error", "remote-empty")
    assert len(office.reservations()) == 8
    assert office.room()["remedy"]
    office.advance(9 * MINUTE)
    office.sync()
    assert len(office.reservations()) == 8

    office.advance(2 * MINUTE)
    office.sync()
    assert office.status() == ("active", "polling-only")
    assert titles(office) == ["Event 6", "Event 7"]


def test_a_second_round_that_is_worse(office: Office) -> None:
    """Even more is missing: that is no agreement, so it waits for another ten minutes."""
    meetings(office, 20)
    office.sync()
    for event in office.events()[:7]:
        office.outlook("DELETE", "oak", event["id"])
    office.sync()
    for event in office.events():
        office.outlook("DELETE", "oak", event["id"])

    office.advance(11 * MINUTE)
    office.sync()
    assert (office.status(), len(office.reservations())) == (("error", "remote-empty"), 20)

    office.advance(11 * MINUTE)
    office.sync()
    assert (office.status(), office.reservations()) == (("active", "polling-only"), [])


def test_what_has_taken_place_stays(office: Office) -> None:
    """Ended reservations are frozen: one that is deleted in Outlook afterwards did take place."""
    meeting = office.meet(0, start=office.today)
    series = office.meet(1, start=office.today - 6 * DAY + HOUR, recurrence=weekly(office.today - 6 * DAY + HOUR, 3))
    office.sync()
    office.advance(3 * DAY)
    known = {"from": (office.today - 10 * DAY).strftime("%Y-%m-%d"), "status": "any"}

    office.call_off(0, meeting)
    office.call_off(1, series)
    office.sync()

    found = {one["start"]["dateTime"]: one["status"] for one in office.reservations(**known)}
    over = {when: status for when, status in found.items() if when < graph_time(office.now())["dateTime"]}
    assert over
    assert set(over.values()) == {"confirmed"}
    assert {status for when, status in found.items() if when not in over} == {"cancelled"}


def test_pages_in_a_circle(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that lead back to where they came from end the round at once, and nothing is believed of it."""
    meetings(office, 2)
    office.sync()
    before = office.reservations()
    asked: list[str] = []

    def circling(_: GraphClient, link: str, **__: Any) -> Page:
        asked.append(link)
        return Page([], f"{office.rooms[0]}/{len(asked) % 2}", None)

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "page", circling)
        office.sync()

    assert len(asked) < 8
    assert office.reservations() == before


def test_removals_that_come_back(office: Office) -> None:
    """The second round does not agree: nothing was lost."""
    meetings(office, 8)
    office.sync()
    office.tenant.control.post("faults", {"emptyRounds": 2})
    before = office.reservations()
    office.full()
    assert office.reservations() == before

    office.advance(11 * MINUTE)
    office.sync()

    assert office.reservations() == before
    assert office.status() == ("active", "polling-only")


def test_few_removals(office: Office) -> None:
    """Up to five are believed at once, each proved by a GET."""
    meetings(office, 8)
    office.sync()
    for event in office.events()[:5]:
        office.outlook("DELETE", "oak", event["id"])

    with office.counting() as count:
        office.sync()

    assert titles(office) == ["Event 5", "Event 6", "Event 7"]
    assert count.by_template[GET] == 5


def test_a_series_is_one_thing_to_lose(office: Office) -> None:
    """However many occurrences it has."""
    office.outlook(
        "POST", "oak", body={"subject": "Weekly", "recurrence": weekly(office.noon, 20), **span(office.noon)}
    )
    meetings_later = {"subject": "Stays", **span(office.noon + 3 * HOUR)}
    office.outlook("POST", "oak", body=meetings_later)
    office.sync()
    assert len(office.reservations()) == 21

    office.outlook("DELETE", "oak", office.masters()[0]["id"])
    office.sync()

    assert titles(office) == ["Stays"]


def test_an_unreadable_event(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of and left alone: what is known of it is not deleted, and the others are taken in."""
    meetings(office, 2)
    office.sync()
    broken = office.events()[0]
    office.outlook("PATCH", "oak", broken["id"], {"subject": "Broken"})
    meetings_after = {"subject": "Event 2", **span(office.noon + 2 * HOUR)}
    office.outlook("POST", "oak", body=meetings_after)

    def unreadable(raw: Json, zone: str) -> Remote:
        if raw.get("id") == broken["id"]:
            raise Unreadable("unreadable-time")
        return parse_event(raw, zone)

    monkeypatch.setattr("sync.calendars.findings.parse_event", unreadable)
    run = office.full()

    assert (run["status"], run["counts"]["failed"]) == ("partial", 1)
    assert titles(office) == ["Event 0", "Event 1", "Event 2"]
    [line] = office.house.get(f"connections/{NAME}/runs/{run['id']}/log")["items"]
    assert (line["outcome"], line["reason"]) == ("failed", "unreadable-time")


def test_dry_run(office: Office) -> None:
    """What would be changed here and sent, and nothing of it done."""
    meetings(office, 1)
    one = office.book(start=office.noon + 3 * HOUR)
    list(office.house.messages())

    with office.counting() as count:
        run = office.house.run(NAME, "calendars", dryRun=True)

    plan = office.house.get(f"connections/{NAME}/runs/{run['id']}/plan")["items"]
    assert sorted((line["action"], line["reason"]) for line in plan) == [("create", "outlook"), ("send", "creating")]
    assert (count.graph_writes, count.rows) == ([], set())
    assert [each["id"] for each in office.reservations()] == [one["id"]]
