"""A tenant's users: what only they have beyond other objects of the directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from local.cloud.exchange.mailbox import Hosting
from local.cloud.objects import Conflict, DirectoryObject, Objects, Properties


@dataclass(frozen=True)
class Photo:
    """What a user uploaded: `longest` is its side in pixels; `raw` replaces the drawing where a test plants bytes."""

    version: int
    longest: int = 648
    raw: bytes | None = None
    content_type: str = "image/jpeg"


@dataclass(slots=True)
class User(DirectoryObject):
    kind = "user"
    relation = "manager"

    photo: Photo | None = None
    uploads: int = 1
    mailbox: Hosting = "cloud"

    @property
    def recyclable(self) -> bool:
        return True

    def upload(self, longest: int = 648, raw: bytes | None = None, content_type: str = "image/jpeg") -> None:
        """A new photo takes the place of the old one."""
        self.uploads += 1
        self.photo = Photo(self.uploads, longest, raw, content_type)


class Users(Objects[User]):
    def __init__(self) -> None:
        super().__init__(User, required="userPrincipalName")
        self._by_upn: dict[str, User] = {}
        self._by_mail: dict[str, User] = {}
        self._mails_of = (0, 0)

    def find(self, key: str) -> User | None:
        """The live user with that id or userPrincipalName."""
        return super().find(key) or self._by_upn.get(key.lower())

    def find_mail(self, address: str) -> User | None:
        """The live user with that primary e-mail address."""
        state = len(self.members), len(self.log)
        if state != self._mails_of:
            self._mails_of = state
            self._by_mail = {str(user.properties.get("mail") or "").lower(): user for user in self.live()}
        return self._by_mail.get(address.lower()) if address else None

    def create(self, properties: Mapping[str, Any], *, logged: bool = True) -> User:
        """`photo` among the properties is the side of an uploaded picture in pixels, `mailbox` where the mailbox is."""
        own = dict(properties)
        side, hosting = own.pop("photo", None), own.pop("mailbox", "cloud")
        if hosting not in get_args(Hosting):
            raise ValueError(f"mailbox is one of {', '.join(get_args(Hosting))}")
        user = super().create(own, logged=logged)
        user.photo, user.mailbox = Photo(1, side) if side else None, hosting
        return user

    def _claim(self, subject: User) -> None:
        self._claim_upn(subject, subject.properties["userPrincipalName"])

    def _release(self, subject: User) -> None:
        del self._by_upn[subject.properties["userPrincipalName"].lower()]

    def _rename(self, subject: User, changed: Properties) -> None:
        if "userPrincipalName" not in changed:
            return
        self._claim_upn(subject, changed["userPrincipalName"])
        if changed["userPrincipalName"].lower() != subject.properties["userPrincipalName"].lower():
            self._release(subject)

    def _claim_upn(self, user: User, upn: str) -> None:
        if self._by_upn.setdefault(upn.lower(), user) is not user:
            raise Conflict(upn)
