"""A secret ends while nobody looks: the portal says so, nothing is lost or tried in vain, and a new one heals it."""

import time

from tests.journeys.conftest import Customer
from tests.journeys.test_credential import credential
from tests.journeys.test_schedule import tick

HOURLY = {"mode": "interval", "every": "PT1H"}


def new_secret(customer: Customer) -> dict[str, str]:
    """One more secret of the app, entered into the portal."""
    secret: dict[str, str] = customer.tenant.call("POST", f"apps/{customer.tenant.app['appId']}/secrets", {})
    customer.portal.put(f"{customer.path}/credential", credential(secret))
    return secret


def ticked(stack, customer: Customer, runs: int) -> None:
    """The timer has fired, and there are so many runs of users, all of them over."""
    assert tick(stack, "periodic_directory_sync", stack.master_key) == 202
    last = time.monotonic() + 120
    while len(found := customer.runs("users")) < runs or any(run["finishedAt"] is None for run in found):
        assert time.monotonic() < last
        time.sleep(0.05)


def test_a_lapse_stops_the_syncs_without_harm_until_a_new_secret_is_entered(stack, portal, connect) -> None:
    customer = connect()
    customer.enable("users")
    customer.sync("users")
    secret = new_secret(customer)  # from now on a token is needed that this secret buys
    ended = {"endDateTime": "2020-01-01T00:00:00Z"}
    customer.tenant.call("PATCH", f"apps/{customer.tenant.app['appId']}/secrets/{secret['keyId']}", ended)
    gone = customer.tenant.call("POST", "mutate", {"count": 3, "seed": 1, "kinds": ["delete"]})["delete"]
    customer.enable("users", schedule=HOURLY)

    ticked(stack, customer, runs=2)
    failed = customer.runs("users")[0]
    assert (failed["trigger"], failed["status"], failed["error"]["code"]) == ("timer", "failed", "aadsts-7000222")
    assert failed["error"]["remedy"]
    assert portal.get(customer.path)["status"] == "expired"
    assert len(customer.users()) == 30

    customer.tenant.call("POST", "counters")
    ticked(stack, customer, runs=2)
    counters = customer.tenant.call("GET", "counters")
    assert (counters["tokensRefused"], counters["graph"]["requests"], len(customer.runs("users"))) == (0, 0, 2)

    new_secret(customer)
    assert portal.get(customer.path)["status"] == "unchecked"
    ticked(stack, customer, runs=3)
    healed = customer.runs("users")[0]
    assert (healed["trigger"], healed["status"], healed["counts"]["deleted"]) == ("timer", "succeeded", 3)
    assert healed["graph"]["requests"] == 1  # the delta link of before
    assert set(customer.users("deleted")) == set(gone)
