"""An admin wants to know what a sync would do before it does it."""


def test_a_dry_run_says_what_the_real_one_then_does(portal, connect) -> None:
    customer = connect(users=20, devices=6, roles=["User.Read.All", "Device.Read.All"])
    customer.enable("users", "devices")

    dry = customer.sync("users", dryRun=True)
    assert (dry["dryRun"], dry["counts"]["created"], customer.users()) == (True, 20, {})
    lines = list(portal.items(f"{customer.path}/runs/{dry['id']}/plan"))
    assert {(line["entity"], line["action"], line["reason"]) for line in lines} == {("user", "create", "new")}
    assert {line["id"] for line in lines} == set(customer.tenant.people())
    assert portal.changes(customer.name, None)[0] == []
    page = portal.get(f"{customer.path}/runs/{dry['id']}/plan?top=7")
    assert (len(page["items"]), page["next"] is None) == (7, False)

    customer.sync("users")
    customer.tenant.call("POST", "mutate", {"count": 6, "seed": 1, "kinds": ["patch", "create", "delete"]})
    before = customer.users()
    dry = customer.sync("users", dryRun=True)
    assert (customer.users(), customer.users("deleted")) == (before, {})
    real = customer.sync("users")
    assert real["counts"] == dry["counts"]
    assert real["graph"]["requests"] == dry["graph"]["requests"] == 1

    assert customer.sync("devices", dryRun=True)["counts"]["created"] == 6
    assert list(portal.items(f"{customer.path}/devices")) == []
    assert [run["dryRun"] for run in customer.runs("users")] == [False, True, False, True]
    last = {each["sync"]: each["lastRun"] for each in portal.items(f"{customer.path}/syncs")}
    assert (last["users"]["id"], last["devices"]) == (real["id"], None)


def test_a_dry_run_says_what_the_guard_would_hold_back(portal, connect) -> None:
    customer = connect(users=20)
    customer.enable("users")
    customer.sync("users")
    gone = customer.tenant.call("POST", "mutate", {"count": 10, "seed": 1, "kinds": ["delete"]})["delete"]

    dry = customer.sync("users", dryRun=True)

    lines = portal.items(f"{customer.path}/runs/{dry['id']}/plan")
    assert {line["id"] for line in lines if line["action"] == "delete"} == set(gone)
    log = [line["reason"] for line in portal.items(f"{customer.path}/runs/{dry['id']}/log")]
    assert log == ["would-be-held"]
    assert len(customer.users()) == 20
