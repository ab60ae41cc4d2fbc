"""Users as a collection: which fields and which people are read, for the users sync and for photos."""

from collections.abc import Mapping
from typing import Any

from sync.collection import Reading
from sync.deletions import Kind
from sync.jobs import Work
from sync.sync_settings import UsersSettings

USER = "user|"
LICENCES = "assignedLicenses"

# What Learn's "user resource type" calls them, as UserOut shows them.
USER_FIELDS = (
    "userPrincipalName",
    "displayName",
    "givenName",
    "surname",
    "mail",
    "mobilePhone",
    "businessPhones",
    "jobTitle",
    "department",
    "companyName",
    "officeLocation",
    "employeeId",
    "userType",
    "accountEnabled",
)
# All that a photo sync without a users sync needs of a person.
PHOTO_FIELDS = ("userPrincipalName", "displayName", "mail", "userType", "accountEnabled")


def photo_prefix(connection: str, row_key: str) -> str:
    """Where the photos of a user are kept; `row_key` is the key of the user's row."""
    return f"{connection}/{row_key[len(USER) :]}/"


def _purge_photos(work: Work, row_key: str) -> None:
    work.app.blobs.delete_all(photo_prefix(work.connection, row_key))


USERS = Kind(
    entity="user",
    prefix=USER,
    remedies={
        "guest": "Include guests in the settings of the users sync to take them in.",
        "disabled": "Include disabled accounts in the settings of the users sync to take them in.",
        "left": "Nothing to do: the directory no longer has this user.",
        "not-listed": "Nothing to do: the directory no longer has this user among those that the settings ask for.",
        "gone-for-good": "Nothing to do: the directory no longer has this user.",
        "unlicensed": "Assign a licence, or take in people without one, in the settings of the users sync.",
    },
    purge_with=_purge_photos,
)


def users_reading(settings: UsersSettings) -> Reading:
    """The reading of the users sync."""
    licences = (LICENCES,) if settings.licensed_only else ()
    return _people(settings, (*USER_FIELDS, *dict.fromkeys((*settings.more_fields, *licences))))


def _people(settings: UsersSettings, fields: tuple[str, ...]) -> Reading:
    def excluded(user: Mapping[str, Any]) -> str:
        if user["userType"] == "Guest" and not settings.include_guests:
            return "guest"
        if user["accountEnabled"] is False and not settings.include_disabled:
            return "disabled"
        return "unlicensed" if LICENCES in user and settings.licensed_only and not user[LICENCES] else ""

    scope = {
        "fields": list(fields),
        "guests": settings.include_guests,
        "disabled": settings.include_disabled,
        "licensed": settings.licensed_only,
        "group": settings.member_of,
    }
    # Disabled accounts that nobody wants are left out at the source. Licences could be too, but Graph answers that from
    # an index that may lag behind (Learn: Advanced query capabilities): who is missing there is missed by delta as well.
    wanted = "" if settings.include_disabled else "accountEnabled eq true"
    group = settings.member_of or ""
    return Reading("users", fields, scope, excluded, settings.deletion_guard, filter=wanted, group=group)


def people_for_photos(settings: UsersSettings, cursor: Mapping[str, Any] | None) -> Reading:
    """The reading that a photo sync does by itself where the users sync is off: no more fields than it needs,
    unless an earlier users sync left more, which then stay fresh.
    """
    known = tuple((cursor or {}).get("scope", {}).get("fields", ()))
    return _people(settings, known if set(PHOTO_FIELDS) <= set(known) else PHOTO_FIELDS)
