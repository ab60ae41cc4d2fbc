"""The users sync and the devices sync: what each reads, and how a slice of it runs."""

from collections.abc import Mapping
from typing import Any

from storage.tables import Write, decode_key
from sync import devices
from sync.collection import Reading, read_collection
from sync.deletions import Kind
from sync.errors import Deferred
from sync.jobs import Finish, Work
from sync.mirror import PAUSE, WRITES, Mirror
from sync.people import USERS, users_reading
from sync.runs import active_run
from sync.sync_settings import DevicesSettings, UsersSettings

DEVICE = "device|"
_CHANGES = frozenset({"created", "updated", "restored", "deleted"})

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
    columns=lambda fields: {"j_traits": devices.traits(fields)},
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
    finish = _run(Mirror(work, DEVICES), reading)
    if finish is not None and not work.run.dry_run and _CHANGES & {name for name, n in work.run.counts.items() if n}:
        _show_duplicates(work)
    return finish


def _show_duplicates(work: Work) -> None:
    """Store with each device which others seem to be the same machine: no change of the device, so none is told."""
    data = work.app.tables.data
    rows = list(data.scan(work.connection, DEVICE, columns=("state", "j_traits", "j_duplicates")))
    active = {row["key"]: row["j_traits"] for row in rows if row["state"] == "active"}
    found = devices.duplicates(active)
    ids = {key: decode_key(key[len(DEVICE) :]) for key in active}
    wanted = {row["key"]: [ids[key] for key in found.get(row["key"], ())] for row in rows}
    changed = [row["key"] for row in rows if row.get("j_duplicates", []) != wanted[row["key"]]]
    for start in range(0, len(changed), WRITES):
        part = changed[start : start + WRITES]
        work.claim.commit(work.now(), [Write("update", key, {"j_duplicates": wanted[key]}) for key in part])


def _run(mirror: Mirror, reading: Reading) -> Finish | None:
    at = read_collection(mirror, reading, dict(mirror.work.run.checkpoint))
    return None if at is None else Finish({}, held=at.get("held", 0), of=at.get("of", 0))
