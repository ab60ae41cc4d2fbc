"""The contacts sync against the simulated directory: whose contacts are held, in which groups, and what goes wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sync.contacts import fetch
from sync.errors import Forbidden
from sync.graph.client import GraphClient, Page
from sync.mirror import RETENTION
from tests.cloud import NewTenant
from tests.club import FIELDS, NAME, ROLES, Club, connect, groups_of, listed, log
from tests.house import UNGUARDED, House
from tests.truth import tally, told

# --- who is a contact -----------------------------------------------------------------------------------------------


def test_the_tree(house: House, club: Club) -> None:
    """Direct users stand alone, those of direct groups belong to them; everything else is left out with its reason."""
    alone = club.user("Tom Smith", mobilePhone="+1 1", businessPhones=["+1 999"], mail="tom@contoso.com", givenName="T")
    managers = [club.user("Richard Roe"), club.user("Jane Doe")]
    hidden_away = club.user("Nested Person")
    nested = club.group("Nested", [hidden_away])
    device = club.tenant.control.post("devices", {"displayName": "Phone"})["id"]
    other = club.tenant.control.post("orgContacts", {"displayName": "Supplier", "mail": "s@fabrikam.com"})["id"]
    management = club.group("Management", [*managers, nested, device])
    club.add(club.top, alone, management, other)
    connect(house, club)

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 3, "skipped": 3})
    assert groups_of(house) == {alone: set(), managers[0]: {"Management"}, managers[1]: {"Management"}}
    assert log(house, run) == {
        ("skipped", "nested-group", nested),
        ("skipped", "device", device),
        ("skipped", "organisation-contact", other),
    }
    shown = listed(house)[alone]
    assert {name: shown[name] for name in FIELDS} == {
        "displayName": "Tom Smith",
        "givenName": "T",
        "surname": None,
        "mobilePhone": "+1 1",
        "mail": "tom@contoso.com",
    }
    assert (shown["azureId"], shown["azureState"], "+1 999" in str(shown)) == (alone, "active", False)
    assert house.get(f"connections/{NAME}/contacts/{alone}") == shown
    assert [one["displayName"] for one in listed(house, what="contact-groups").values()] == ["Management"]
    stories = told(house.changes(NAME)[0])
    assert stories == {("contact", key): ["created"] for key in (alone, *managers)} | {
        ("contact-group", management): ["created"]
    }


def test_a_move_as_on_the_page(house: House, club: Club) -> None:
    """Who is added elsewhere stands in both places, with a finding, until somebody takes them out of the former one."""
    tom, richard = club.user("Tom Smith"), club.user("Richard Roe")
    management, hr = club.group("Management", [richard]), club.group("HR")
    club.add(club.top, tom, management, hr)
    connect(house, club)
    house.run(NAME, "contacts")
    club.add(hr, richard)
    club.add(management, tom)

    run = house.run(NAME, "contacts")

    assert groups_of(house) == {tom: {"Management"}, richard: {"Management", "HR"}}
    assert log(house, run) == {
        ("unchanged", "in-top-group-and-member-group", tom),
        ("unchanged", "in-several-groups", richard),
    }
    assert tally(run) == {"updated": 2}
    club.take_out(management, richard)
    club.take_out(club.top, tom)

    run = house.run(NAME, "contacts")

    assert (groups_of(house), log(house, run)) == ({tom: {"Management"}, richard: {"HR"}}, set())
    assert tally(run) == {"updated": 2}


def test_changes_of_a_person_and_of_a_group(house: House, club: Club) -> None:
    """A new number, an emptied number, a renamed group and a group that is taken out are each seen by the next run."""
    ann, bob, cyd = club.user("Ann", mobilePhone="1"), club.user("Bob", mobilePhone="2"), club.user("Cyd")
    sales, legal = club.group("Sales", [ann, bob]), club.group("Legal", [cyd])
    club.add(club.top, sales, legal, cyd)
    connect(house, club)
    house.run(NAME, "contacts")
    assert [house.run(NAME, "contacts")["graph"]["requests"] for _ in range(2)] == [2, 2]

    club.tenant.control.patch(f"users/{ann}", {"mobilePhone": "11"})
    assert tally(house.run(NAME, "contacts")) == {"updated": 1, "unchanged": 2}
    club.tenant.control.patch(f"users/{bob}", {"mobilePhone": None})
    assert tally(house.run(NAME, "contacts")) == {"updated": 1, "unchanged": 2}
    assert {key: one["mobilePhone"] for key, one in listed(house).items()} == {ann: "11", bob: None, cyd: None}
    club.tenant.control.patch(f"groups/{sales}", {"displayName": "Trade"})
    assert tally(house.run(NAME, "contacts")) == {"unchanged": 3}
    assert groups_of(house) == {ann: {"Trade"}, bob: {"Trade"}, cyd: {"Legal"}}
    club.take_out(club.top, legal)
    assert tally(house.run(NAME, "contacts")) == {"updated": 1, "unchanged": 2}
    assert groups_of(house) == {ann: {"Trade"}, bob: {"Trade"}, cyd: set()}
    shown = listed(house, what="contact-groups")
    assert {key: one["azureState"] for key, one in shown.items()} == {sales: "active", legal: "deleted"}
    assert set(listed(house, what="contact-groups", azureState="deleted")) == {legal}
    club.add(club.top, legal)
    house.run(NAME, "contacts")
    assert groups_of(house)[cyd] == {"Legal"}
    assert set(listed(house, what="contact-groups", azureState="active")) == {sales, legal}


def test_a_leaver_and_a_returner(house: House, club: Club) -> None:
    """Who left is kept as deleted, findable as such, and restored on return with what has changed since."""
    stays, leaves = club.user("Stays"), club.user("Leaves", mobilePhone="1")
    club.add(club.top, stays, leaves)
    connect(house, club)
    house.run(NAME, "contacts")
    club.take_out(club.top, leaves)

    run = house.run(NAME, "contacts")

    assert (tally(run), log(house, run)) == ({"deleted": 1, "unchanged": 1}, {("deleted", "left", leaves)})
    assert set(listed(house, azureState="deleted")) == {leaves}
    assert listed(house)[leaves]["mobilePhone"] == "1"
    club.tenant.control.patch(f"users/{leaves}", {"mobilePhone": "2"})
    assert tally(house.run(NAME, "contacts", mode="full")) == {"unchanged": 1}
    club.add(club.top, leaves)

    run = house.run(NAME, "contacts")

    assert tally(run) == {"restored": 1, "unchanged": 1}
    assert (listed(house, azureState="deleted"), listed(house)[leaves]["mobilePhone"]) == ({}, "2")
    assert told(house.changes(NAME)[0])["contact", leaves] == ["created", "deleted", "restored"]


def test_a_deleted_user_is_a_deleted_contact(house: House, club: Club) -> None:
    """A user who is deleted in the directory leaves the group by that, and comes back with a restore."""
    stays, leaves = club.user("Stays"), club.user("Leaves")
    club.add(club.top, club.group("Sales", [stays, leaves]))
    connect(house, club)
    house.run(NAME, "contacts")

    club.tenant.control.delete(f"users/{leaves}")
    assert tally(house.run(NAME, "contacts")) == {"deleted": 1, "unchanged": 1}
    club.tenant.control.post(f"users/{leaves}/restore")
    assert tally(house.run(NAME, "contacts")) == {"restored": 1, "unchanged": 1}
    assert groups_of(house) == {stays: {"Sales"}, leaves: {"Sales"}}


def test_tombstones_are_purged(house: House, club: Club) -> None:
    """After 30 days nothing is left of a contact and of a group that went away."""
    stays, leaves = club.user("Stays"), club.user("Leaves")
    sales = club.group("Sales", [leaves])
    club.add(club.top, stays, sales)
    connect(house, club)
    house.run(NAME, "contacts")
    club.take_out(club.top, sales)
    house.run(NAME, "contacts")
    assert (set(listed(house)), set(listed(house, what="contact-groups"))) == ({stays, leaves}, {sales})

    house.clock.ahead += RETENTION
    house.run(NAME, "contacts")

    assert (set(listed(house)), set(listed(house, what="contact-groups"))) == ({stays}, set())


# --- the portal's own names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["removing", "renaming"])
def test_a_name_that_the_portal_has(house: House, club: Club, by: str) -> None:
    """An import whose name is taken, however it is written, fails alone; it heals when the clash is gone."""
    taken, free = club.user("J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg  MEIER "), club.user("Anna")
    club.add(club.top, taken, free)
    connect(house, club)
    body = {"displayName": "jorg meier", "mobilePhone": "7"}
    own = house.call("POST", f"connections/{NAME}/contacts", body).json

    for _ in range(2):
        run = house.run(NAME, "contacts")
        assert run["counts"]["failed"] == 1
        assert (run["status"], log(house, run)) == ("partial", {("failed", "name-taken", taken)})
        assert set(listed(house)) == {free, own["id"]}
    assert house.get(f"connections/{NAME}/contacts/{own['id']}") == own
    if by == "removing":
        assert house.call("DELETE", f"connections/{NAME}/contacts/{own['id']}").status == 204
    else:
        club.tenant.control.patch(f"users/{taken}", {"displayName": "J. Meier"})

    run = house.run(NAME, "contacts")

    assert (run["status"], run["counts"]["created"]) == ("succeeded", 1)
    assert {taken, free} <= set(listed(house))
    assert house.run(NAME, "contacts")["graph"]["requests"] == 2


def test_a_name_that_the_portal_takes_later(house: House, club: Club) -> None:
    """A contact that is there already stays as it is while the portal's own has its name: it is not deleted."""
    ann = club.user("Ann")
    club.add(club.top, ann, club.user("Bob"))
    connect(house, club)
    house.run(NAME, "contacts")
    house.call("POST", f"connections/{NAME}/contacts", {"displayName": "ANN"})
    club.tenant.control.patch(f"users/{ann}", {"mobilePhone": "5"})

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("partial", {"failed": 1, "unchanged": 1})
    assert (listed(house)[ann]["azureState"], listed(house)[ann]["mobilePhone"]) == ("active", None)


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_no_such_group(house: House, club: Club) -> None:
    """A group that is not there, or is deleted, fails the run with its own finding; nothing is deleted."""
    ann = club.user("Ann")
    club.add(club.top, ann)
    connect(house, club)
    house.run(NAME, "contacts")
    club.tenant.control.delete(f"groups/{club.top}")

    for _ in range(2):
        run = house.run(NAME, "contacts")
        assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "group-not-found", {})
        assert listed(house)[ann]["azureState"] == "active"


