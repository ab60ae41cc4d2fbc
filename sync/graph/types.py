"""What Graph sends, as far as the product reads it. Graph omits what was never set and sends null for what was cleared.

The functional form serves the wire's own names, such as "@odata.etag".
"""

from typing import Any, NotRequired, TypedDict


class Removed(TypedDict):
    """Learn: Use delta query to track changes. "changed" is the recycle bin, "deleted" is for good."""

    reason: str


User = TypedDict(
    "User",
    {
        "id": str,
        "userPrincipalName": NotRequired[str | None],
        "displayName": NotRequired[str | None],
        "givenName": NotRequired[str | None],
        "surname": NotRequired[str | None],
        "mail": NotRequired[str | None],
        "mobilePhone": NotRequired[str | None],
        "businessPhones": NotRequired[list[str]],
        "jobTitle": NotRequired[str | None],
        "department": NotRequired[str | None],
        "companyName": NotRequired[str | None],
        "officeLocation": NotRequired[str | None],
        "employeeId": NotRequired[str | None],
        "userType": NotRequired[str | None],
        "accountEnabled": NotRequired[bool | None],
        "@removed": NotRequired[Removed],
    },
)
"""Learn: user resource type."""


class VerifiedDomain(TypedDict):
    """Learn: verifiedDomain resource type."""

    name: str
    isDefault: bool
    isInitial: NotRequired[bool]


class Organization(TypedDict):
    """Learn: organization resource type. `id` is the tenant id."""

    id: str
    displayName: NotRequired[str | None]
    verifiedDomains: NotRequired[list[VerifiedDomain]]


ProfilePhoto = TypedDict(
    "ProfilePhoto",
    {
        "id": str,
        "width": NotRequired[int],
        "height": NotRequired[int],
        "@odata.mediaContentType": NotRequired[str],
        "@odata.mediaEtag": NotRequired[str],
    },
)
"""Learn: profilePhoto resource type. `id` is the size, such as "240x240"; "1x1" stands for no photo."""


class PasswordCredential(TypedDict):
    """Learn: passwordCredential resource type."""

    keyId: str
    endDateTime: NotRequired[str | None]


class KeyCredential(TypedDict):
    """Learn: keyCredential resource type."""

    keyId: str
    endDateTime: NotRequired[str | None]


class Application(TypedDict):
    """Learn: application resource type."""

    id: str
    appId: str
    passwordCredentials: NotRequired[list[PasswordCredential]]
    keyCredentials: NotRequired[list[KeyCredential]]


class BatchItem(TypedDict):
    """Learn: Combine multiple HTTP requests using JSON batching."""

    id: str
    status: int
    headers: NotRequired[dict[str, str]]
    body: NotRequired[Any]
