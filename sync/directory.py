"""The users sync and the devices sync: what each reads, and how a slice of it runs."""

from collections.abc import Mapping
from typing import Any

from sync.collection import Reading, read_collection
from sync.deletions import Kind
from sync.errors import Deferred
from sync.jobs import Finish, Work
from sync.mirror import PAUSE, Mirror
from sync.people import USERS, users_reading
from sync.runs import active_run
from sync.sync_settings import DevicesSettings, UsersSettings

DEVICE = "device|"

# What Learn's "device resource type" calls them, as DeviceOut shows them.
DEVICE_FIELDS = (
    "deviceId",
    "displayName",
    "accountEnabled",
    "operatingSystem",
    "operatingSystemVersion",
    "trustType",
    "profileType",
    "isCompliant",
    "isManaged",
    "manufacturer",
    "model",
    "mdmAppId",
    "approximateLastSignInDateTime",
    "registrationDateTime",
    "deviceOwnership",
    "managementType",
    "enrollmentType",
    "deviceCategory",
    "physicalIds",
    "systemLabels",
    "onPremisesSyncEnabled",
)


def run_users(work: Work) -> Finish | None:
    """One slice of the users sync."""
    settings = work.settings
    assert isinstance(settings, UsersSettings)
    if not work.run.checkpoint:
        _let_photos_finish(work)
    mirror = Mirror(work, USERS, invite=settings.invite == "onCreate")
    return _run(mirror, users_reading(settings))


def _let_photos_finish(work: Work) -> None:
    """A photo run that reads people by itself began when the users sync was off: two readers would tell all twice."""
    found = active_run(work.app.tables.data, work.connection, "photos")
    if found and found[0].held_by_other(work.now()) and "after" not in found[0].checkpoint:
        raise Deferred("A photo sync is reading the directory", until=work.now() + PAUSE, throttled=True)


DEVICES = Kind(
    entity="device",
    prefix=DEVICE,
    remedies={
        "disabled": "Include disabled devices in the settings of the devices sync to take them in.",
        "left": "Nothing to do: the directory no longer has this device.",
        "not-listed": "Nothing to do: the directory no longer has this device among those that the settings ask for.",
    },
)


def run_devices(work: Work) -> Finish | None:
    """One slice of the devices sync."""
    settings = work.settings
    assert isinstance(settings, DevicesSettings)

    def excluded(device: Mapping[str, Any]) -> str:
        return "disabled" if device["accountEnabled"] is False and not settings.include_disabled else ""

    fields = (*DEVICE_FIELDS, *settings.more_fields)
    reading = Reading(
        "devices",
        fields,
        {"fields": list(fields), "disabled": settings.include_disabled},
        excluded,
        settings.deletion_guard,
        filter="" if settings.include_disabled else "accountEnabled eq true",
        owners=True,
    )
    return _run(Mirror(work, DEVICES), reading)


def _run(mirror: Mirror, reading: Reading) -> Finish | None:
    at = read_collection(mirror, reading, dict(mirror.work.run.checkpoint))
    return None if at is None else Finish({}, held=at.get("held", 0), of=at.get("of", 0))
