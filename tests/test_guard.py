"""Deletion guard, dry run, approve and reject, through the API."""


def plan(house, name, run):
    return house.get(f"connections/{name}/runs/{run}/plan?top=1000")["items"]


def test_mass_deletion_is_held_and_everything_else_goes_on(house, new_tenant):
    """Past the guard, deletions wait; creates are applied; approve deletes exactly what was shown."""
    tenant = new_tenant(users=40, guestShare=0, disabledShare=0)
    name = house.connect(tenant, users={"includeGuests": True})
    assert house.run(name, "users")["counts"]["created"] == 40
    gone = tenant.control.post("mutate", {"count": 12, "seed": 1, "kinds": ["delete"]})["delete"]
    tenant.control.post("mutate", {"count": 3, "seed": 2, "kinds": ["create"]})

    run = house.run(name, "users")

    assert (run["status"], run["counts"]["created"], run["counts"]["skipped"], run["counts"]["deleted"]) == (
        "held",
        3,
        12,
        0,
    )
    assert run["error"]["code"] == "deletions-held"
    assert {line["id"] for line in plan(house, name, run["id"])} == set(gone)
    assert len(house.users(name, state="active")) == 43
    again = house.run(name, "users")
    assert (again["status"], again["counts"]["skipped"]) == ("held", 12)
    rejected = house.call("POST", f"connections/{name}/runs/{again['id']}/reject")
    assert (rejected.status, rejected.json["status"]) == (200, "partial")
    tenant.control.post(f"users/{gone[0]}/restore")
    back = house.run(name, "users")
    assert (back["status"], back["counts"]["skipped"]) == ("held", 11)
    assert house.call("POST", f"connections/{name}/runs/{run['id']}/approve").status == 202
    house.work()
    done = house.get(f"connections/{name}/runs/{run['id']}")
    assert (done["status"], done["counts"]["deleted"], done["counts"]["skipped"]) == ("succeeded", 11, 0)
    assert set(house.users(name, state="deleted")) == set(gone[1:])
    assert house.run(name, "users")["status"] == "succeeded"


def test_dry_run_shows_the_plan_and_writes_nothing(house, new_tenant):
    """A dry run lists what would happen to each item; users, feed and delta link stay as they are."""
    tenant = new_tenant(users=30, guestShare=0.1)
    name = house.connect(tenant, users={})
    first = house.run(name, "users", dryRun=True)
    assert first["status"] == "succeeded"
    assert house.users(name) == {}
    assert {line["action"] for line in plan(house, name, first["id"])} == {"create", "none"} or first["counts"][
        "skipped"
    ] == 0
    created = house.run(name, "users")["counts"]["created"]
    assert first["counts"]["created"] == created
    gone = tenant.control.post("mutate", {"count": 2, "seed": 1, "kinds": ["delete"]})["delete"]
    before = house.changes(name)
    for mode in ("delta", "full"):
        dry = house.run(name, "users", dryRun=True, mode=mode)
        deletes = {line["id"] for line in plan(house, name, dry["id"]) if line["action"] == "delete"}
        assert (dry["status"], dry["counts"]["deleted"], deletes) == (
            "succeeded",
            len(set(gone) & set(house.users(name))),
            set(gone) & set(house.users(name)),
        )
    assert house.changes(name) == before
    assert house.run(name, "users")["counts"]["deleted"] == len(set(gone) & set(house.users(name)))
