"""Many changes to a tenant at once, the same for the same seed."""

import random
from collections import defaultdict
from typing import Literal

from pydantic import Field

from local.cloud.model import Model
from local.cloud.names import PLAIN
from local.cloud.population import Population, person
from local.cloud.tenants import Tenant
from local.cloud.users import User

Kind = Literal["patch", "create", "delete", "restore", "photo", "removePhoto"]


class Mutation(Model):
    """`kinds` are drawn with equal chance; one that cannot happen (nobody to restore) becomes a patch."""

    count: int = Field(ge=0)
    seed: int = 0
    kinds: list[Kind] = Field(default=["patch", "create", "delete", "restore", "photo", "removePhoto"], min_length=1)


def mutate(tenant: Tenant, mutation: Mutation) -> dict[str, list[str]]:
    """Change `count` different users; returns their ids by kind of change."""
    rng = random.Random(mutation.seed)
    users = tenant.users
    live = rng.sample(list(users.live()), k=min(mutation.count, sum(1 for _ in users.live())))
    gone = [user for user in users.members if user.deleted_at and not user.purged]
    done: dict[str, list[str]] = defaultdict(list)
    for number in range(mutation.count):
        kind = rng.choice(mutation.kinds)
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
