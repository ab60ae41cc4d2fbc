"""The contacts sync against the simulated directory: whose contacts are held, in which groups, and what it costs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync import contacts
from sync.contacts import Tree, fold, source
from sync.mirror import RETENTION, Unreadable
from sync.plan import Present
from tests.cloud import Cloud, TestTenant
from tests.house import House
from tests.truth import tally, told

NewTenant = Callable[..., TestTenant]
ROLES = ["User.Read.All", "GroupMember.Read.All"]
NAME = "primary"
FIELDS = ("displayName", "givenName", "surname", "mobilePhone", "mail")
UNGUARDED: dict[str, Any] = {"deletionGuard": {"maxCount": 1000, "maxPercent": 100}}


@dataclass
class Club:
    """A tenant with a top group, and what its admin does there."""

    tenant: TestTenant
    top: str

    def user(self, name: str, **fields: Any) -> str:
        body = {"userPrincipalName": f"{uuid4().hex}@{self.tenant.domain}", "displayName": name, **fields}
        return str(self.tenant.control.post("users", body)["id"])

    def group(self, name: str, members: Iterable[str] = (), **fields: Any) -> str:
        return str(self.tenant.control.post("groups", {"displayName": name, "members": [*members], **fields})["id"])

    def add(self, group: str, *members: str) -> None:
        self.tenant.control.post(f"groups/{group}/members", {"ids": [*members]})

    def take_out(self, group: str, member: str) -> None:
        self.tenant.control.delete(f"groups/{group}/members/{member}")

    def requests(self) -> int:
        return int(self.tenant.control.post("counters")["graph"]["requests"])


@pytest.fixture
def club(new_tenant: NewTenant) -> Club:
    """A tenant with nobody in it but an empty top group."""
    tenant = new_tenant(users=0, roles=ROLES)
    return Club(tenant, str(tenant.control.post("groups", {"displayName": "Shared contacts"})["id"]))


def connect(house: House, club: Club, name: str = NAME, **more: Any) -> str:
    return house.connect(club.tenant, name, contacts={"groupId": club.top, **more})


def listed(house: House, name: str = NAME, what: str = "contacts", **query: str) -> dict[str, dict[str, Any]]:
    """Everything that a list shows, by id."""
    found: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        asked = "&".join(f"{key}={value}" for key, value in {**query, "top": "1000"}.items()) + cursor
        answer = house.get(f"connections/{name}/{what}?{asked}")
        found |= {item["id"]: item for item in answer["items"]}
        if answer["next"] is None:
            return found
        cursor = f"&cursor={answer['next']}"


def groups_of(house: House, name: str = NAME) -> dict[str, set[str]]:
    """The names of the groups of every active contact."""
    shown = listed(house, name, azureState="active")
    return {key: {group["displayName"] for group in one["groups"]} for key, one in shown.items()}


def log(house: House, run: dict[str, Any], name: str = NAME) -> set[tuple[str, str, str]]:
    """The lines of a run's log: outcome, reason and id. Each has a remedy."""
    lines = house.get(f"connections/{name}/runs/{run['id']}/log?top=1000")["items"]
    assert all(line["remedy"] for line in lines)
    return {(line["outcome"], line["reason"], line["id"]) for line in lines}


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

    for requests in (5, 5):
        run = house.run(NAME, "contacts")
        assert run["counts"]["failed"] == 1
        assert (run["status"], log(house, run)) == ("partial", {("failed", "name-taken", taken)})
        assert run["graph"]["requests"] <= requests
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jane Doe", "JANE DOE"),
        ("Jane Doe", "  Jane \t Doe "),
        ("Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}", "Zoe\N{COMBINING DIAERESIS}"),
        ("\N{LATIN CAPITAL LETTER E WITH ACUTE}mile", "emile"),
        ("Stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE"),
        ("Jane\N{NO-BREAK SPACE}Doe", "jane doe"),
    ],
)
def test_fold(one: str, other: str) -> None:
    """Case, accents and superfluous spaces do not make another name; letters do."""
    assert fold(one) == fold(other)
    assert fold(one) != fold(other + "x")


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

    assert (run["status"], run["error"]["code"]) == ("failed", "empty-listing")
    assert listed(house)[ann]["azureState"] == "active"


def test_a_group_that_never_had_members(house: House, club: Club) -> None:
    """A first sync of an empty group is no fault: there is nothing, and there was nothing."""
    connect(house, club)

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run), listed(house)) == ("succeeded", {}, {})


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


