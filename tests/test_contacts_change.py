"""Contacts again and again, and many of them: what a run costs, how it notices a change, what dies and fails on the way."""

from collections import Counter
from typing import Any

import pytest

from storage.tables import Write
from sync import jobs, mirror
from sync.contacts import fetch
from sync.contacts.run import HINTS_LIVE, OWN
from sync.runs import LEASE, Claim, active_run
from tests.cloud import Cloud
from tests.club import NAME, Club, connect, crowd, groups_of, listed, log
from tests.held import Killed, die_again_and_again
from tests.house import UNGUARDED, House
from tests.truth import tally, told

# --- has anything changed -------------------------------------------------------------------------------------------


def test_what_others_do_costs_nothing(house: House, club: Club) -> None:
    """Changes of people and of groups that are not in the tree do not have it read again; new people do."""
    stranger, ann = club.user("Stranger"), club.user("Ann")
    others = club.group("Others", [stranger])
    club.add(club.top, ann)
    connect(house, club)
    house.run(NAME, "contacts")

    club.tenant.control.patch(f"users/{stranger}", {"displayName": "Still a stranger", "mobilePhone": "1"})
    club.tenant.control.patch(f"groups/{others}", {"displayName": "Still others"})
    club.add(others, club.top)
    run = house.run(NAME, "contacts")
    assert (run["status"], tally(run), run["graph"]["requests"]) == ("succeeded", {}, 2)
    club.user("Hired")
    assert house.run(NAME, "contacts")["graph"]["requests"] > 2


def test_somebody_restored_who_was_never_a_contact(house: House, club: Club) -> None:
    """A member who was deleted before the first sync keeps the membership and comes with it, which no group tells of."""
    ann, bob = club.user("Ann"), club.user("Bob")
    club.add(club.top, ann, bob)
    club.tenant.control.delete(f"users/{bob}")
    connect(house, club)
    house.run(NAME, "contacts")
    assert set(listed(house)) == {ann}

    club.tenant.control.post(f"users/{bob}/restore")
    house.run(NAME, "contacts")

    assert set(listed(house)) == {ann, bob}


@pytest.mark.parametrize("why", ["a day later", "expired", "too much", "no delta link"])
def test_hints_that_are_worth_nothing(house: House, club: Club, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Hints of the day before, that no longer work, or that lead through page after page, have the tree read again."""
    ann = club.user("Ann")
    club.add(club.top, ann)
    connect(house, club)
    house.run(NAME, "contacts")
    if why == "a day later":
        house.clock.ahead += HINTS_LIVE
    if why == "expired":
        club.tenant.control.post("expire", {"delta": True})
    if why == "too much":
        monkeypatch.setattr(fetch, "HINT_PAGES", 0)
    if why == "no delta link":
        club.tenant.control.post("faults", {"untidyPaging": True})

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 1})


def test_a_mail_address_that_two_have(house: House, club: Club) -> None:
    """Both are kept, neither is overwritten, and the log names them; the same with a contact of the portal's own."""
    ann, bob, cyd = (
        club.user(name, mail=mail) for name, mail in (("Ann", "a@x.com"), ("Bob", "A@x.com"), ("Cyd", "c@x.com"))
    )
    club.add(club.top, ann, bob, cyd)
    connect(house, club)
    own = house.call("POST", f"connections/{NAME}/contacts", {"displayName": "Mine", "mail": "C@X.COM"}).json

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 3})
    assert log(house, run) == {("unchanged", "mail-shared", one) for one in (ann, bob, cyd)}
    assert {key: one["mail"] for key, one in listed(house).items()} == {
        ann: "a@x.com",
        bob: "A@x.com",
        cyd: "c@x.com",
        own["id"]: "C@X.COM",
    }


# --- many -----------------------------------------------------------------------------------------------------------


def test_what_50_groups_cost(house: House, cloud: Cloud) -> None:
    """50 groups and 5,000 members cost 5 requests, where 52 are allowed; nothing changed costs 2, one for people and one
    for groups; one change costs no more than both."""
    club = crowd(cloud, 50, 100)
    connect(house, club)
    club.requests()

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 5000})
    assert club.requests() == run["graph"]["requests"] == 5
    assert run["graph"]["batched"] == 3 + 50
    _, cursor = house.changes(NAME)
    assert tally(house.run(NAME, "contacts")) == {}
    assert club.requests() == 2
    assert house.changes(NAME, cursor) == ([], cursor)
    somebody = next(iter(listed(house)))
    club.tenant.control.patch(f"users/{somebody}", {"mobilePhone": "5"})
    run = house.run(NAME, "contacts")
    assert tally(run) == {"updated": 1, "unchanged": 4999}
    assert club.requests() == 2 + 5
    assert run["storage"]["transactions"] < 40  # nothing is written of whom nothing is new
    club.tenant.control.delete("")


