"""What the API says of devices beyond their fields: which seem to be the same machine, and which are stale. Pure."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

STALE = timedelta(days=90)
MOST = 20  # devices that share a trait; one that more share, such as the name iPhone, tells nothing
_HARDWARE = ("[HWID]:", "[ZTDID]:", "[SerialNumber]:")


def traits(device: Mapping[str, Any]) -> list[list[str]]:
    """What tells that a device is the same machine as another one: pairs of a trait and how the device is joined.

    The same hardware id says so, or the same name and system under another kind of join (Learn: Manage stale devices
    in Microsoft Entra ID, which describes hybrid joined machines that had been registered before). The join is empty
    where it does not matter.
    """
    found = [[_short("hardware", one), ""] for one in device.get("physicalIds") or () if one.startswith(_HARDWARE)]
    name, system = device.get("displayName"), device.get("operatingSystem")
    if name and system:
        found.append([_short("name", name.casefold(), system.casefold()), device.get("trustType") or "none"])
    return found


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def duplicates(devices: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, list[str]]:
    """For each of the active `devices` (traits by id) that has any, the ids of others that seem to be the same machine."""
    sharing: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for device_id, own in devices.items():
        for trait, join in own:
            sharing[trait].append((device_id, join))
    found: dict[str, set[str]] = defaultdict(set)
    for group in sharing.values():
        for one, join in group if len(group) <= MOST else ():
            found[one] |= {other for other, theirs in group if other != one and (not join or theirs != join)}
    return {device_id: sorted(others) for device_id, others in found.items() if others}


def stale(device: Mapping[str, Any], now: datetime) -> bool | None:
    """Whether the last sign-in is more than 90 days ago; None where none was ever seen, which proves nothing."""
    text = device.get("approximateLastSignInDateTime")
    try:
        seen = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return None if seen is None or seen.tzinfo is None else now - seen > STALE
