"""An admin connects a tenant and has its people in the portal, first all of them and then what changed."""

from tests.journeys.conftest import Customer

FIELDS = ("displayName", "userPrincipalName", "mail", "jobTitle", "department", "mobilePhone", "accountEnabled")


def same_people(customer: Customer) -> None:
    theirs = customer.tenant.people()
    ours = customer.users()

    assert {key: [user.get(name) for name in FIELDS] for key, user in theirs.items()} == {
        key: [user[name] for name in FIELDS] for key, user in ours.items()
    }


def test_a_tenant_is_connected_checked_and_its_people_are_kept_in_step(portal, connect, new_tenant) -> None:
    customer = connect(users=250)
    shown = portal.get(customer.path)
    assert (shown["status"], shown["credential"]["secretId"]) == ("unchecked", customer.tenant.secret["keyId"])
    assert customer.tenant.secret["value"] not in str(shown)

    customer.enable("users")
    checked = portal.post(f"{customer.path}/check")
    assert checked["status"] == "confirmed"
    assert checked["tenant"]["id"] == customer.tenant.id
    assert portal.get(customer.path)["lastCheck"] == checked

    first = customer.sync("users")
    same_people(customer)
    assert (first["counts"]["created"], sum(first["counts"].values())) == (250, 250)
    changes, cursor = portal.changes(customer.name, None)
    assert {change["id"] for change in changes if change["change"] == "created"} == set(customer.users())

    customer.tenant.call("POST", "counters")
    nothing = customer.sync("users")
    assert sum(nothing["counts"].values()) == 0
    assert customer.tenant.call("GET", "counters")["graph"]["requests"] == nothing["graph"]["requests"] == 1
    assert portal.changes(customer.name, cursor) == ([], cursor)

    done = customer.tenant.call("POST", "mutate", {"count": 20, "seed": 1, "kinds": ["patch", "create", "delete"]})
    run = customer.sync("users")
    same_people(customer)
    assert run["counts"]["created"] == len(done["create"])
    assert run["counts"]["deleted"] == len(done["delete"])
    changes, _ = portal.changes(customer.name, cursor)
    told = {(change["id"], change["change"]) for change in changes}
    assert told == {
        (key, word)
        for kind, word in (("patch", "updated"), ("create", "created"), ("delete", "deleted"))
        for key in done[kind]
    }
    assert set(customer.users("deleted")) == set(done["delete"])

    back = done["delete"][0]
    customer.tenant.call("POST", f"users/{back}/restore")
    assert customer.sync("users")["counts"]["restored"] == 1
    same_people(customer)


def test_two_customers_never_see_each_other(connect) -> None:
    one, other = connect(), connect()
    for customer in (one, other):
        customer.enable("users")
        customer.sync("users")

    assert set(one.users()) == set(one.tenant.people())
    assert set(other.users()) == set(other.tenant.people())
    stranger = next(iter(other.users()))
    for path in (f"{one.path}/users/{stranger}", f"{one.path}/runs/{other.runs('users')[0]['id']}"):
        assert one.portal.send("GET", path).status_code == 404


def test_every_fault_of_graph_is_ridden_out(connect) -> None:
    """Nothing lost and nothing doubled while every third request fails, and every Retry-After is honoured."""
    customer = connect(users=60)
    retry = {"style": "seconds", "seconds": 1}
    faults = {"rate429": 0.1, "rate503": 0.1, "rateReset": 0.1, "rateBatchItem": 0.1, "retryAfter": retry, "seed": 7}
    customer.tenant.call("POST", "faults", faults)
    customer.enable("users", "photos")

    customer.sync("users")
    run = customer.sync("photos")

    same_people(customer)
    photos = {key for key, user in customer.tenant.people().items() if user["photo"]}
    assert customer.pictured() == photos
    assert (run["counts"]["created"], sum(run["counts"].values())) == (len(photos), 60)
    assert customer.tenant.call("GET", "counters")["graph"]["retryViolations"] == 0
