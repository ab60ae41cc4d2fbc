"""What Graph shows of each kind of directory object, and who may see it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.cloud.objects import DirectoryObject, Group, Objects, Properties
from local.cloud.odata import bad
from local.cloud.protocol import READ_DIRECTORY, Call, Refused
from local.cloud.tenants import Tenant

READ_HIDDEN = "Member.Read.Hidden"
MOST_EXPANDED = 20  # Learn: Use the $expand query parameter, limitations for directory objects
COLLECTIONS = frozenset(
    {
        "addresses",
        "assignedLicenses",
        "businessPhones",
        "groupTypes",
        "otherMails",
        "phones",
        "physicalIds",
        "proxyAddresses",
        "systemLabels",
    }
)
EXTENSION_ATTRIBUTES = {f"extensionAttribute{number}": None for number in range(1, 16)}
_EXTENSION = re.compile(r"extension_[0-9a-f]{32}_\w+")
_EXPAND = re.compile(r"(\w+)(?:\(\$select=([\w,]+)\))?")


@dataclass(frozen=True)
class Kind:
    """`default` are the properties without $select, `more` those that have to be asked for, `path` its collection.

    `readers`: any of these roles may see more than an object's id. `relation` is what it links to.
    """

    name: str
    path: str
    relation: str
    store: Callable[[Tenant], Objects[Any]]
    readers: frozenset[str]
    default: list[str]
    more: frozenset[str] = frozenset()

    @property
    def known(self) -> frozenset[str]:
        return self.more.union(self.default)

    def knows(self, name: str) -> bool:
        """Directory extensions are named after the app that defines them (Learn: Add custom data to resources)."""
        return name in self.known or bool(_EXTENSION.fullmatch(name))

    def find(self, call: Call, key: str) -> Any:
        """The live object, or Refused as Graph words it."""
        found = self.store(call.tenant).find(key)
        if found is None:
            message = (
                f"Resource '{key}' does not exist or one of its queried reference-property objects are not present."
            )
            raise Refused(404, "Request_ResourceNotFound", message)
        return found


USER = Kind(
    name="user",
    path="users",
    relation="manager",
    store=lambda tenant: tenant.users,
    readers=frozenset({"User.Read.All", "User.ReadWrite.All"}) | READ_DIRECTORY,
    default=[
        "businessPhones",
        "displayName",
        "givenName",
        "jobTitle",
        "mail",
        "mobilePhone",
        "officeLocation",
        "preferredLanguage",
        "surname",
        "userPrincipalName",
        "id",
    ],
    more=frozenset(
        {
            "accountEnabled",
            "assignedLicenses",
            "city",
            "companyName",
            "country",
            "createdDateTime",
            "creationType",
            "deletedDateTime",
            "department",
            "employeeId",
            "externalUserState",
            "lastPasswordChangeDateTime",
            "mailNickname",
            "onPremisesExtensionAttributes",
            "onPremisesSyncEnabled",
            "otherMails",
            "postalCode",
            "proxyAddresses",
            "state",
            "streetAddress",
            "usageLocation",
            "userType",
        }
    ),
)
DEVICE = Kind(
    name="device",
    path="devices",
    relation="registeredOwners",
    store=lambda tenant: tenant.devices,
    readers=frozenset({"Device.Read.All", "Device.ReadWrite.All"}) | READ_DIRECTORY,
    default=[
        "id",
        "deletedDateTime",
        "accountEnabled",
        "approximateLastSignInDateTime",
        "deviceCategory",
        "deviceId",
        "deviceOwnership",
        "displayName",
        "enrollmentType",
        "isCompliant",
        "isManaged",
        "managementType",
        "manufacturer",
        "mdmAppId",
        "model",
        "onPremisesSyncEnabled",
        "operatingSystem",
        "operatingSystemVersion",
        "physicalIds",
        "profileType",
        "registrationDateTime",
        "systemLabels",
        "trustType",
    ],
)
GROUP = Kind(
    name="group",
    path="groups",
    relation="members",
    store=lambda tenant: tenant.groups,
    readers=frozenset(
        {"GroupMember.Read.All", "GroupMember.ReadWrite.All", "Group.Read.All", "Group.ReadWrite.All"} | READ_DIRECTORY
    ),
    default=[
        "id",
        "deletedDateTime",
        "createdDateTime",
        "description",
        "displayName",
        "groupTypes",
        "mail",
        "mailEnabled",
        "mailNickname",
        "membershipRule",
        "onPremisesSyncEnabled",
        "proxyAddresses",
        "securityEnabled",
        "visibility",
    ],
)
ORG_CONTACT = Kind(
    name="orgContact",
    path="contacts",
    relation="manager",
    store=lambda tenant: tenant.org_contacts,
    readers=frozenset({"OrgContact.Read.All"}) | READ_DIRECTORY,
    default=[
        "id",
        "deletedDateTime",
        "addresses",
        "companyName",
        "department",
        "displayName",
        "givenName",
        "jobTitle",
        "mail",
        "mailNickname",
        "onPremisesSyncEnabled",
        "phones",
        "proxyAddresses",
        "surname",
    ],
)
KINDS = {kind.name: kind for kind in (USER, DEVICE, GROUP, ORG_CONTACT)}


def project(subject: DirectoryObject, names: list[str]) -> Properties:
    """The named properties. What was never set is null, or empty where it is a collection, but an extension is left out."""
    properties = subject.properties
    held = [name for name in names if name in properties or not _EXTENSION.fullmatch(name)]
    return {name: shaped(name, properties.get(name, [] if name in COLLECTIONS else None)) for name in held}


def shaped(name: str, value: Any) -> Any:
    """The attributes of onPremisesExtensionAttributes come together, set or not."""
    return EXTENSION_ATTRIBUTES | (value or {}) if name == "onPremisesExtensionAttributes" else value


def reference(subject: DirectoryObject) -> Properties:
    """A link to an object of whatever kind."""
    return {"@odata.type": f"#microsoft.graph.{subject.kind}", "id": subject.id}


def linked(call: Call, subject: DirectoryObject, names: list[str] | None) -> Properties:
    """An object among those of other kinds: properties that its kind does not have are left out, and what the app may
    not read is null (Learn: Microsoft Graph permissions, limited information returned for inaccessible objects).
    """
    kind = KINDS[subject.kind]
    wanted = [name for name in names or kind.default if kind.knows(name) and name != "id"]
    shown = project(subject, wanted) if kind.readers & call.roles else dict.fromkeys(wanted)
    return reference(subject) | shown


def selected_of_any(text: str) -> list[str]:
    """The properties that $select names for objects of several kinds, or Refused."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not any(kind.knows(name) for kind in KINDS.values()):
            message = f"Could not find a property named '{name}' on type 'microsoft.graph.directoryObject'."
            raise Refused(400, "BadRequest", f"Parsing OData Select and Expand failed: {message}")
    return names


def expansion(call: Call, kind: Kind) -> Callable[[DirectoryObject], Properties]:
    """What $expand adds to an object."""
    if "$expand" not in call.query:
        return lambda _: {}
    found = _EXPAND.fullmatch(call.query["$expand"].strip())
    if not found:
        raise bad("Parsing OData Select and Expand failed.")
    if found[1] != kind.relation:
        raise Refused(501, "NotSimulated", f"The simulated Graph does not expand {found[1]} on /{kind.path}.")
    names = selected_of_any(found[2]) if found[2] else None
    return lambda subject: _expanded(call, kind, subject, names)


def _expanded(call: Call, kind: Kind, subject: DirectoryObject, names: list[str] | None) -> Properties:
    targets = [link.target for link in subject.links.values() if link.target.live]
    if isinstance(subject, Group) and not sees_members(call, subject):
        targets = []
    values = [linked(call, target, names) for target in targets[:MOST_EXPANDED]]
    if kind is not USER:
        return {kind.relation: values}
    return {kind.relation: values[0]} if values else {}


def sees_members(call: Call, group: Group) -> bool:
    """Learn: List group members, hidden membership."""
    return group.properties.get("visibility") != "HiddenMembership" or READ_HIDDEN in call.roles
