"""A run that somebody stops: it ends soon, what it wrote stays, and the next one completes the work."""

import time


def test_a_running_sync_is_stopped_and_the_next_one_completes_it(portal, connect) -> None:
    customer = connect(users=200)
    customer.enable("users", "photos")
    customer.sync("users")
    customer.tenant.call("POST", "faults", {"latencyMs": 1500})
    run = portal.start(customer.name, "photos")
    while not 0 < run["progress"]["done"] < 200:
        assert run["status"] in ("queued", "running")
        time.sleep(0.05)
        run = portal.run(customer.name, run["id"])

    asked = portal.post(f"{customer.path}/runs/{run['id']}/cancel")
    ended = customer.wait(asked)

    assert ended["status"] == "cancelled"
    assert sum(ended["counts"].values()) < 200
    assert len(customer.pictured()) == ended["counts"]["created"] > 0
    again = portal.send("POST", f"{customer.path}/runs/{run['id']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "run-finished")

    customer.tenant.call("POST", "faults", {})
    customer.sync("photos")
    customer.sync("photos")  # finds the photos that are smaller than the wished size, too
    theirs = {key for key, user in customer.tenant.people().items() if user["photo"]}
    assert customer.pictured() == theirs
    changes, _ = portal.changes(customer.name, None)
    told = [change["id"] for change in changes if (change["entity"], change["change"]) == ("photo", "created")]
    assert sorted(told) == sorted(theirs)


def test_a_second_request_gets_the_run_that_is_active(portal, connect) -> None:
    customer = connect(users=100)
    customer.tenant.call("POST", "faults", {"latencyMs": 1000})
    customer.enable("users")

    first = portal.start(customer.name, "users")
    second = portal.start(customer.name, "users", mode="full")

    assert second["id"] == first["id"]
    assert customer.wait(second)["status"] == "succeeded"
    assert len(customer.runs("users")) == 1
