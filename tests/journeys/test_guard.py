"""Somebody empties half the directory by mistake: nothing is lost until a person has looked."""

from tests.journeys.conftest import Customer


def plan(customer: Customer, run) -> dict[str, tuple[str, str, str]]:
    lines = customer.portal.items(f"{customer.path}/runs/{run['id']}/plan")
    return {line["id"]: (line["action"], line["reason"], line["displayName"]) for line in lines}


def test_deletions_wait_while_all_else_goes_on(portal, connect) -> None:
    customer = connect(users=40)
    customer.enable("users")
    customer.sync("users")
    names = {key: user["displayName"] for key, user in customer.users().items()}
    gone = customer.tenant.call("POST", "mutate", {"count": 20, "seed": 1, "kinds": ["delete"]})["delete"]
    hire = {"userPrincipalName": "hired@contoso.example", "displayName": "Hired"}
    hired = customer.tenant.call("POST", "users", hire)["id"]

    held = portal.sync(customer.name, "users")
    assert (held["status"], held["error"]["code"]) == ("held", "deletions-held")
    assert (held["counts"]["created"], held["counts"]["deleted"], held["counts"]["skipped"]) == (1, 0, 20)
    assert set(customer.users()) == {*names, hired}
    assert plan(customer, held) == {key: ("delete", "left", names[key]) for key in gone}
    assert [run["id"] for run in portal.items(f"{customer.path}/runs?status=held")] == [held["id"]]

    rejected = portal.post(f"{customer.path}/runs/{held['id']}/reject")
    assert (rejected["status"], rejected["error"]["code"]) == ("partial", "deletions-rejected")
    customer.tenant.call("POST", f"users/{gone[0]}/restore")
    again = portal.sync(customer.name, "users")
    assert (again["status"], set(plan(customer, again))) == ("held", set(gone[1:]))

    approved = portal.send("POST", f"{customer.path}/runs/{again['id']}/approve")
    assert approved.status_code == 202
    assert approved.headers["Location"].endswith(again["id"])
    done = customer.wait(approved.json())
    assert (done["status"], done["counts"]["deleted"], done["counts"]["skipped"]) == ("succeeded", 19, 0)
    assert set(customer.users("deleted")) == set(gone[1:])
    assert set(customer.users()) == set(customer.tenant.people())
    twice = portal.send("POST", f"{customer.path}/runs/{again['id']}/approve")
    assert (twice.status_code, twice.json()["code"]) == (409, "run-not-held")


def test_what_a_listing_does_not_show_is_not_deleted_at_once_either(portal, connect) -> None:
    customer = connect(users=40)
    customer.enable("users")
    customer.sync("users")
    customer.tenant.call("POST", "mutate", {"count": 20, "seed": 1, "kinds": ["delete"]})

    held = portal.sync(customer.name, "users", mode="full")

    assert (held["status"], len(customer.users()), held["counts"]["unchanged"]) == ("held", 40, 20)
    stopped = portal.post(f"{customer.path}/runs/{held['id']}/cancel")
    assert stopped["status"] == "cancelled"
    customer.enable("users", deletionGuard={"maxCount": 20, "maxPercent": 50})
    assert customer.sync("users")["counts"]["deleted"] == 20
    assert customer.portal.get(f"{customer.path}/runs/{held['id']}")["status"] == "cancelled"
