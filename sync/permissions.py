"""Which Graph application permissions (roles) each sync needs, and what a token's roles fall short of or exceed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

SYNCS = ("photos", "users", "devices", "contacts", "calendars", "partners")

# One requirement: the roles that satisfy it, any one of them, the least privileged first. Reading more comes before
# writing. `*.ReadWrite.All` and `Directory.*` count wherever the Learn page lists them as "higher privileged".
Requirement = tuple[str, ...]

# Learn: "user: delta".
_LIST_USERS = ("User.Read.All", "Directory.Read.All", "User.ReadWrite.All", "Directory.ReadWrite.All")
# Learn: "Get profilePhoto" has the User roles, "Microsoft Graph permissions reference" the ProfilePhoto roles.
# Directory.Read.All is on neither, and ProfilePhoto.Read.All alone cannot list users.
_READ_PHOTOS = ("ProfilePhoto.Read.All", "User.Read.All", "ProfilePhoto.ReadWrite.All", "User.ReadWrite.All")
# Learn: "List devices" ("device: delta" names the first alone).
_LIST_DEVICES = ("Device.Read.All", "Directory.Read.All", "Device.ReadWrite.All", "Directory.ReadWrite.All")
# Learn: "List group members", "Get group".
_LIST_MEMBERS = (
    "GroupMember.Read.All",
    "Group.Read.All",
    "Directory.Read.All",
    "GroupMember.ReadWrite.All",
    "Group.ReadWrite.All",
    "Directory.ReadWrite.All",
)
# Learn: "Create event", "Update event".
_WRITE_EVENTS = ("Calendars.ReadWrite",)
# Learn: "List places"; Place.ReadWrite.All is on "Update place".
_LIST_ROOMS = ("Place.Read.All", "Place.ReadWrite.All")
# Learn: "List delegatedAdminCustomers"; "List contracts" for the Directory roles.
_LIST_CUSTOMERS = (
    "DelegatedAdminRelationship.Read.All",
    "Directory.Read.All",
    "DelegatedAdminRelationship.ReadWrite.All",
    "Directory.ReadWrite.All",
)
# Learn: "List subscribedSkus", "Get organization".
_READ_LICENCES = (
    "Organization.Read.All",
    "Directory.Read.All",
    "Organization.ReadWrite.All",
    "Directory.ReadWrite.All",
)
# Learn: "reportRoot: getMailboxUsageDetail".
_READ_REPORTS = ("Reports.Read.All",)
# Learn: "Get adminReportSettings".
_READ_REPORT_SETTINGS = ("ReportSettings.Read.All", "ReportSettings.ReadWrite.All")
# Learn: "List users", on signInActivity.
_READ_SIGN_INS = ("AuditLog.Read.All",)

_NEEDS: Mapping[str, tuple[Requirement, ...]] = {
    "photos": (_LIST_USERS, _READ_PHOTOS),
    "users": (_LIST_USERS,),
    "devices": (_LIST_DEVICES,),
    "contacts": (_LIST_MEMBERS, _LIST_USERS),
    "calendars": (_WRITE_EVENTS, _LIST_ROOMS),
    "partners": (
        _LIST_CUSTOMERS,
        _LIST_USERS,
        _READ_LICENCES,
        _READ_REPORTS,
        _READ_REPORT_SETTINGS,
        _READ_SIGN_INS,
    ),
}

# Roles that a sync can do without, but makes use of.
_USES: Mapping[str, frozenset[str]] = {
    # Learn: "List group members", on groups with hidden membership.
    "contacts": frozenset({"Member.Read.Hidden"}),
    # Learn: "List contracts", asked where a tenant refuses an app "List delegatedAdminCustomers".
    "partners": frozenset({"Directory.Read.All"}),
}

# Learn: "Get application" (when the credential expires) and "Get organization" (the tenant's name).
_CHECK_USES = frozenset({"Application.Read.All", "Organization.Read.All"})


@dataclass(frozen=True)
class Verdict:
    """The roles granted, those each enabled sync still needs (syncs that have all are absent), and those to remove."""

    granted: list[str]
    missing: dict[str, list[str]]
    unneeded: list[str]


def judge(granted: frozenset[str], enabled: Collection[str], *, grouped: bool = False) -> Verdict:
    """Compare the roles of a token with what the `enabled` syncs need; with none enabled, `unneeded` is against all.

    `grouped`: the users sync is limited to the members of a group, which it then has to read.

    `missing` names the least role of each requirement that nothing granted satisfies, and no role twice over: User
    roles that let photos list users let it read photos too. A granted role is unneeded where, requirement by
    requirement, a lesser granted one does. Raises ValueError for a sync that does not exist.
    """
    syncs = sorted(enabled, key=SYNCS.index)
    needs = {**_NEEDS, "users": (_LIST_USERS, _LIST_MEMBERS)} if grouped else _NEEDS
    missing = {sync: _missing(granted, needs[sync]) for sync in syncs}
    used = _CHECK_USES.union(*(_used(granted, sync, needs[sync]) for sync in syncs or SYNCS))
    return Verdict(
        granted=sorted(granted),
        missing={sync: roles for sync, roles in missing.items() if roles},
        unneeded=sorted(granted - used),
    )


def _missing(granted: frozenset[str], needs: tuple[Requirement, ...]) -> list[str]:
    missing: list[str] = []
    for sufficient in needs:
        if granted.union(missing).isdisjoint(sufficient):
            missing.append(sufficient[0])
    return missing


def _used(granted: frozenset[str], sync: str, needs: tuple[Requirement, ...]) -> frozenset[str]:
    least = (next((role for role in sufficient if role in granted), None) for sufficient in needs)
    return _USES.get(sync, frozenset()).union(role for role in least if role)
