"""What the API says of devices beyond their fields: which seem to be the same machine, and which are stale. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

STALE = timedelta(days=90)
_HARDWARE = ("[HWID]:", "[ZTDID]:", "[SerialNumber]:")


def duplicates(devices: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """For each of the active `devices` (fields by id) the ids of others that seem to be the same machine.

    The same hardware id says so, or the same name and system under another kind of join (Learn: Manage stale devices
    in Microsoft Entra ID, which describes hybrid joined machines that had been registered before).
    """
    same: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for device_id, device in devices.items():
        for physical in _hardware(device.get("physicalIds") or ()):
            same[("hardware", physical)].add(device_id)
        name, system = device.get("displayName"), device.get("operatingSystem")
        if name and system:
            same[("name", name.casefold(), system.casefold())].add(device_id)
    found: dict[str, set[str]] = defaultdict(set)
    for (kind, *_), ids in same.items():
        for one in ids:
            others = ids - {one}
            if kind == "name":
                others = {other for other in others if devices[other].get("trustType") != devices[one].get("trustType")}
            found[one] |= others
    return {device_id: sorted(found[device_id]) for device_id in devices}


def _hardware(physical_ids: Iterable[str]) -> list[str]:
    return [physical for physical in physical_ids if physical.startswith(_HARDWARE)]


def stale(device: Mapping[str, Any], now: datetime) -> bool | None:
    """Whether the last sign-in is more than 90 days ago; None where none was ever seen, which proves nothing."""
    text = device.get("approximateLastSignInDateTime")
    try:
        seen = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return None if seen is None or seen.tzinfo is None else now - seen > STALE