def test_an_emptied_group(house: House, club: Club) -> None:
    """A top group without members where there were some fails the run; nothing is deleted, and a refill is taken in."""
    ann, bob = club.user("Ann"), club.user("Bob")
    club.add(club.top, ann, bob)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    club.take_out(club.top, ann)
    club.take_out(club.top, bob)

    for _ in range(2):
        run = house.run(NAME, "contacts")
        assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "group-empty", {})
        assert {one["azureState"] for one in listed(house).values()} == {"active"}
    club.add(club.top, ann)
    assert tally(house.run(NAME, "contacts")) == {"unchanged": 1, "deleted": 1}


def test_only_empty_groups_left(house: House, club: Club) -> None:
    """Member groups without a single person where there were some: nothing read is no success, nothing is deleted."""
    ann = club.user("Ann")
    sales = club.group("Sales", [ann])
    club.add(club.top, sales)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    club.take_out(sales, ann)

    run = house.run(NAME, "contacts")

    assert (run["status"], run["error"]["code"]) == ("failed", "group-empty")
    assert listed(house)[ann]["azureState"] == "active"


def test_a_group_that_never_had_members(house: House, club: Club) -> None:
    """A first sync of an empty group is no fault, but is told: there is nothing, and there was nothing."""
    connect(house, club)

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run), listed(house)) == ("succeeded", {}, {})
    assert log(house, run) == {("unchanged", "group-empty", "")}


