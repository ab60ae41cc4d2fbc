"""A worker that dies during a photo run, whenever that is: the next one ends the run and counts everybody once."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from sync import photos
from sync.runs import Claim
from tests.cloud import NewTenant
from tests.house import House

LONG = timedelta(minutes=5)


class Death(BaseException):
    """Nothing in the product may catch the end of its process."""


def die_before(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `number`th write of a claim never happens."""
    writes = 0
    commit = Claim.commit

    def dying(self, *args, **keywords):
        nonlocal writes
        writes += 1
        if writes == number:
            raise Death
        commit(self, *args, **keywords)

    monkeypatch.setattr(Claim, "commit", dying)


@pytest.mark.parametrize("second_pass", [False, True])
@pytest.mark.parametrize("death", [2, 3])
def test_a_death_before_any_write_loses_and_doubles_nothing(
    build_house: Callable[..., House],
    new_tenant: NewTenant,
    monkeypatch: pytest.MonkeyPatch,
    death: int,
    second_pass: bool,
) -> None:
    """A round of 20 changed photos takes two transactions: the stretch between them is the delicate one."""
    monkeypatch.setattr(photos, "COMMIT_WRITES", 15)
    monkeypatch.setattr(photos, "WRITES", 12)
    house = build_house(photo_batches=1)
    tenant = new_tenant(users=36, photoShare=1, guestShare=0)
    name = house.connect(tenant, users={}, photos={})
    house.run(name, "users")
    if second_pass:
        house.run(name, "photos")
        house.run(name, "photos")
        tenant.control.post("mutate", {"count": 30, "seed": 1, "kinds": ["photo"]})
    _, cursor = house.changes(name)
    house.start(name, "photos")
    die_before(death, monkeypatch)

    with pytest.raises(Death):
        house.work()
    house.clock.ahead += LONG
    run = house.run(name, "photos")

    assert run["status"] == "succeeded"
    assert run["slices"] == 2
    kind, expected = ("updated", 30) if second_pass else ("created", 36)
    assert run["counts"][kind] == pytest.approx(expected, abs=2)
    assert sum(run["counts"].values()) == run["progress"]["total"] == 36
    changes, _ = house.changes(name, cursor)
    assert max(Counter(change["id"] for change in changes).values()) == 1
    assert Counter(change["change"] for change in changes) == {kind: run["counts"][kind]}
    held = {key for key, user in house.users(name).items() if user["photo"]}
    assert {change["id"] for change in changes} <= held <= set(house.users(name))
