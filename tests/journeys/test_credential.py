"""Secrets end: the admin sees it, enters another one, and the syncs go on."""


def credential(secret: dict[str, str], **changes: str) -> dict[str, str]:
    return {
        "type": "clientSecret",
        "secretId": secret["keyId"],
        "secretValue": secret["value"],
        "expiresOn": secret["endDateTime"][:10],
        **changes,
    }


def test_a_new_secret_takes_the_place_of_the_old_one(portal, connect) -> None:
    customer = connect()
    app = f"apps/{customer.tenant.app['appId']}"
    customer.enable("users")
    customer.sync("users")
    new = customer.tenant.call("POST", f"{app}/secrets", {"displayName": "next"})

    wrong = portal.send("PUT", f"{customer.path}/credential", credential(new, secretValue=new["keyId"]))
    assert (wrong.status_code, wrong.json()["code"]) == (422, "credential-rejected")
    assert wrong.json()["findings"][0]["code"] == "aadsts-7000215"
    assert portal.post(f"{customer.path}/check")["status"] == "confirmed"

    shown = portal.put(f"{customer.path}/credential", credential(new))
    assert shown["credential"]["secretId"] == new["keyId"]
    customer.tenant.call("DELETE", f"{app}/secrets/{customer.tenant.secret['keyId']}")
    assert portal.post(f"{customer.path}/check")["status"] == "confirmed"
    customer.tenant.call("POST", "mutate", {"count": 1, "seed": 1, "kinds": ["patch"]})
    assert customer.sync("users")["counts"]["updated"] == 1


def test_an_ended_secret_fails_the_run_with_a_remedy_and_a_new_one_heals_it(portal, connect) -> None:
    customer = connect()
    app = f"apps/{customer.tenant.app['appId']}"
    customer.enable("users")
    ended = {"endDateTime": "2020-01-01T00:00:00Z"}
    customer.tenant.call("PATCH", f"{app}/secrets/{customer.tenant.secret['keyId']}", ended)

    failed = portal.sync(customer.name, "users")

    assert (failed["status"], failed["error"]["code"]) == ("failed", "aadsts-7000222")
    assert failed["error"]["remedy"]
    assert portal.get(customer.path)["status"] == "expired"
    new = customer.tenant.call("POST", f"{app}/secrets", {})
    portal.put(f"{customer.path}/credential", credential(new))
    assert customer.sync("users")["counts"]["created"] == 30
    assert portal.post(f"{customer.path}/check")["status"] == "confirmed"


def test_a_missing_permission_is_named_for_the_sync_that_needs_it(portal, connect) -> None:
    customer = connect(roles=["Place.Read.All"])
    customer.enable("users", "photos")

    checked = portal.post(f"{customer.path}/check")

    assert checked["status"] == "limited"
    assert set(checked["permissions"]["missing"]) == {"users", "photos"}
    customer.tenant.call("PATCH", f"apps/{customer.tenant.app['appId']}", {"roles": ["User.Read.All"]})
    assert portal.post(f"{customer.path}/check")["status"] == "confirmed"
