"""Which roles each sync needs, by table; what holds for any roles and syncs, by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.permissions import SYNCS, judge

# Every role that any sync accepts, and some that none does.
ROLES = [
    "Application.Read.All",
    "Application.ReadWrite.All",
    "AuditLog.Read.All",
    "Calendars.Read",
    "Calendars.ReadWrite",
    "DelegatedAdminRelationship.Read.All",
    "DelegatedAdminRelationship.ReadWrite.All",
    "Device.Read.All",
    "Device.ReadWrite.All",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
    "Group.Read.All",
    "Group.ReadWrite.All",
    "GroupMember.Read.All",
    "GroupMember.ReadWrite.All",
    "Mail.ReadWrite",
    "Member.Read.Hidden",
    "Organization.Read.All",
    "Organization.ReadWrite.All",
    "Place.Read.All",
    "Place.ReadWrite.All",
    "ProfilePhoto.Read.All",
    "ProfilePhoto.ReadWrite.All",
    "ReportSettings.Read.All",
    "ReportSettings.ReadWrite.All",
    "Reports.Read.All",
    "User.Read.All",
    "User.ReadBasic.All",
    "User.ReadWrite.All",
]
GRANTED = st.frozensets(st.sampled_from(ROLES))
ENABLED = st.sets(st.sampled_from(SYNCS))


@pytest.mark.parametrize(
    ("sync", "expected"),
    [
        ("photos", ["User.Read.All"]),
        ("users", ["User.Read.All"]),
        ("devices", ["Device.Read.All"]),
        ("contacts", ["GroupMember.Read.All", "User.Read.All"]),
        ("calendars", ["Calendars.ReadWrite", "Place.Read.All"]),
        (
            "partners",
            [
                "DelegatedAdminRelationship.Read.All",
                "User.Read.All",
                "Organization.Read.All",
                "Reports.Read.All",
                "ReportSettings.Read.All",
                "AuditLog.Read.All",
            ],
        ),
    ],
)
def test_a_token_without_roles_lacks_the_least_each_sync_needs(sync, expected):
    verdict = judge(frozenset(), [sync])

    assert {sync: expected} == verdict.missing


@pytest.mark.parametrize(
    ("sync", "granted"),
    [
        ("photos", {"User.Read.All"}),
        ("photos", {"User.ReadWrite.All"}),
        ("photos", {"Directory.Read.All", "ProfilePhoto.Read.All"}),
        ("photos", {"Directory.ReadWrite.All", "ProfilePhoto.ReadWrite.All"}),
        ("users", {"User.Read.All"}),
        ("users", {"User.ReadWrite.All"}),
        ("users", {"Directory.Read.All"}),
        ("users", {"Directory.ReadWrite.All"}),
        ("devices", {"Device.Read.All"}),
        ("devices", {"Device.ReadWrite.All"}),
        ("devices", {"Directory.Read.All"}),
        ("devices", {"Directory.ReadWrite.All"}),
        ("contacts", {"GroupMember.Read.All", "User.Read.All"}),
        ("contacts", {"GroupMember.ReadWrite.All", "User.ReadWrite.All"}),
        ("contacts", {"Group.Read.All", "User.Read.All"}),
        ("contacts", {"Group.ReadWrite.All", "User.Read.All"}),
        ("contacts", {"Directory.Read.All"}),
        ("contacts", {"Directory.ReadWrite.All"}),
        ("calendars", {"Calendars.ReadWrite", "Place.Read.All"}),
        ("calendars", {"Calendars.ReadWrite", "Place.ReadWrite.All"}),
        ("partners", {"Directory.Read.All", "Reports.Read.All", "ReportSettings.Read.All", "AuditLog.Read.All"}),
        (
            "partners",
            {
                "DelegatedAdminRelationship.ReadWrite.All",
                "User.ReadWrite.All",
                "Organization.ReadWrite.All",
                "Reports.Read.All",
                "ReportSettings.ReadWrite.All",
                "AuditLog.Read.All",
            },
        ),
    ],
)
def test_any_sufficient_role_will_do(sync, granted):
    verdict = judge(frozenset(granted), [sync])

    assert (verdict.missing, verdict.unneeded) == ({}, [])


@pytest.mark.parametrize(
    ("sync", "granted", "missing"),
    [
        ("photos", {"ProfilePhoto.Read.All"}, ["User.Read.All"]),
        ("photos", {"Directory.Read.All"}, ["ProfilePhoto.Read.All"]),
        ("users", {"User.ReadBasic.All"}, ["User.Read.All"]),
        ("devices", {"User.Read.All"}, ["Device.Read.All"]),
        ("contacts", {"GroupMember.Read.All"}, ["User.Read.All"]),
        ("contacts", {"User.Read.All"}, ["GroupMember.Read.All"]),
        ("calendars", {"Calendars.Read"}, ["Calendars.ReadWrite", "Place.Read.All"]),
        ("calendars", {"Calendars.ReadWrite"}, ["Place.Read.All"]),
        ("partners", {"Directory.Read.All"}, ["Reports.Read.All", "ReportSettings.Read.All", "AuditLog.Read.All"]),
    ],
)
def test_what_does_not_suffice(sync, granted, missing):
    verdict = judge(frozenset(granted), [sync])

    assert {sync: missing} == verdict.missing


@pytest.mark.parametrize(
    ("granted", "enabled", "unneeded"),
    [
        pytest.param({"User.ReadWrite.All"}, ["users"], [], id="more than needed, but all there is"),
        pytest.param(
            {"User.Read.All", "User.ReadWrite.All"}, ["users"], ["User.ReadWrite.All"], id="writing beside reading"
        ),
        pytest.param(
            {"Directory.Read.All", "User.ReadWrite.All"}, ["users"], ["User.ReadWrite.All"], id="reading more first"
        ),
        pytest.param({"Mail.ReadWrite"}, ["users"], ["Mail.ReadWrite"], id="nothing to do with it"),
        pytest.param({"Device.Read.All"}, ["users"], ["Device.Read.All"], id="for a sync that is not enabled"),
        pytest.param({"Device.Read.All", "Mail.ReadWrite"}, [], ["Mail.ReadWrite"], id="none enabled: against all"),
        pytest.param({"ProfilePhoto.Read.All"}, ["photos"], [], id="its part of what is needed"),
        pytest.param({"Application.Read.All", "Organization.Read.All"}, ["users"], [], id="the check makes use of it"),
        pytest.param(
            {"Application.ReadWrite.All"}, ["users"], ["Application.ReadWrite.All"], id="the check never writes"
        ),
        pytest.param({"Member.Read.Hidden"}, ["contacts"], [], id="hidden members"),
        pytest.param({"Member.Read.Hidden"}, ["users"], ["Member.Read.Hidden"], id="no members to read"),
        pytest.param(
            {
                "DelegatedAdminRelationship.Read.All",
                "Directory.Read.All",
                "Organization.Read.All",
                "User.Read.All",
            },
            ["partners"],
            [],
            id="contracts, where the customers cannot be listed",
        ),
        pytest.param(
            {"Directory.Read.All", "Directory.ReadWrite.All", "Reports.Read.All", "User.Read.All"},
            ["photos", "devices"],
            ["Directory.ReadWrite.All", "Reports.Read.All"],
            id="the least for each of two syncs",
        ),
    ],
)
def test_what_can_be_removed(granted, enabled, unneeded):
    assert unneeded == judge(frozenset(granted), enabled).unneeded


def test_each_sync_is_judged_on_its_own():
    verdict = judge(frozenset({"User.Read.All"}), ["devices", "contacts", "users", "photos"])

    assert verdict.missing == {"devices": ["Device.Read.All"], "contacts": ["GroupMember.Read.All"]}
    assert verdict.granted == ["User.Read.All"]


def test_a_sync_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="not in tuple"):
        judge(frozenset(), ["users", "mail"])


@given(GRANTED, ENABLED)
def test_granting_what_is_missing_is_enough_and_no_more(granted, enabled):
    for sync, missing in judge(granted, enabled).missing.items():
        assert sync not in judge(granted.union(missing), enabled).missing
        for role in missing:
            assert sync in judge(granted.union(missing) - {role}, enabled).missing


@given(GRANTED, ENABLED)
def test_removing_what_is_unneeded_takes_nothing_away(granted, enabled):
    verdict = judge(granted, enabled)
    leaner = judge(granted.difference(verdict.unneeded), enabled)

    assert verdict.missing == leaner.missing
    assert leaner.unneeded == []


@given(GRANTED, GRANTED, ENABLED)
def test_more_roles_never_leave_more_missing(granted, more, enabled):
    before = judge(granted, enabled).missing

    for sync, missing in judge(granted | more, enabled).missing.items():
        assert len(missing) <= len(before[sync])


@given(GRANTED, st.permutations(SYNCS), st.integers(0, len(SYNCS)))
def test_the_verdict_does_not_depend_on_order(granted, syncs, count):
    verdict = judge(granted, syncs[:count])

    assert judge(granted, set(syncs[:count])) == verdict
    assert sorted(granted) == verdict.granted
    assert sorted(verdict.unneeded) == verdict.unneeded
    assert sorted(verdict.missing, key=SYNCS.index) == list(verdict.missing)
