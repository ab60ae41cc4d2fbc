"""What each sync can be told, as the contract names it."""

import re
from collections.abc import Callable
from datetime import time, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sync.models import Guid, Model, TimeZone

_DURATION = re.compile(r"P(?:(\d{1,4})D)?(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,7})S)?)?", re.ASCII)


def _local_time(text: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError("must be a time such as 01:00")
    return text


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration of days, hours, minutes and seconds. Raises ValueError."""
    hit = _DURATION.fullmatch(text)
    if hit is None or not any(hit.groups()):
        raise ValueError("must be an ISO 8601 duration such as PT4H")
    days, hours, minutes, seconds = (int(part or 0) for part in hit.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _interval(text: str) -> str:
    if not timedelta(minutes=15) <= parse_duration(text) <= timedelta(days=31):
        raise ValueError("must be between PT15M and P31D")
    return text


class DailyIn(Model):
    mode: Literal["daily"]
    at: Annotated[str, AfterValidator(_local_time)] = "01:00"
    time_zone: TimeZone = "America/New_York"


class IntervalIn(Model):
    mode: Literal["interval"]
    every: Annotated[str, AfterValidator(_interval), Field(json_schema_extra={"format": "duration"})]


class ManualIn(Model):
    mode: Literal["manual"]


ScheduleIn = Annotated[DailyIn | IntervalIn | ManualIn, Field(discriminator="mode")]


class GuardIn(Model):
    max_count: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    max_percent: Annotated[int, Field(ge=0, le=100)] = 20


class SyncSettings(Model):
    """What every sync shares."""

    enabled: bool = False
    schedule: ScheduleIn = IntervalIn(mode="interval", every="PT4H")
    deletion_guard: GuardIn = GuardIn()


class PhotosSettings(SyncSettings):
    schedule: ScheduleIn = DailyIn(mode="daily")
    size: Literal["48x48", "64x64", "96x96", "120x120", "240x240", "360x360", "432x432", "504x504", "648x648"] = (
        "240x240"
    )


# What Learn's "user resource type" and "device resource type" offer beyond the default set.
MORE_USER_FIELDS = frozenset(
    {
        "assignedLicenses",
        "city",
        "country",
        "createdDateTime",
        "employeeHireDate",
        "employeeType",
        "lastPasswordChangeDateTime",
        "manager",
        "onPremisesExtensionAttributes",
        "onPremisesSamAccountName",
        "onPremisesSyncEnabled",
        "otherMails",
        "postalCode",
        "preferredLanguage",
        "proxyAddresses",
        "streetAddress",
        "usageLocation",
    }
)
MORE_DEVICE_FIELDS = frozenset({"createdDateTime", "deviceVersion", "extensionAttributes", "isRooted"})
EXTENSIONS = 10
_EXTENSION = re.compile(r"^extension_[0-9a-f]{32}_[A-Za-z0-9_]{1,100}$")


def _known_fields(more: frozenset[str]) -> Callable[[list[str]], list[str]]:
    def check(names: list[str]) -> list[str]:
        unknown = [number for number, name in enumerate(names) if name not in more and not _EXTENSION.match(name)]
        if unknown:
            raise ValueError(f"entries {', '.join(map(str, unknown))} are no fields that can be added")
        if sum(name not in more for name in names) > EXTENSIONS:
            raise ValueError(f"at most {EXTENSIONS} extensions can be added")
        return sorted(set(names))

    return check


_Names = list[Annotated[str, Field(max_length=200)]]
UserFields = Annotated[_Names, Field(max_length=40), AfterValidator(_known_fields(MORE_USER_FIELDS))]
DeviceFields = Annotated[_Names, Field(max_length=20), AfterValidator(_known_fields(MORE_DEVICE_FIELDS))]


class UsersSettings(SyncSettings):
    """`more_fields` are taken beside the default set; `licensed_only` leaves out whoever has no licence, `member_of`
    whoever is neither in that group nor in one below it.
    """

    include_guests: bool = False
    include_disabled: bool = True
    licensed_only: bool = False
    member_of: Guid | None = None
    more_fields: UserFields = Field(default_factory=list)
    invite: Literal["never", "onCreate"] = "never"

    @field_validator("more_fields")
    @classmethod
    def _no_manager_of_members(cls, names: list[str], info: ValidationInfo) -> list[str]:
        """Learn, List group members, knows no $expand: the managers would cost a request each."""
        if "manager" in names and info.data.get("member_of"):
            raise ValueError("cannot have manager together with memberOf")
        return names


class DevicesSettings(SyncSettings):
    include_disabled: bool = True
    more_fields: DeviceFields = Field(default_factory=list)


class ContactsSettings(SyncSettings):
    group_id: Annotated[Guid | None, Field(validate_default=True)] = None

    @field_validator("group_id")
    @classmethod
    def _group_to_read(cls, group: str | None, info: ValidationInfo) -> str | None:
        if group is None and info.data.get("enabled"):
            raise ValueError("is needed before contacts can be enabled")
        return group


class WindowIn(Model):
    past_days: Annotated[int, Field(ge=0, le=365)] = 1
    future_days: Annotated[int, Field(ge=1, le=1095)] = 365


class CalendarsSettings(SyncSettings):
    """The schedule is for reading all rooms: those that were silent for long are polled whatever it is."""

    schedule: ScheduleIn = IntervalIn(mode="interval", every="PT15M")
    delegation: bool = False
    strict_mode: bool = False
    create_on_user_calendar: bool = False
    window: WindowIn = WindowIn()


class IncludeIn(Model):
    mailboxes: bool = True
    licences: bool = True
    sign_in_activity: bool = True


class PartnersSettings(SyncSettings):
    include: IncludeIn = IncludeIn()
    first_run_delay: Annotated[str, AfterValidator(_interval)] = "PT1H"


SETTINGS: dict[str, type[SyncSettings]] = {
    "photos": PhotosSettings,
    "users": UsersSettings,
    "devices": DevicesSettings,
    "contacts": ContactsSettings,
    "calendars": CalendarsSettings,
    "partners": PartnersSettings,
}


def clock_time(text: str) -> time:
    """A validated HH:MM as a time."""
    return time.fromisoformat(text)
