"""The contact tree: any membership graph, members in any order, any order of changes."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync.contacts.tree import LEFT_OUT, Person, Tree, findings, fold, source
from sync.mirror import Unreadable
from sync.plan import Present
from tests.cloud import Cloud
from tests.club import Club, connect, crowd, listed
from tests.house import UNGUARDED, House


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jane Doe", "JANE DOE"),
        ("Jane Doe", "  Jane \t Doe "),
        ("Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}", "Zoe\N{COMBINING DIAERESIS}"),
        ("\N{LATIN CAPITAL LETTER E WITH ACUTE}mile", "emile"),
        ("Stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE"),
        ("Jane\N{NO-BREAK SPACE}Doe", "jane doe"),
        ("Jane\N{ZERO WIDTH SPACE} D\N{SOFT HYPHEN}oe\0", "jane doe"),
    ],
)
def test_fold(one: str, other: str) -> None:
    """Case, accents and superfluous spaces do not make another name; letters do."""
    assert fold(one) == fold(other)
    assert fold(one) != fold(other + "x")


# --- any graph, any order -------------------------------------------------------------------------------------------

# --- members in any order -------------------------------------------------------------------------------------------

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
    for each place that it stands in, with a reason that has a remedy."""

    def built(order: list[tuple[dict[str, str], str | None]]) -> Tree:
        tree = Tree()
        for member, group in order:
            tree.add(member, group)
        return tree

    tree, other = built(places), built(rng.sample(places, len(places)))
    users = [(member["id"], group) for member, group in places if "user" in member.get("id", "")]
    top_groups = {member["id"] for member, group in places if member.get("id", "").startswith("group") and not group}

    assert (tree.people, tree.groups, sorted(tree.left_out)) == (other.people, other.groups, sorted(other.left_out))
    assert {key: person.groups for key, person in tree.people.items()} == {
        key: {group for one, group in users if one == key and group} for key, _ in users
    }
    assert {key for key, person in tree.people.items() if person.direct} == {key for key, group in users if not group}
    assert set(tree.groups) == top_groups
    in_top = sum(member.get("id", "").startswith("group") and not group for member, group in places)
    assert len(tree.left_out) + len(users) + in_top == len(places)
    assert {reason for _, reason in tree.left_out} <= set(LEFT_OUT)
    assert tree.empty == (not places)


def test_source() -> None:
    """A person whose name cannot be read or is no text fails; a taken name fails however it is written."""

    def person(**fields: Any) -> Person:
        return Person(fields, direct=True, groups={"b", "a"})

    assert source(person(displayName=None), frozenset()) == Unreadable("no-right-to-read")
    assert source(person(displayName="Ann", mail=5), frozenset()) == Unreadable("unreadable-field")
    assert source(person(displayName=" ANN"), frozenset({"ann"})) == Unreadable("name-taken")
    taken = source(person(displayName="Ann", mobilePhone="1", jobTitle="x"), frozenset({"anna"}))
    assert taken == Present(
        {"displayName": "Ann", "givenName": None, "surname": None, "mail": None, "mobilePhone": "1", "direct": True}
        | {"groups": ["a", "b"]}
    )


def test_half_characters() -> None:
    """Where a name was cut in the middle of a character, a mark stands in its place: storage takes no half ones."""
    tree = Tree()
    tree.add({"@odata.type": "#microsoft.graph.group", "id": "g", "displayName": "Team \ud83d"}, None)
    found = source(Person({"displayName": "Ann \ud83d", "mobilePhone": "\udc00"}, direct=True), frozenset())

    assert tree.groups == {"g": "Team \ufffd"}
    assert isinstance(found, Present)
    assert (found.fields["displayName"], found.fields["mobilePhone"]) == ("Ann \ufffd", "\ufffd")


@pytest.mark.parametrize(
    ("people", "own_mail", "told"),
    [
        ({}, [], [("", "group-empty")]),
        ({"a": Person({}, direct=True)}, [], []),
        ({"a": Person({}, direct=True, groups={"g"})}, [], [("a", "in-top-group-and-member-group")]),
        ({"a": Person({}, groups={"g"})}, [], []),
        ({"a": Person({}, groups={"g", "h"})}, [], [("a", "in-several-groups")]),
        (
            {"a": Person({}, direct=True, groups={"g", "h"})},
            [],
            [("a", "in-top-group-and-member-group"), ("a", "in-several-groups")],
        ),
        (
            {"a": Person({"mail": "x@y"}), "b": Person({"mail": "X@Y "})},
            [],
            [("a", "mail-shared"), ("b", "mail-shared")],
        ),
        ({"a": Person({"mail": "x@y"}), "b": Person({"mail": "z@y"})}, ["z@y"], [("b", "mail-shared")]),
        ({"a": Person({"mail": ""}), "b": Person({"mail": " "}), "c": Person({"mail": None})}, [""], []),
    ],
)
def test_findings(people: dict[str, Person], own_mail: list[str], told: list[tuple[str, str]]) -> None:
    """What the product page warns of is told, each with what to do about it, and nothing else."""
    lines = list(findings(Tree(people), frozenset(own_mail)))

    assert [(line.id, line.reason) for line in lines] == told
    assert all(line.remedy for line in lines)


