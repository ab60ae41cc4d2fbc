"""The demo's part about devices and contacts: a dry run first, people by their groups, and a mistake that is caught."""

from collections.abc import Callable, Iterator
from typing import Any

from local.demo_runs import Done, follow, watch
from local.portal import Json, Portal, Tenant
from local.printed import say, table
from local.processes import Failed

TOP, TAKEN_OUT = "Portal contacts", "HR"
CALLED = "Adele Vance"
NUMBER = "+1 206 555 0199"
MOST_DELETIONS = 1

Step = Callable[[str], None]


def show_devices(portal: Portal, tenant: Tenant, name: str, step: Step) -> Iterator[Done]:
    """The devices of the tenant, after a dry run that writes nothing. Failed where the sides differ."""
    step("Devices: what would be done, and then do it")
    portal.enable(name, "devices")
    dry = follow(portal, name, "devices", "", dryRun=True).run
    actions = [line["action"] for line in portal.items(f"connections/{name}/runs/{dry['id']}/plan")]
    there = list(portal.items(f"connections/{name}/devices"))
    say(f"         its plan would create {actions.count('create')} devices; in the portal there are {len(there)}")
    if there:
        raise Failed("A dry run wrote something.")
    yield follow(portal, name, "devices", "first")
    devices = {device["id"]: device for device in portal.items(f"connections/{name}/devices")}
    if devices.keys() != {device["id"] for device in tenant.call("GET", "devices?state=live")}:
        raise Failed("The devices are not those of the tenant.")
    people = {user["id"]: user["displayName"] for user in portal.items(f"connections/{name}/users")}
    rows = [["device", "joined as", "of", "last seen", "remarks"]]
    rows += [_device(device, people) for device in sorted(devices.values(), key=lambda one: str(one["displayName"]))]
    for row in table(rows, words=len(rows[0])):
        say(row)


def _device(device: Json, people: dict[str, str]) -> list[str]:
    seen = (device["approximateLastSignInDateTime"] or "never")[:10]
    remarks = {
        "stale": device["stale"],
        "registered twice": device["duplicates"],
        "disabled": not device["accountEnabled"],
    }
    owners = [people.get(owner, "somebody who is not synced") for owner in device["owners"]] or ["nobody"]
    others = f" +{len(owners) - 1}" if len(owners) > 1 else ""
    words = [device["displayName"], device["trustType"], owners[0] + others, seen]
    return [*words, ", ".join(remark for remark, holds in remarks.items() if holds) or "-"]


def show_contacts(portal: Portal, tenant: Tenant, name: str, step: Step) -> Iterator[Done]:
    """The people of a group as contacts; then a group is taken out by mistake. Failed where that is not caught."""
    groups = {group["displayName"]: group["id"] for group in tenant.call("GET", "groups?state=live")}
    step(f"Contacts: the people of the group {TOP}, and of the groups in it")
    guard = {"maxCount": MOST_DELETIONS, "maxPercent": 100}
    portal.enable(name, "contacts", groupId=groups[TOP], deletionGuard=guard)
    first = follow(portal, name, "contacts", "first")
    yield first
    _print_contacts(portal, name, first.run)
    step(f"By mistake somebody takes the group {TAKEN_OUT} out: the run is held, all else goes on")
    called = next(user for user in tenant.people().values() if user["displayName"] == CALLED)["id"]
    tenant.call("PATCH", f"users/{called}", {"mobilePhone": NUMBER})
    tenant.call("DELETE", f"groups/{groups[TOP]}/members/{groups[TAKEN_OUT]}")
    held = follow(portal, name, "contacts", "again", ends="held", explain=False)
    yield held
    say(f"         {held.run['error']['detail']}.")
    for line in portal.items(f"connections/{name}/runs/{held.run['id']}/plan"):
        say(f"         waits: {line['action']} {line['displayName']} ({line['reason']})")
    contact = portal.get(f"connections/{name}/contacts/{called}")
    if contact["mobilePhone"] != NUMBER or _contacts(portal, name, "deleted"):
        raise Failed("The held run did not do all else, or deleted somebody.")
    say(f"         {CALLED}'s new number has arrived meanwhile: {contact['mobilePhone']}")
    approved = portal.post(f"connections/{name}/runs/{held.run['id']}/approve")
    say("Approved, for this time it was meant:")
    yield watch(portal, name, approved, "approved", explain=False)
    gone = ", ".join(sorted(one["displayName"] for one in _contacts(portal, name, "deleted")))
    say(f"         kept, and found as azureState deleted: {gone}")


def _contacts(portal: Portal, name: str, state: str) -> list[dict[str, Any]]:
    return list(portal.items(f"connections/{name}/contacts?azureState={state}"))


def _print_contacts(portal: Portal, name: str, run: Json) -> None:
    notes: dict[str, list[str]] = {}
    for line in portal.items(f"connections/{name}/runs/{run['id']}/log"):
        notes.setdefault(line["id"], []).append(line["reason"])
    rows = [["contact", "mobile phone", "groups", "the run log says"]]
    for one in sorted(_contacts(portal, name, "active"), key=lambda each: str(each["displayName"])):
        groups = ", ".join(group["displayName"] for group in one["groups"]) or "-"
        rows.append([one["displayName"], one["mobilePhone"] or "-", groups, ", ".join(notes.get(one["id"], ["-"]))])
    for row in table(rows, words=len(rows[0])):
        say(row)