def test_a_hidden_member_group(house: House, club: Club, build_house: Callable[..., House]) -> None:
    """Nobody is deleted while one member group hides its people; with the permission all goes on as usual."""
    ann, bob, cyd = club.user("Ann"), club.user("Bob"), club.user("Cyd")
    sales = club.group("Sales", [ann])
    club.add(club.top, sales, bob, cyd)
    connect(house, club, **UNGUARDED)
    house.run(NAME, "contacts")
    club.tenant.control.patch(f"groups/{sales}", {"visibility": "HiddenMembership"})
    club.take_out(club.top, cyd)

    run = house.run(NAME, "contacts")

    assert ("unchanged", "hidden-membership", sales) in log(house, run)
    assert {one["azureState"] for one in listed(house).values()} == {"active"}
    club.tenant.control.patch(f"apps/{club.tenant.client_id}", {"roles": [*ROLES, "Member.Read.Hidden"]})

    later = build_house()  # another process, which has no token from before
    run = later.run(NAME, "contacts", mode="full")

    assert (tally(run), log(later, run)) == ({"unchanged": 2, "deleted": 1}, {("deleted", "left", cyd)})
    assert groups_of(later) == {ann: {"Sales"}, bob: set()}


def test_no_right_to_read_the_group(house: House, new_tenant: NewTenant) -> None:
    """Without the permission for groups the run fails with a finding that names it."""
    tenant = new_tenant(users=0, roles=["User.Read.All"])
    top = tenant.control.post("groups", {"displayName": "Shared contacts"})["id"]
    house.connect(tenant, NAME, contacts={"groupId": top})

    run = house.run(NAME, "contacts")

    assert (run["status"], run["error"]["code"]) == ("failed", "contacts-forbidden")
    assert "GroupMember.Read.All" in run["error"]["remedy"]


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


# --- many -----------------------------------------------------------------------------------------------------------


def crowd(cloud: Cloud, groups: int, each: int) -> Club:
    """A top group of so many groups with so many members each."""
    users = [
        {"id": str(uuid4()), "userPrincipalName": f"user{number}@crowd.com", "displayName": f"User {number}"}
        for number in range(groups * each)
    ]
    made = [
        {
            "id": str(uuid4()),
            "displayName": f"Group {number}",
            "members": [user["id"] for user in users[number * each : (number + 1) * each]],
        }
        for number in range(groups)
    ]
    top = {"id": str(uuid4()), "displayName": "Top", "members": [group["id"] for group in made]}
    app = {"appId": str(uuid4()), "displayName": "Sync", "roles": ROLES, "secrets": [{"value": uuid4().hex}]}
    number = uuid4().hex[:8]
    data = {
        "displayName": "Crowd",
        "domain": f"crowd{number}.onmicrosoft.com",
        "apps": [app],
        "users": users,
        "groups": [*made, top],
    }
    return Club(cloud.load(data), str(top["id"]))


def test_what_50_groups_cost(house: House, cloud: Cloud) -> None:
    """50 groups and 5,000 members cost at most 52 requests; nothing changed costs 3: one for the people, one for each
    50 groups; one change costs no more than all."""
    club = crowd(cloud, 50, 100)
    connect(house, club)
    club.requests()

    run = house.run(NAME, "contacts")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 5000})
    assert club.requests() == run["graph"]["requests"] <= 52
    _, cursor = house.changes(NAME)
    assert tally(house.run(NAME, "contacts")) == {}
    assert club.requests() == 3
    assert house.changes(NAME, cursor) == ([], cursor)
    somebody = next(iter(listed(house)))
    club.tenant.control.patch(f"users/{somebody}", {"mobilePhone": "5"})
    assert tally(house.run(NAME, "contacts")) == {"updated": 1, "unchanged": 4999}
    assert club.requests() <= 52 + 3
    club.tenant.control.delete("")


