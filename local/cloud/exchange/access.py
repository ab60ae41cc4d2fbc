"""Whose mailbox a key names, and whether an app may touch it."""

from uuid import UUID

from local.cloud.exchange.mailbox import Address, Mailbox
from local.cloud.protocol import Call, Refused
from local.cloud.tenants import Tenant
from local.cloud.users import User

CALENDARS = frozenset({"Calendars.ReadWrite"})


def find_mailbox(tenant: Tenant, key: str) -> Mailbox | None:
    """The mailbox of a room or person by id, userPrincipalName or address. None where there is no such person; a
    person without a mailbox has one whose `hosting` says so."""
    room = tenant.exchange.room(key)
    if room is not None:
        return room
    user = tenant.users.find(key) or tenant.users.find_mail(key)
    return _personal(tenant, user) if user else None


def _personal(tenant: Tenant, user: User) -> Mailbox:
    people, guid = tenant.exchange.people, UUID(user.id)
    address = user.properties.get("mail") or ""
    named = Address(name=user.properties.get("displayName") or address, address=address)
    mailbox = people.get(guid)
    if mailbox is None:
        mailbox = people[guid] = Mailbox(guid, named, hosting=user.mailbox)
    mailbox.owner = named
    if not address or user.properties.get("userType") == "Guest":
        mailbox.hosting = "none"
    return mailbox


def reachable(tenant: Tenant, address: str) -> Mailbox | None:
    """The mailbox to which mail for an address is delivered; None where it leaves the organisation."""
    mailbox = find_mailbox(tenant, address)
    return mailbox if mailbox and mailbox.hosting == "cloud" else None


def display_name(tenant: Tenant, address: str) -> str | None:
    mailbox = find_mailbox(tenant, address)
    return mailbox.owner.name if mailbox else None


def open_mailbox(call: Call, key: str) -> Mailbox:
    """The mailbox that a call names, or Refused as Exchange words it."""
    mailbox = find_mailbox(call.tenant, key)
    if mailbox is None:
        raise Refused(404, "ErrorInvalidUser", f"The requested user '{key}' is invalid.")
    if mailbox.hosting != "cloud":
        message = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
        raise Refused(404, "MailboxNotEnabledForRESTAPI", message)
    if not may_touch(call, mailbox):
        raise Refused(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
    return mailbox


def may_touch(call: Call, mailbox: Mailbox) -> bool:
    """Learn: Role based access control for applications in Exchange Online, application access policies."""
    scope = _scope(call)
    return (scope is None or mailbox.owner.address.lower() in scope) and not mailbox.denied


def roles_in(call: Call, address: str) -> frozenset[str]:
    """The app's roles towards one mailbox: those that Entra put into its token, and for a mailbox in its scope the role
    that it has in Exchange (Application Calendars.ReadWrite), for which Entra need not have granted anything.
    """
    return call.roles | (CALENDARS if address.lower() in (_scope(call) or ()) else frozenset())


def _scope(call: Call) -> set[str] | None:
    app = call.tenant.app(call.app_id)
    scope = app.mailbox_scope if app else None
    return None if scope is None else {address.lower() for address in scope}