# --- any graph, any order of changes ----------------------------------------------------------------------------------

PEOPLE = range(4)
# What may stand in a group: three member groups, people, the top group itself, a device and a contact of the organisation.
PLACES, THINGS = range(4), range(10)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.sampled_from(PLACES), st.sampled_from(THINGS)),
        st.tuples(st.just("displace"), st.sampled_from(PLACES), st.sampled_from(THINGS)),
        st.tuples(st.just("phone"), st.sampled_from(PEOPLE), st.sampled_from([None, "1", "2"])),
        st.tuples(st.just("rename"), st.integers(0, 2), st.sampled_from(["x", "y"])),
        st.tuples(st.just("delete"), st.sampled_from(PEOPLE)),
        st.tuples(st.just("restore"), st.sampled_from(PEOPLE)),
        st.tuples(st.just("hide"), st.integers(0, 2)),
        st.just(("sync",)),
        st.just(("full",)),
    ),
    max_size=12,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(STEPS)
@example([("place", 1, 4), ("place", 0, 0), ("delete", 1), ("sync",), ("restore", 1)])
@example([("place", 0, 0), ("place", 1, 3), ("place", 1, 7), ("sync",), ("displace", 0, 0), ("phone", 0, "2")])
def test_any_order_of_changes_ends_as_a_fresh_sync(house: House, cloud: Cloud, steps: list[tuple[Any, ...]]) -> None:
    """After any changes, with syncs in between, the portal holds what a first sync of a new connection gives."""
    club = crowd(cloud, 3, 1)
    users = [one["id"] for one in club.tenant.control.get("users")]
    users += [club.user("One more"), club.user("Stays for ever")]
    groups = [one["id"] for one in club.tenant.control.get("groups") if one["id"] != club.top]
    things = [club.tenant.control.post(kind, {"displayName": kind})["id"] for kind in ("devices", "orgContacts")]
    club.add(club.top, users[-1])
    old, new = f"a{uuid4().hex}", f"b{uuid4().hex}"
    connect(house, club, old, **UNGUARDED)
    admin = Admin(club, users, [club.top, *groups], [*groups, *users[:4], club.top, *things])

    for step in steps:
        if step[0] in ("sync", "full"):
            assert house.run(old, "contacts", mode="full" if step[0] == "full" else "delta")["status"] != "failed"
        else:
            admin.act(step)
    admin.show_all()
    assert house.run(old, "contacts")["status"] == "succeeded"
    connect(house, club, new, **UNGUARDED)
    assert house.run(new, "contacts")["status"] == "succeeded"

    assert listed(house, old, azureState="active") == listed(house, new)
    assert listed(house, old, "contact-groups", azureState="active") == listed(house, new, "contact-groups")
    club.tenant.control.delete("")


@dataclass
class Admin:
    """Whoever changes the tenant; what cannot be done now is left undone."""

    club: Club
    users: list[str]
    places: list[str]
    things: list[str]

    def act(self, step: tuple[Any, ...]) -> None:
        control = self.club.tenant.control
        live = {one["id"] for one in control.get("users", state="live")}
        match step:
            case ("place", int(place), int(thing)) if self.things[thing] != self.places[place]:
                self.club.add(self.places[place], self.things[thing])
            case ("displace", int(place), int(thing)):
                if self.things[thing] in control.get(f"groups/{self.places[place]}")["members"]:
                    self.club.take_out(self.places[place], self.things[thing])
            case ("phone", int(user), phone) if self.users[user] in live:
                control.patch(f"users/{self.users[user]}", {"mobilePhone": phone})
            case ("rename", int(group), str(text)):
                control.patch(f"groups/{self.places[1 + group]}", {"displayName": text})
            case ("delete", int(user)) if self.users[user] in live:
                control.delete(f"users/{self.users[user]}")
            case ("restore", int(user)) if self.users[user] not in live:
                control.post(f"users/{self.users[user]}/restore")
            case ("hide", int(group)):
                control.patch(f"groups/{self.places[1 + group]}", {"visibility": "HiddenMembership"})

    def show_all(self) -> None:
        """No group hides its people any more: until then nobody is deleted."""
        for group in self.places[1:]:
            self.club.tenant.control.patch(f"groups/{group}", {"visibility": None})
