"""Many changes to a tenant at once, the same for the same seed."""

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from local.cloud.model import Model
from local.cloud.names import PLAIN
from local.cloud.objects import Group
from local.cloud.population import Population, device, group, person
from local.cloud.tenants import Tenant
from local.cloud.users import User

UserKind = Literal["patch", "create", "delete", "restore", "photo", "removePhoto"]
DeviceKind = Literal["patchDevice", "createDevice", "deleteDevice", "changeOwner"]
GroupKind = Literal["patchGroup", "createGroup", "deleteGroup", "addMember", "removeMember"]
Kind = UserKind | DeviceKind | GroupKind


class Mutation(Model):
    """`kinds` are drawn with equal chance; one that cannot happen is left out, for users it becomes a patch."""

    count: int = Field(ge=0)
    seed: int = 0
    kinds: list[Kind] = Field(default=["patch", "create", "delete", "restore", "photo", "removePhoto"], min_length=1)


def mutate(tenant: Tenant, mutation: Mutation) -> dict[str, list[str]]:
    """Change `count` different users, or any devices and groups; returns the ids of what changed by kind of change."""
    rng = random.Random(mutation.seed)
    users = tenant.users
    live = rng.sample(list(users.live()), k=min(mutation.count, sum(1 for _ in users.live())))
    gone = [user for user in users.members if user.deleted_at and not user.purged]
    done: dict[str, list[str]] = defaultdict(list)
    for number in range(mutation.count):
        kind = rng.choice(mutation.kinds)
        if kind in _OTHERS:
            if changed := _OTHERS[kind](tenant, rng):
                done[kind].append(changed)
            continue
        if kind == "create":
            user = person(rng, len(users.members), tenant.domain, Population(seed=mutation.seed), users, logged=True)
        elif kind == "restore" and gone:
            user = users.restore(gone.pop().id)
        elif number < len(live):
            kind = _change(tenant, live[number], kind, rng)
            user = live[number]
        else:
            break
        done[kind].append(user.id)
    return done


def _change(tenant: Tenant, user: User, kind: Kind, rng: random.Random) -> Kind:
    """Do it to this live user; returns what was done."""
    match kind:
        case "delete":
            tenant.users.delete(user.id, tenant.clock.now())
        case "photo":
            user.upload()
        case "removePhoto" if user.photo:
            user.photo = None
        case _:
            given, surname = rng.choice(PLAIN)
            number = rng.randrange(10**6)
            changes = {"displayName": f"{given} {surname} {number}", "givenName": given, "surname": surname}
            phone = rng.choice([None, f"+1 206 555 {number:06}"])
            tenant.users.patch(user.id, {**changes, "mobilePhone": phone})
            return "patch"
    return kind


def _patch_device(tenant: Tenant, rng: random.Random) -> str | None:
    live = list(tenant.devices.live())
    changes = {"displayName": f"RENAMED-{rng.randrange(10**6):06}", "isCompliant": rng.random() < 0.5}
    return tenant.devices.patch(rng.choice(live).id, changes).id if live else None


def _create_device(tenant: Tenant, rng: random.Random) -> str:
    return device(rng, len(tenant.devices.members), tenant, logged=True).id


def _delete_device(tenant: Tenant, rng: random.Random) -> str | None:
    live = list(tenant.devices.live())
    return tenant.devices.delete(rng.choice(live).id, tenant.clock.now()).id if live else None


def _change_owner(tenant: Tenant, rng: random.Random) -> str | None:
    live, users = list(tenant.devices.live()), list(tenant.users.live())
    if not live or not users:
        return None
    changed = rng.choice(live)
    tenant.devices.unlink(changed, list(changed.links))
    tenant.devices.link(changed, [rng.choice(users)])
    return changed.id


def _patch_group(tenant: Tenant, rng: random.Random) -> str | None:
    live = list(tenant.groups.live())
    changes = {"displayName": f"Renamed {rng.randrange(10**6)}"}
    return tenant.groups.patch(rng.choice(live).id, changes).id if live else None


def _create_group(tenant: Tenant, rng: random.Random) -> str:
    """A new group; in a tenant that has some, it becomes a member of the first one."""
    first = next(tenant.groups.live(), None)
    made = group(rng, f"New team {rng.randrange(10**6)}", tenant, logged=True)
    if first:
        tenant.groups.link(first, [made])
    return made.id


def _delete_group(tenant: Tenant, rng: random.Random) -> str | None:
    """Any group but the first."""
    live = list(tenant.groups.live())[1:]
    return tenant.groups.delete(rng.choice(live).id, tenant.clock.now()).id if live else None


def _add_member(tenant: Tenant, rng: random.Random) -> str | None:
    live = list(tenant.groups.live())
    if not live:
        return None
    changed = rng.choice(live)
    others = [user for user in tenant.users.live() if user.id not in changed.links]
    if not others:
        return None
    tenant.groups.link(changed, [rng.choice(others)])
    return changed.id


def _remove_member(tenant: Tenant, rng: random.Random) -> str | None:
    """Any member that is not a group."""
    people = [(each, _people(each)) for each in tenant.groups.live() if _people(each)]
    if not people:
        return None
    changed, ids = rng.choice(people)
    tenant.groups.unlink(changed, [rng.choice(ids)])
    return changed.id


def _people(of: Group) -> list[str]:
    return [key for key, link in of.links.items() if link.target.kind != "group"]


_OTHERS: dict[str, Callable[[Tenant, random.Random], str | None]] = {
    "patchDevice": _patch_device,
    "createDevice": _create_device,
    "deleteDevice": _delete_device,
    "changeOwner": _change_owner,
    "patchGroup": _patch_group,
    "createGroup": _create_group,
    "deleteGroup": _delete_group,
    "addMember": _add_member,
    "removeMember": _remove_member,
}