def test_members_over_many_pages(house: House, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page of every group is read, and only a complete reading deletes."""
    monkeypatch.setattr(fetch, "PAGE", 7)
    club = crowd(cloud, 3, 40)
    connect(house, club)

    assert tally(house.run(NAME, "contacts")) == {"created": 120}
    assert set(listed(house)) == {user["id"] for user in club.tenant.control.get("users")}
    assert tally(house.run(NAME, "contacts", mode="full")) == {"unchanged": 120}
    club.tenant.control.delete("")


@pytest.mark.parametrize(
    "faults",
    [
        {"rate429": 0.1, "rate503": 0.1, "rateReset": 0.1, "rateBatchItem": 0.2, "retryAfter": {"seconds": 0}},
        {"rate503": 0.3, "retriedPageLinksFail": True, "retryAfter": {"seconds": 0}},
        {"untidyPaging": True},
    ],
    ids=["faults", "page links", "untidy"],
)
def test_faults(house: House, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any]) -> None:
    """With faults injected everywhere the end is the same: nobody lost, nobody doubled, nobody deleted."""
    monkeypatch.setattr(fetch, "PAGE", 15)
    club = crowd(cloud, 4, 30)
    club.tenant.control.post("faults", {**faults, "seed": 5})
    connect(house, club)

    run = house.run(NAME, "contacts")

    assert (run["status"], run["counts"]["created"], run["counts"]["deleted"]) == ("succeeded", 120, 0)
    assert all(story == ["created"] for story in told(house.changes(NAME)[0]).values())
    somebody = next(iter(listed(house)))
    club.tenant.control.patch(f"users/{somebody}", {"mobilePhone": "5"})
    assert tally(house.run(NAME, "contacts")) == {"updated": 1, "unchanged": 119}
    club.tenant.control.delete("")


def test_everybody_is_there_already(house: House, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A portal that entered all 2,500 people by hand before: each is blocked with its own line, in a run that ends, more
    lines though they are than one transaction takes."""
    monkeypatch.setattr(mirror, "LINES", 300)
    monkeypatch.setattr(mirror, "MOST_LOGGED", 2)
    club = crowd(cloud, 1, 2500)
    connect(house, club)
    writes = [
        Write(
            "insert", f"{OWN}{number:04}", {"j_fields": {"displayName": f"User {number}"}, "folded": f"user {number}"}
        )
        for number in range(2500)
    ]
    for start in range(0, len(writes), 100):
        house.app.tables.data.commit(NAME, writes[start : start + 100])

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("partial", {"failed": 2500})
    names = {user["id"] for user in club.tenant.control.get("users")}
    lines, cursor = [], ""
    while cursor is not None:
        page = house.get(f"connections/{NAME}/runs/{run['id']}/log?top=1000{cursor and '&cursor=' + cursor}")
        lines += [line["id"] for line in page["items"]]
        cursor = page["next"]
    assert sorted(lines) == sorted(names)
    club.tenant.control.delete("")


def test_somebody_who_is_back_before_the_second_try(house: House, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was out of the group when a worker died, and is in it again for the next one, is not deleted by that."""
    monkeypatch.setattr(mirror, "WRITES", 2)
    people = [club.user(f"Person {number}") for number in range(4)]
    club.add(club.top, *people)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    club.take_out(club.top, people[0])
    run_id = house.start(NAME, "contacts", mode="full")
    plain, noted = Claim.commit, False

    def dying(claim: Claim, now: Any, writes: Any = (), **fields: Any) -> None:
        nonlocal noted
        if noted:
            raise Killed
        plain(claim, now, writes, **fields)
        noted = any(write.key.startswith("absent|contact|") for write in writes)

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "WRITES", 1)
        patch.setattr(Claim, "commit", dying)
        with pytest.raises(Killed):
            jobs.work(house.app, {"connection": NAME, "run": run_id})
    assert noted
    club.add(club.top, people[0])
    house.clock.ahead += LEASE * 2

    jobs.work(house.app, {"connection": NAME, "run": run_id})

    run = house.get(f"connections/{NAME}/runs/{run_id}")
    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 4})
    assert set(listed(house, azureState="active")) == set(people)


def test_a_long_reading_keeps_the_lease(house: House, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree that takes longer to read than a lease lasts is read by one worker all the same."""
    monkeypatch.setattr(fetch, "BATCH", 1)
    club.add(club.top, *(club.group(f"Group {number}", [club.user(f"User {number}")]) for number in range(4)))
    connect(house, club)
    plain = fetch._fetch_members

    def slowly(*args: Any) -> Any:
        for each in plain(*args):
            house.clock.ahead += LEASE * 0.6
            yield each

    monkeypatch.setattr(fetch, "_fetch_members", slowly)
    taken: list[bool] = []
    whole = fetch._behind

    def rival(*args: Any) -> Any:
        run = active_run(house.app.tables.data, NAME, "contacts")
        assert run is not None
        taken.append(run[0].held_by_other(house.clock()))
        return whole(*args)

    monkeypatch.setattr(fetch, "_behind", rival)

    run = house.run(NAME, "contacts")

    assert (run["status"], run["counts"]["created"]) == ("succeeded", 4)
    assert len(taken) == 5  # so the tree was read once
    assert all(taken)


def test_a_group_that_is_no_longer_named(house: House, club: Club) -> None:
    """A run that waits while the sync is turned off and its group forgotten ends with the reason."""
    club.add(club.top, club.user("Ann"))
    connect(house, club)
    run = house.start(NAME, "contacts")
    assert house.call("PUT", f"connections/{NAME}/syncs/contacts", {"enabled": False}).status == 200

    house.work()

    ended = house.get(f"connections/{NAME}/runs/{run}")
    assert (ended["status"], ended["error"]["code"]) == ("failed", "sync-disabled")


def test_a_page_link_that_expires(house: House, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is begun anew, and not for ever."""
    monkeypatch.setattr(fetch, "PAGE", 10)
    club = crowd(cloud, 2, 25)
    connect(house, club)
    whole, often = fetch._behind, 1

    def expiring(graph: Any, link: str | None) -> Any:
        nonlocal often
        if link and often:
            often -= 1
            club.tenant.control.post("expire", {"pages": "Directory_ExpiredPageToken"})
        return whole(graph, link)

    monkeypatch.setattr(fetch, "_behind", expiring)
    assert tally(house.run(NAME, "contacts")) == {"created": 50}
    often = 100

    run = house.run(NAME, "contacts", mode="full")

    assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "graph-cursor-expired", {})
    assert len(listed(house, azureState="active")) == 50
    club.tenant.control.delete("")


def test_a_worker_that_dies_while_it_stores_the_tree(house: House, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after any of its writes: the next worker ends in the same state, and counts and logs everybody once."""
    monkeypatch.setattr(mirror, "WRITES", 2)
    people = [club.user(f"Person {number}") for number in range(6)]
    blocked = club.user("Taken")
    device = club.tenant.control.post("devices", {"displayName": "Phone"})["id"]
    sales = club.group("Sales", [*people[:3], blocked])
    club.add(club.top, sales, *people[2:], device)
    connect(house, club, **UNGUARDED)
    house.call("POST", f"connections/{NAME}/contacts", {"displayName": "taken"})
    run_id = house.start(NAME, "contacts")

    assert die_again_and_again(house, run_id) > 2

    run = house.get(f"connections/{NAME}/runs/{run_id}")
    assert (run["status"], tally(run)) == ("partial", {"created": 6, "skipped": 1, "failed": 1})
    lines = house.get(f"connections/{NAME}/runs/{run_id}/log")["items"]
    assert Counter((line["reason"], line["id"]) for line in lines) == Counter(
        [("device", device), ("name-taken", blocked), ("in-top-group-and-member-group", people[2])]
    )
    assert set(map(tuple, told(house.changes(NAME)[0]).values())) == {("created",)}
    assert groups_of(house) == {key: {"Sales"} if key in people[:3] else set() for key in people}
    club.take_out(club.top, people[4])
    club.take_out(club.top, people[5])
    club.tenant.control.patch(f"users/{people[0]}", {"mobilePhone": "5"})
    _, seen = house.changes(NAME)
    run_id = house.start(NAME, "contacts")

    assert die_again_and_again(house, run_id) > 1

    run = house.get(f"connections/{NAME}/runs/{run_id}")
    assert tally(run) == {"updated": 1, "deleted": 2, "unchanged": 3, "skipped": 1, "failed": 1}
    stories = {key: story for (_, key), story in told(house.changes(NAME, seen)[0]).items()}
    assert stories == {people[0]: ["updated"], people[4]: ["deleted"], people[5]: ["deleted"]}
