"""Rooms and places as the HTTP contract has them."""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sync.models import Model, TimeZone

ROOM_PATTERN = r"(?!\.+$)[A-Za-z0-9_.-]{1,64}"
_ADDRESS = re.compile(
    r"[^\s@<>()\[\],;:\\\"/?#%\x00-\x1f\x7f]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}"
)


def _address(text: str) -> str:
    lower = text.lower()
    if not _ADDRESS.fullmatch(lower):
        raise ValueError("must be an e-mail address")
    return lower


def _plain(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must not hold control characters")
    return text


Address = Annotated[str, Field(max_length=254, json_schema_extra={"format": "email"}), AfterValidator(_address)]
Line = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_plain)]


# --- rooms and places ------------------------------------------------------------------------------------------------


class RoomIn(Model):
    """`timeZone` is that of floating times and all-day events; by default the connection's."""

    display_name: Line
    calendar_type: Literal["office365"] = "office365"
    external_calendar: Address
    active: bool = False
    time_zone: TimeZone | None = None


class RoomOut(Model):
    """`statusDetail` and `warnings` are slugs; `remedy` says in words what to do about the first."""

    id: str
    display_name: str
    calendar_type: Literal["office365"]
    external_calendar: str
    active: bool
    time_zone: str
    status: Literal["inactive", "pending", "active", "error"]
    status_detail: str | None
    remedy: str | None
    warnings: list[str]
    pending_changes: int
    subscription_expires_at: datetime | None
    last_synced_at: datetime | None


class PlaceOut(Model):
    """A room of the tenant, to choose from; `linkedRoom` is the id of the room that has its calendar."""

    id: str | None
    display_name: str | None
    email_address: str
    capacity: int | None
    building: str | None
    floor_number: int | None
    floor_label: str | None
    phone: str | None
    booking_type: str | None
    tags: list[str]
    linked_room: str | None