def test_a_hidden_top_group(house: House, club: Club) -> None:
    """Members that a group begins to hide are not deleted; the finding names the permission, which heals it."""
    ann = club.user("Ann")
    club.add(club.top, ann)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    club.tenant.control.patch(f"groups/{club.top}", {"visibility": "HiddenMembership"})

    run = house.run(NAME, "contacts", mode="full")

    assert (run["status"], run["error"]["code"]) == ("failed", "group-hidden-membership")
    assert "Member.Read.Hidden" in run["error"]["remedy"]
    assert listed(house)[ann]["azureState"] == "active"


def test_a_top_group_that_was_hidden_from_the_start(house: House, club: Club) -> None:
    """Nothing read is no success: the finding names the permission although nothing was there before."""
    club.add(club.top, club.user("Ann"))
    club.tenant.control.patch(f"groups/{club.top}", {"visibility": "HiddenMembership"})
    connect(house, club)

    run = house.run(NAME, "contacts")

    assert (run["status"], run["error"]["code"]) == ("failed", "group-hidden-membership")


def test_a_hidden_member_group(house: House, club: Club, build_house: Callable[..., House]) -> None:
    """Nobody is deleted while one member group hides its people; with the permission all goes on as usual."""
    ann, bob, cyd = club.user("Ann"), club.user("Bob"), club.user("Cyd")
    sales = club.group("Sales", [ann])
    club.add(club.top, sales, bob, cyd)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    club.tenant.control.patch(f"groups/{sales}", {"visibility": "HiddenMembership"})
    club.take_out(club.top, cyd)

    for _ in range(2):
        run = house.run(NAME, "contacts")
        assert (run["status"], log(house, run)) == ("partial", {("failed", "hidden-membership", sales)})
        assert {one["azureState"] for one in listed(house).values()} == {"active"}
    club.tenant.control.patch(f"apps/{club.tenant.client_id}", {"roles": [*ROLES, "Member.Read.Hidden"]})

    later = build_house()  # another process, which has no token from before
    run = later.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 2, "deleted": 1})
    assert log(later, run) == {("deleted", "left", cyd)}
    assert groups_of(later) == {ann: {"Sales"}, bob: set()}


