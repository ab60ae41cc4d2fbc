"""A tenant of any size, the same for the same seed: people, guests, disabled accounts, photos, devices, groups."""

import random
from typing import Any, Self
from uuid import UUID

from pydantic import Field, model_validator

from local.cloud.apps import App, Secret
from local.cloud.exchange.furnishing import furnish
from local.cloud.model import Model
from local.cloud.names import CITIES, DEPARTMENTS, JOBS, MODELS, OFFICES, PLAIN, UNUSUAL
from local.cloud.objects import Device, Group
from local.cloud.tenants import Tenant
from local.cloud.users import User, Users

UNUSUAL_SHARE = 0.1
SMALL_UPLOADS = [48, 96, 120, 240, 360]
SMALL_SHARE = 0.02


class Population(Model):
    """What to generate. Shares are of all users, from 0 to 1.

    `contactMembers` of the users are dealt to `contactGroups` groups, which are the members of a first group of level 0;
    without groups, they are members of that group itself.
    """

    users: int = Field(default=1000, ge=0)
    seed: int = 1
    photo_share: float = Field(default=0.6, ge=0, le=1)
    guest_share: float = Field(default=0.05, ge=0, le=1)
    disabled_share: float = Field(default=0.03, ge=0, le=1)
    devices: int = Field(default=0, ge=0)
    contact_groups: int = Field(default=0, ge=0)
    contact_members: int = Field(default=0, ge=0)
    rooms: int = Field(default=0, ge=0)
    events_per_room: int = Field(default=0, ge=0)
    roles: list[str] = Field(default_factory=lambda: ["User.Read.All"])

    @model_validator(mode="after")
    def _enough_users(self) -> Self:
        if self.contact_members > self.users:
            raise ValueError("contactMembers are users: there cannot be more of them")
        return self


def generate(population: Population) -> Tenant:
    """A tenant with one app that has one secret; ids, names and photos follow from the seed alone."""
    rng = random.Random(population.seed)
    app = App(
        app_id=_guid(rng),
        object_id=_guid(rng),
        principal_id=_guid(rng),
        roles=population.roles,
        secrets=[Secret(value=_secret(rng), key_id=_guid(rng))],
    )
    name = f"Contoso {population.seed}"
    tenant = Tenant(_guid(rng), name, f"contoso{population.seed}.onmicrosoft.com", apps=[app])
    for index in range(population.users):
        person(rng, index, tenant.domain, population, tenant.users, logged=False)
    for index in range(population.devices):
        device(rng, index, tenant, logged=False)
    if population.contact_groups or population.contact_members:
        _contact_groups(rng, tenant, population)
    furnish(rng, tenant, population.rooms, population.events_per_room)
    return tenant


def person(rng: random.Random, index: int, domain: str, population: Population, users: Users, *, logged: bool) -> User:
    """Add the person number `index` to the users of a tenant."""
    given, surname = rng.choice(UNUSUAL if rng.random() < UNUSUAL_SHARE else PLAIN)
    guest = rng.random() < population.guest_share
    city, country = rng.choice(CITIES)
    address = f"user{index}@fabrikam.com" if guest else f"user{index}@{domain}"
    properties: dict[str, Any] = {
        "id": _guid(rng),
        "userPrincipalName": f"user{index}_fabrikam.com#EXT#@{domain}" if guest else address,
        "displayName": f"{given} {surname}"[:256],
        "givenName": given[:64],
        "surname": surname[:64],
        "mail": address,
        "accountEnabled": rng.random() >= population.disabled_share,
        "userType": "Guest" if guest else "Member",
        "businessPhones": [f"+1 425 555 {index % 10000:04}"] if rng.random() < 0.5 else [],
        "department": rng.choice(DEPARTMENTS),
        "companyName": "Contoso",
        "city": city,
        "country": country,
        "usageLocation": country,
        "createdDateTime": f"20{rng.randrange(10, 26)}-0{rng.randrange(1, 10)}-1{rng.randrange(10)}T08:00:00Z",
    }
    if guest:
        properties |= {"externalUserState": "Accepted", "creationType": "Invitation"}
    else:
        properties |= {"employeeId": f"{index:06}", "officeLocation": rng.choice(OFFICES), "preferredLanguage": "en-US"}
    if rng.random() < 0.7:
        properties |= {"jobTitle": rng.choice(JOBS), "mobilePhone": f"+1 206 555 {index % 10000:04}"}
    side = rng.choice(SMALL_UPLOADS) if rng.random() < SMALL_SHARE else 648
    if rng.random() < population.photo_share:
        properties["photo"] = side
    return users.create(properties, logged=logged)


def device(rng: random.Random, index: int, tenant: Tenant, *, logged: bool) -> Device:
    """Add the device number `index` to a tenant: every 25th is the one before it, registered a second time, every 10th
    has never signed in, every 20th is disabled, and all but every 5th have one owner."""
    maker, model, system, version = MODELS[index % len(MODELS)]
    devices, users = tenant.devices, tenant.users.members
    made: dict[str, Any] = {
        "id": _guid(rng),
        "deviceId": _guid(rng),
        "displayName": f"{system.upper()}-{index:05}",
        "accountEnabled": index % 20 != 19,
        "operatingSystem": system,
        "operatingSystemVersion": version,
        "trustType": rng.choice(["AzureAd", "Workplace", "ServerAd"]),
        "profileType": "RegisteredDevice",
        "isCompliant": rng.random() < 0.8,
        "isManaged": rng.random() < 0.9,
        "manufacturer": maker,
        "model": model,
        "deviceOwnership": rng.choice(["Company", "Personal"]),
        "managementType": "mdm",
        "enrollmentType": "AzureDomainJoined",
        "physicalIds": [f"[HWID]:h:{rng.getrandbits(64)}"],
        "systemLabels": [],
        "registrationDateTime": f"20{rng.randrange(20, 26)}-0{rng.randrange(1, 10)}-1{rng.randrange(10)}T08:00:00Z",
    }
    if index % 10 != 9:
        made["approximateLastSignInDateTime"] = f"2026-0{rng.randrange(1, 10)}-1{rng.randrange(10)}T08:00:00Z"
    if index % 25 == 24:
        twin = devices.members[-1].properties
        made |= {name: twin[name] for name in ("displayName", "physicalIds", "manufacturer", "model")}
    added = devices.create(made, logged=logged)
    if users and index % 5 != 4:
        devices.link(added, [rng.choice(users)], logged=logged)
    return added


def _contact_groups(rng: random.Random, tenant: Tenant, population: Population) -> None:
    groups, users = tenant.groups, tenant.users.members[: population.contact_members]
    level_zero = group(rng, "Portal contacts", tenant, logged=False)
    below = [group(rng, f"Team {number}", tenant, logged=False) for number in range(1, population.contact_groups + 1)]
    for number, each in enumerate(below):
        groups.link(each, users[number :: len(below)], logged=False)
    groups.link(level_zero, below or users, logged=False)


def group(rng: random.Random, name: str, tenant: Tenant, *, logged: bool) -> Group:
    """Add a security group to a tenant."""
    made = {"id": _guid(rng), "displayName": name, "mailEnabled": False, "securityEnabled": True, "groupTypes": []}
    return tenant.groups.create(made | {"createdDateTime": "2025-06-02T08:00:00Z"}, logged=logged)


def _guid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def _secret(rng: random.Random) -> str:
    return "sim8Q~" + "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", k=34))