def test_members_over_many_pages(house: House, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page of every group is read, and only a complete reading deletes."""
    monkeypatch.setattr(contacts, "PAGE", 7)
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
    monkeypatch.setattr(contacts, "PAGE", 15)
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


# --- any graph, any order -------------------------------------------------------------------------------------------

MEMBERS = st.sampled_from(
    [
        {"@odata.type": f"#microsoft.graph.{kind}", "id": f"{kind}{number}", "displayName": f"{kind} {number}"}
        for kind in ("user", "group", "device", "orgContact", "servicePrincipal")
        for number in range(3)
    ]
    + [{"@odata.type": "#microsoft.graph.user"}]
)
GROUPS = st.sampled_from(["group0", "group1", "group2"])


@given(st.lists(st.tuples(MEMBERS, st.none() | GROUPS), max_size=30), st.randoms(use_true_random=False))
def test_the_tree_does_not_depend_on_the_order(places: list[tuple[dict[str, str], str | None]], rng: Any) -> None:
    """Whatever the order: a person's groups are exactly those that name them, and every other member is left out once
    for each place that it stands in."""

    def built(order: list[tuple[dict[str, str], str | None]]) -> Tree:
        tree = Tree()
        for member, group in order:
            tree.add(member, group)
        return tree

    shuffled = rng.sample(places, len(places))
    tree, other = built(places), built(shuffled)
    users = [(member["id"], group) for member, group in places if "user" in member.get("id", "")]
    top_groups = {member["id"] for member, group in places if member.get("id", "").startswith("group") and not group}

    assert (tree.people, tree.groups, sorted(tree.skipped)) == (other.people, other.groups, sorted(other.skipped))
    assert {key: person["groups"] for key, person in tree.people.items()} == {
        key: {group for one, group in users if one == key and group} for key, _ in users
    }
    assert {key for key, person in tree.people.items() if person["direct"]} == {
        key for key, group in users if not group
    }
    assert set(tree.groups) == top_groups
    in_top = sum(member.get("id", "").startswith("group") and not group for member, group in places)
    assert len(tree.skipped) + len(users) + in_top == len(places)


def test_source() -> None:
    """A person whose name cannot be read or is no text fails; a taken name fails however it is written."""

    def person(**fields: Any) -> dict[str, Any]:
        return {"fields": fields, "direct": True, "groups": {"b", "a"}}

    assert source(person(displayName=None), frozenset()) == Unreadable("no-right-to-read")
    assert source(person(displayName="Ann", mail=5), frozenset()) == Unreadable("unreadable-field")
    assert source(person(displayName=" ANN"), frozenset({"ann"})) == Unreadable("name-taken")
    taken = source(person(displayName="Ann", mobilePhone="1", jobTitle="x"), frozenset({"anna"}))
    assert taken == Present(
        {"displayName": "Ann", "givenName": None, "surname": None, "mail": None, "mobilePhone": "1", "direct": True}
        | {"groups": ["a", "b"]}
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.integers(0, 3), st.integers(0, 6)),
        st.tuples(st.just("displace"), st.integers(0, 3), st.integers(0, 6)),
        st.tuples(st.just("phone"), st.integers(0, 3), st.sampled_from([None, "1", "2"])),
        st.tuples(st.just("rename"), st.integers(0, 2), st.sampled_from(["x", "y"])),
        st.tuples(st.just("delete"), st.integers(0, 3)),
        st.tuples(st.just("restore"), st.integers(0, 3)),
        st.just(("sync",)),
    ),
    max_size=12,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(STEPS)
def test_any_order_of_changes_ends_as_a_fresh_sync(house: House, cloud: Cloud, steps: list[tuple[Any, ...]]) -> None:
    """After any changes, with syncs in between, the portal holds what a first sync of a new connection gives."""
    club = crowd(cloud, 3, 1)
    users = [one["id"] for one in club.tenant.control.get("users")]
    users.append(club.user("Stays for ever"))
    groups = [one["id"] for one in club.tenant.control.get("groups") if one["id"] != club.top]
    club.add(club.top, users[-1])
    places = [club.top, *groups]
    old, new = f"a{uuid4().hex}", f"b{uuid4().hex}"
    connect(house, club, old, **UNGUARDED)

    for step in [*steps, ("sync",)]:
        act(house, club, old, users, [*groups, *users[:3]], places, step)
    connect(house, club, new, **UNGUARDED)
    assert house.run(new, "contacts")["status"] == "succeeded"

    assert listed(house, old, azureState="active") == listed(house, new)
    assert listed(house, old, "contact-groups", azureState="active") == listed(house, new, "contact-groups")
    club.tenant.control.delete("")


def act(
    house: House,
    club: Club,
    name: str,
    users: list[str],
    members: list[str],
    places: list[str],
    step: tuple[Any, ...],
) -> None:
    """One step of the admin, or a sync; what cannot be done now is left undone."""
    live = {one["id"] for one in club.tenant.control.get("users", state="live")}
    match step:
        case ("place", int(place), int(member)):
            if members[member % len(members)] != places[place]:
                club.add(places[place], members[member % len(members)])
        case ("displace", int(place), int(member)):
            if members[member % len(members)] in club.tenant.control.get(f"groups/{places[place]}")["members"]:
                club.take_out(places[place], members[member % len(members)])
        case ("phone", int(user), phone) if users[user] in live:
            club.tenant.control.patch(f"users/{users[user]}", {"mobilePhone": phone})
        case ("rename", int(group), str(text)):
            club.tenant.control.patch(f"groups/{places[1 + group]}", {"displayName": text})
        case ("delete", int(user)) if user < 3 and users[user] in live:
            club.tenant.control.delete(f"users/{users[user]}")
        case ("restore", int(user)) if users[user] not in live:
            club.tenant.control.post(f"users/{users[user]}/restore")
        case ("sync",):
            assert house.run(name, "contacts")["status"] == "succeeded"