def test_people_stay_in_a_group_that_hides_them(house: House, club: Club) -> None:
    """Who is also in a group that can be read keeps the hidden one, and changes of their own are taken in."""
    ann = club.user("Ann")
    sales, legal = club.group("Sales", [ann]), club.group("Legal", [ann])
    club.add(club.top, sales, legal)
    connect(house, club)
    house.run(NAME, "contacts")
    club.tenant.control.patch(f"groups/{sales}", {"visibility": "HiddenMembership"})
    club.tenant.control.patch(f"users/{ann}", {"mobilePhone": "5"})

    run = house.run(NAME, "contacts")

    assert tally(run) == {"updated": 1, "failed": 1}
    assert (groups_of(house), listed(house)[ann]["mobilePhone"]) == ({ann: {"Sales", "Legal"}}, "5")


def test_a_group_that_goes_while_it_is_read(house: House, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member group that is removed between two requests is told of, deletes nobody, and is read again next time."""
    ann, bob = club.user("Ann"), club.user("Bob")
    sales = club.group("Sales", [ann])
    club.add(club.top, sales, bob)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    whole = fetch._fetch_members

    def removed(*args: Any) -> Any:
        club.tenant.control.delete(f"groups/{sales}")
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_fetch_members", removed)
        run = house.run(NAME, "contacts", mode="full")
    assert (run["status"], log(house, run)) == ("partial", {("failed", "group-gone", sales)})
    assert {one["azureState"] for one in listed(house).values()} == {"active"}

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 1, "deleted": 1})
    assert set(listed(house, azureState="deleted")) == {ann}


def test_no_right_to_read_the_group(house: House, new_tenant: NewTenant) -> None:
    """Without the permission for groups the run fails with a finding that names it."""
    tenant = new_tenant(users=0, roles=["User.Read.All"])
    top = tenant.control.post("groups", {"displayName": "Shared contacts"})["id"]
    house.connect(tenant, NAME, contacts={"groupId": top})

    run = house.run(NAME, "contacts")

    assert (run["status"], run["error"]["code"]) == ("failed", "contacts-forbidden")
    assert "GroupMember.Read.All" in run["error"]["remedy"]


def test_no_right_to_read_the_people(house: House, new_tenant: NewTenant) -> None:
    """Without the permission for users names would come empty: the run fails before it reads any."""
    tenant = new_tenant(users=3, guestShare=0, roles=["GroupMember.Read.All"])
    members = [user["id"] for user in tenant.control.get("users")]
    top = tenant.control.post("groups", {"displayName": "Shared contacts", "members": members})["id"]
    house.connect(tenant, NAME, contacts={"groupId": top})

    run = house.run(NAME, "contacts")

    assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "contacts-forbidden", {})


def test_hidden_members_that_look_like_none(house: House, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should Graph show a hidden group as an empty one instead of refusing it, that is not taken for the truth."""
    ann = club.user("Ann")
    sales = club.group("Sales", [ann])
    club.add(club.top, sales)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    club.tenant.control.patch(f"groups/{sales}", {"visibility": "HiddenMembership"})
    plain_batch, plain_page = GraphClient.batch, GraphClient.page

    def batch(graph: GraphClient, requests: Any) -> Any:
        answers = plain_batch(graph, requests)
        empty = {key: replace(one, status=200, body={"value": []}) for key, one in answers.items() if one.status == 403}
        return {**answers, **empty}

    def page(graph: GraphClient, link: str, **options: Any) -> Page:
        try:
            return plain_page(graph, link, **options)
        except Forbidden:
            return Page([], None, None)

    monkeypatch.setattr(GraphClient, "batch", batch)
    monkeypatch.setattr(GraphClient, "page", page)
    run = house.run(NAME, "contacts")
    assert (run["status"], log(house, run)) == ("partial", {("failed", "hidden-membership", sales)})
    club.tenant.control.patch(f"groups/{club.top}", {"visibility": "HiddenMembership"})
    run = house.run(NAME, "contacts")
    assert (run["status"], run["error"]["code"]) == ("failed", "group-hidden-membership")
    assert listed(house)[ann]["azureState"] == "active"


def test_a_top_group_that_goes_while_it_is_read(house: House, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removed between two requests it is as if it had been removed before."""
    club.add(club.top, club.user("Ann"))
    connect(house, club)
    whole = fetch._fetch_top_members

    def removed(*args: Any) -> Any:
        club.tenant.control.delete(f"groups/{club.top}")
        return whole(*args)

    monkeypatch.setattr(fetch, "_fetch_top_members", removed)

    run = house.run(NAME, "contacts")

    assert (run["status"], run["error"]["code"]) == ("failed", "group-not-found")


def test_too_many_at_once_wait(house: House, club: Club) -> None:
    """Contacts that would be deleted beyond the limits wait; once approved they are kept as deleted, the own ones as ever."""
    people = [club.user(f"User {number}", mobilePhone="1") for number in range(12)]
    sales = club.group("Sales", people[:6])
    club.add(club.top, sales, *people[6:])
    connect(house, club)
    own = house.call("POST", f"connections/{NAME}/contacts", {"displayName": "Mine"}).json
    house.run(NAME, "contacts")
    club.take_out(club.top, sales)
    club.tenant.control.patch(f"users/{people[7]}", {"mobilePhone": "2"})

    for updated in (1, 0):
        run = house.run(NAME, "contacts")
        assert (run["status"], run["counts"]["updated"], run["counts"]["skipped"]) == ("held", updated, 6)
    assert {one["azureState"] for one in listed(house).values()} == {"active", "none"}
    assert listed(house)[people[7]]["mobilePhone"] == "2"
    assert house.call("POST", f"connections/{NAME}/runs/{run['id']}/approve").status == 202
    house.work()

    assert set(listed(house, azureState="deleted")) == set(people[:6])
    assert set(listed(house, azureState="active")) == set(people[6:])
    assert listed(house)[own["id"]] == own
    assert house.run(NAME, "contacts")["status"] == "succeeded"


def test_another_group_id(house: House, club: Club) -> None:
    """Who is not in the group that is set now leaves, as anybody who left; who is in both stays."""
    ann, bob = club.user("Ann"), club.user("Bob")
    club.add(club.top, ann, bob)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    other = club.group("Other contacts", [bob])
    house.enable(NAME, "contacts", groupId=other, **UNGUARDED)

    assert tally(house.run(NAME, "contacts")) == {"deleted": 1, "unchanged": 1}
    assert set(listed(house, azureState="active")) == {bob}
