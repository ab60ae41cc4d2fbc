"""The simulated cloud as a process, and its control endpoint."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.cloud import ROOT, Cloud, Control, TestTenant

CONTOSO = ROOT / "local" / "tenants" / "contoso.json"


@contextmanager
def process(directory: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """A cloud of its own and the line that it printed; it is ended at last if the test did not end it."""
    command = [sys.executable, "-m", "local.cloud", "--dir", str(directory), *options]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            yield child, json.loads(child.stdout.readline())
        finally:
            child.kill()


def trusting(line: dict[str, Any]) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.verify = line["ca"]
    return session


def refused(control: Control, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    answer = control.session.request(method, f"{control.url}/{path}", json=body, timeout=60)
    return answer.status_code, answer.json()


# The process


def test_the_line_that_it_prints(tmp_path):
    options = ["--tenant", str(CONTOSO), "--generate", "users=5,seed=3,photoShare=1"]
    with process(tmp_path, *options) as (_, line), trusting(line) as session:
        tenants = session.get(f"{line['control']}/tenants", timeout=60).json()

        assert set(line) == {"entra", "graph", "vault", "identity", "control", "ca"}
        assert set(line["identity"]) == {"endpoint", "header"}
        assert line["ca"] == str(tmp_path / "ca.pem")
        assert [(tenant["displayName"], tenant["users"], tenant["photos"]) for tenant in tenants] == [
            ("Contoso", 12, 9),
            ("Contoso 3", 5, 5),
        ]
        for name in ("entra", "graph", "vault"):
            assert session.get(line[name], timeout=60).status_code in (401, 404)
        assert session.get(line["identity"]["endpoint"], timeout=60).status_code == 401


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path, number):
    with process(tmp_path) as (child, _):
        child.send_signal(number)

        assert child.wait(timeout=60) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ca.pem"]


def test_it_ends_with_its_parent(tmp_path):
    with process(tmp_path, "--with-parent") as (child, _):
        assert child.stdin
        child.stdin.close()

        assert child.wait(timeout=60) == 0


def test_only_the_vault(tmp_path):
    with process(tmp_path, "--only", "vault") as (_, line), trusting(line) as session:
        assert (line["entra"], line["graph"], line["control"]) == (None, None, None)
        assert session.get(line["vault"], timeout=60).status_code in (401, 404)
        assert line["identity"]["endpoint"].endswith("/msi/token")


def are_free(base: int) -> bool:
    """Whether five ports from here can be bound; below the range that the system hands out by itself."""
    with ExitStack() as sockets:
        for port in range(base, base + 5):
            try:
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                return False
    return True


def test_ports_in_a_row(tmp_path):
    base = next(base for base in range(20000 + os.getpid() % 5000, 32000, 5) if are_free(base))
    with process(tmp_path, "--port", str(base)) as (_, line):
        urls = [line["entra"], line["graph"], line["vault"], line["identity"]["endpoint"], line["control"]]

        assert [int(url.split(":")[2].split("/")[0]) for url in urls] == list(range(base, base + 5))


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "local.cloud", "--dir", str(tmp_path), "--port", str(taken.getsockname()[1])]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_roles_of_a_generated_app(tmp_path):
    roles = "roles=User.Read.All+Organization.Read.All"
    with process(tmp_path, "--generate", f"users=1,{roles}") as (_, line), trusting(line) as session:
        [tenant] = session.get(f"{line['control']}/tenants", timeout=60).json()

    assert tenant["apps"][0]["roles"] == ["User.Read.All", "Organization.Read.All"]


def test_the_certificate_holds_for_both_names_under_strict_rules(cloud):
    context = ssl.create_default_context(cafile=cloud.ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    port = int(cloud.graph.rsplit(":", 1)[1])
    for name in ("localhost", "127.0.0.1"):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            certificate = secured.getpeercert()

        assert certificate
        begins = ssl.cert_time_to_seconds(str(certificate["notBefore"]))
        assert begins < datetime.now(UTC).timestamp() - timedelta(hours=23).total_seconds()


def vault_call(line: dict[str, Any], session: requests.Session, method: str, **body: str) -> requests.Response:
    identity = line["identity"]
    query = {"api-version": "2019-08-01", "resource": "https://vault.azure.net"}
    header = {"X-IDENTITY-HEADER": identity["header"]}
    token = session.get(identity["endpoint"], params=query, headers=header, timeout=60).json()["access_token"]
    return session.request(
        method,
        f"{line['vault']}/secrets/mine",
        params={"api-version": "7.4"},
        headers={"Authorization": f"Bearer {token}"},
        json=body or None,
        timeout=60,
    )


def test_secrets_outlive_the_process(tmp_path):
    """Even when it is killed."""
    with process(tmp_path, "--only", "vault") as (_, line), trusting(line) as session:
        vault_call(line, session, "PUT", value="hidden")
    mode = (tmp_path / "vault.json").stat().st_mode & 0o777
    with process(tmp_path, "--only", "vault") as (_, line), trusting(line) as session:
        kept = vault_call(line, session, "GET").json()["value"]

    assert (kept, mode) == ("hidden", 0o600)


def test_the_vault_can_be_made_to_fail(tmp_path):
    with process(tmp_path) as (_, line), trusting(line) as session:
        control = Control(line["control"], session)
        control.post("vault", {"unavailable": True})
        down = vault_call(line, session, "GET").status_code
        control.post("vault", {"throttled": 1})
        busy = vault_call(line, session, "GET").status_code
        after = vault_call(line, session, "GET").status_code

    assert (down, busy, after) == (503, 429, 404)


# Tenants


def test_the_same_seed_gives_the_same_tenant(cloud):
    population = {"users": 50, "seed": 4242, "guestShare": 0.4, "disabledShare": 0.4, "photoShare": 0.4}
    one = cloud.generate(**population)
    first = (one.id, one.app["appId"], one.secret, one.control.get("users"))
    again = cloud.generate(**population)

    assert (again.id, again.app["appId"], again.secret, again.control.get("users")) == first
    again.control.delete("")


def test_another_seed_gives_another_tenant(new_tenant):
    one, other = new_tenant(users=3), new_tenant(users=3)

    assert one.id != other.id
    assert not {user["id"] for user in one.control.get("users")} & {user["id"] for user in other.control.get("users")}


def test_the_shares_of_a_generated_tenant(new_tenant):
    tenant = new_tenant(users=2000, guestShare=0.2, disabledShare=0.1, photoShare=0.6)
    users = tenant.control.get("users")
    guests = [user for user in users if user["userType"] == "Guest"]

    assert 340 < len(guests) < 460
    assert 150 < sum(not user["accountEnabled"] for user in users) < 250
    assert 1100 < sum(user["photo"] is not None for user in users) < 1300
    assert any(user["photo"] and user["photo"]["longest"] < 240 for user in users)
    assert all("#EXT#@" in user["userPrincipalName"] for user in guests)


def test_names_of_a_generated_tenant_are_not_all_easy(new_tenant):
    names = " ".join(user["displayName"] for user in new_tenant(users=1500).control.get("users"))

    for part in (
        "O'Brien",
        '"Bob"',
        "王",
        "佐藤",
        "العبدالله",
        "त्रिपाठी",
        "🌸",
        "DROP TABLE",
        "<b>",
    ):
        assert part in names


def test_contoso_and_its_story(tmp_path):
    """Every step of the story in the data file is a control call that works."""
    data = json.loads(CONTOSO.read_text("utf-8"))
    with process(tmp_path, "--tenant", str(CONTOSO)) as (_, line), trusting(line) as session:
        control = Control(f"{line['control']}/tenants/{data['domain']}", session)
        before = {user["id"]: user for user in control.get("users")}
        for step in data["story"]:
            answer = session.request(step["method"], f"{control.url}/{step['path']}", json=step.get("body"), timeout=60)
            assert answer.ok, step["says"]
        after = {user["id"]: user for user in control.get("users")}

    assert len(before) == 12
    assert len(after) == 13
    assert sum(user["state"] == "deleted" for user in after.values()) == 1
    assert sum(before[key]["displayName"] != after[key]["displayName"] for key in before) == 1
    assert sum(before[key]["photo"] != after[key]["photo"] for key in before) == 2


def test_a_tenant_from_data_and_its_end(cloud):
    data = {
        "displayName": "Fabrikam",
        "domain": "fabrikam.example",
        "apps": [{"displayName": "Ours", "roles": ["User.Read.All"], "secrets": [{"value": "well known"}]}],
        "users": [{"userPrincipalName": "ann@fabrikam.example", "displayName": "Ann", "photo": 120}],
    }
    tenant = cloud.load(data)
    listed = [each["id"] for each in cloud.control.get("tenants")]
    [ann] = tenant.graph().get("/users").json()["value"]

    assert tenant.secret == "well known"
    assert tenant.id in listed
    assert ann["displayName"] == "Ann"
    assert tenant.control.get()["photos"] == 1
    tenant.control.delete("")
    assert refused(tenant.control, "GET", "users")[0] == 404


# Users


def test_the_life_of_a_user(tenant):
    control = tenant.control
    user = control.post("users", {"userPrincipalName": "ann@contoso.com", "displayName": "Ann"})
    path = f"users/{user['id']}"
    control.patch(path, {"displayName": "Anna", "userPrincipalName": "anna@contoso.com"})
    control.delete(path)
    gone = control.get(path)
    control.post(f"{path}/restore")
    back = control.get(path)
    control.post(f"{path}/purge")

    assert user["state"] == "live"
    assert (gone["state"], "deletedDateTime" in gone) == ("deleted", True)
    assert (back["state"], back["displayName"], "deletedDateTime" in back) == ("live", "Anna", False)
    assert refused(control, "GET", path)[0] == 404


def test_what_is_gone_cannot_go_again(tenant):
    user = tenant.control.get("users")[0]
    tenant.control.delete(f"users/{user['id']}")

    assert refused(tenant.control, "DELETE", f"users/{user['id']}")[0] == 404
    tenant.control.post(f"users/{user['id']}/purge")
    assert refused(tenant.control, "POST", f"users/{user['id']}/purge")[0] == 404


def test_a_photo_as_graph_serves_it(new_tenant):
    tenant = new_tenant(users=1, photoShare=0)
    path = f"users/{tenant.control.get('users')[0]['id']}/photo"
    missing = refused(tenant.control, "GET", path)[0]
    tenant.control.put(path, {"longest": 240})

    assert missing == 404
    assert tenant.control.get(path).startswith(b"\xff\xd8")
    assert refused(tenant.control, "GET", f"{path}?size=648x648")[0] == 404


def test_a_second_app(tenant):
    app = tenant.control.post("apps", {"displayName": "Other", "roles": ["User.Read.All"]})
    secret = tenant.control.post(f"apps/{app['appId']}/secrets", {})
    other = TestTenant(tenant.cloud, tenant.control, tenant.id, tenant.domain, {**app, "secrets": [secret]})

    assert [each["appId"] for each in tenant.control.get()["apps"]] == [tenant.client_id, app["appId"]]
    assert len(other.graph().get("/users").json()["value"]) == 30


def test_names_are_taken_once(tenant):
    control = tenant.control
    control.post("users", {"userPrincipalName": "ann@contoso.com"})
    bob = control.post("users", {"userPrincipalName": "bob@contoso.com"})

    assert refused(control, "POST", "users", {"userPrincipalName": "ANN@contoso.com"})[0] == 409
    assert refused(control, "POST", "users", {"userPrincipalName": "x@contoso.com", "id": bob["id"]})[0] == 409
    assert refused(control, "PATCH", f"users/{bob['id']}", {"userPrincipalName": "ann@contoso.com"})[0] == 409
    assert control.get(f"users/{bob['id']}")["userPrincipalName"] == "bob@contoso.com"
    assert control.get()["users"] == 32
    control.patch(f"users/{bob['id']}", {"userPrincipalName": "BOB@contoso.com"})
    assert tenant.graph().get("/users/bob@contoso.com").json()["userPrincipalName"] == "BOB@contoso.com"


def test_a_restored_user_whose_name_was_taken(tenant):
    control = tenant.control
    ann = control.post("users", {"userPrincipalName": "ann@contoso.com"})
    control.delete(f"users/{ann['id']}")
    control.post("users", {"userPrincipalName": "ann@contoso.com"})

    assert refused(control, "POST", f"users/{ann['id']}/restore")[0] == 409
    assert control.get(f"users/{ann['id']}")["state"] == "deleted"


def test_many_changes_at_once(new_tenant):
    tenant = new_tenant(users=200)
    before = {user["id"]: user for user in tenant.control.get("users")}
    for user_id in list(before)[:5]:
        tenant.control.delete(f"users/{user_id}")
    done = tenant.control.post("mutate", {"count": 60, "seed": 9})
    after = {user["id"]: user for user in tenant.control.get("users")}
    changed = [user_id for kind in done.values() for user_id in kind]

    assert set(done) == {"patch", "create", "delete", "restore", "photo", "removePhoto"}
    assert len(changed) == len(set(changed)) == 60
    assert all(after[key]["displayName"] != before[key]["displayName"] for key in done["patch"])
    assert set(done["create"]) == set(after) - set(before)
    assert all(after[key]["state"] == "deleted" for key in done["delete"])
    assert all(after[key]["state"] == "live" for key in done["restore"])
    assert all(after[key]["photo"] != before[key]["photo"] is not after[key] for key in done["photo"])
    assert all(before[key]["photo"] and not after[key]["photo"] for key in done["removePhoto"])


def test_more_changes_than_there_are_users(new_tenant):
    tenant = new_tenant(users=3)

    assert len(tenant.control.post("mutate", {"count": 10, "kinds": ["delete"]})["delete"]) == 3


def test_the_same_changes_for_the_same_seed(cloud):
    def changed() -> Any:
        tenant = cloud.generate(users=100, seed=777)
        done = tenant.control.post("mutate", {"count": 40, "seed": 1})
        return done, tenant.control.get("users", state="live"), tenant

    (first, live, _), (again, live_again, tenant) = changed(), changed()

    assert (first, live) == (again, live_again)
    tenant.control.delete("")


# Counters, clocks, bodies


def test_counters_and_the_journal(tenant):
    graph = tenant.graph()
    user = tenant.control.get("users")[0]
    graph.get("/users?$top=5", headers={"client-request-id": "11111111-2222-4333-8444-555555555555"})
    graph.get("/users/delta")
    graph.batch(f"/users/{user['id']}/photos/240x240/$value", "/users/nobody@contoso.com")
    graph.get("/nothing")
    journal = tenant.control.get("journal")
    before = tenant.control.post("counters")

    assert before == {
        "tokens": 1,
        "tokensRefused": 0,
        "graph": {
            "requests": 4,
            "batchPosts": 1,
            "batchItems": 2,
            "byTemplate": {
                "GET /users": 1,
                "GET /users/delta": 1,
                "POST /$batch": 1,
                "GET /users/{id}/photos/{size}/$value": 1,
                "GET /users/{id}": 1,
                "unknown": 1,
            },
            "throttled": 0,
            "faulted": 0,
            "retryViolations": 0,
        },
    }
    assert tenant.control.get("counters")["graph"]["requests"] == 0
    assert [(entry["template"], entry["inBatch"]) for entry in journal] == [
        ("GET /users", False),
        ("GET /users/delta", False),
        ("GET /users/{id}/photos/{size}/$value", True),
        ("GET /users/{id}", True),
        ("POST /$batch", False),
        ("unknown", False),
    ]
    assert journal[0]["clientRequestId"] == "11111111-2222-4333-8444-555555555555"
    assert (journal[3]["status"], journal[0]["status"]) == (404, 200)
    assert tenant.control.get("journal", last=2) == journal[-2:]


def test_the_sum_over_all_tenants(cloud, new_tenant):
    before = cloud.control.get("counters")["graph"]["requests"]
    for tenant in (new_tenant(), new_tenant()):
        tenant.graph().get("/users")

    assert cloud.control.get("counters")["graph"]["requests"] == before + 2


def test_clocks(tmp_path):
    with process(tmp_path, "--tenant", str(CONTOSO)) as (_, line), trusting(line) as session:
        control = Control(line["control"], session)
        contoso = "tenants/contoso.onmicrosoft.com/clock"
        start = datetime.fromisoformat(control.get(contoso)["now"])
        control.post("clock", {"advanceSeconds": 3600})
        control.post(contoso, {"advanceSeconds": 60})
        moved = datetime.fromisoformat(control.get(contoso)["now"]) - start
        cloud_moved = datetime.fromisoformat(control.get("clock")["now"]) - start

        assert timedelta(seconds=3660) <= moved < timedelta(seconds=3690)
        assert timedelta(seconds=3600) <= cloud_moved < timedelta(seconds=3630)
        assert refused(control, "POST", "clock", {"advanceSeconds": -1})[0] == 422


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "users/nobody", None, 404),
        ("POST", "users/nobody/restore", None, 404),
        ("DELETE", "users/nobody/photo", None, 404),
        ("GET", "apps/nobody", None, 404),
        ("PATCH", "apps/{app}/secrets/nobody", {"endDateTime": "2020-01-01T00:00:00Z"}, 404),
        ("POST", "faults", {"rate429": 2}, 422),
        ("POST", "faults", {"latency": 1}, 422),
        ("POST", "faults", {"retryAfter": {"style": "soon"}}, 422),
        ("POST", "expire", {"pages": "other"}, 422),
        ("POST", "mutate", {"count": 1, "kinds": ["explode"]}, 422),
        ("POST", "apps/{app}/certificates", {"pem": "no certificate"}, 422),
        ("POST", "apps/{app}/secrets", {"endDateTime": "2030-01-01T00:00:00"}, 422),
        ("POST", "users", {"displayName": "no name"}, 422),
        ("PUT", "users/{user}/photo", {"base64": "?"}, 422),
    ],
)
def test_calls_that_are_wrong(tenant: TestTenant, method, path, body, status):
    user = tenant.control.get("users")[0]
    answer = refused(tenant.control, method, path.format(app=tenant.client_id, user=user["id"]), body)

    assert answer[0] == status
    assert "error" in answer[1]


def test_a_wrong_tenant(cloud: Cloud):
    assert refused(cloud.control, "GET", "tenants/nobody")[0] == 404
    assert refused(cloud.control, "POST", "tenants", {"displayName": "no domain"})[0] == 422
    assert refused(cloud.control, "POST", "tenants", {"generate": {"people": 3}})[0] == 422
