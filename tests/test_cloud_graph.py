"""The simulated Graph over HTTPS, answer by answer, where SDKs would hide it: headers, addresses, the organization, apps."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.graph import assert_error

# Headers and addresses


def test_every_answer_names_its_request(tenant):
    mine = str(uuid4())
    answer = tenant.graph().get("/users", headers={"client-request-id": mine})

    assert answer.headers["client-request-id"] == mine
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["request-id"])
    assert abs(parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert answer.headers["Content-Type"].startswith("application/json;odata.metadata=minimal")


def test_links_lead_to_the_host_that_the_client_called(tenant):
    graph = tenant.graph()
    port = urlsplit(tenant.cloud.graph).port
    for host in ("localhost", "127.0.0.1"):
        page = graph.get(f"https://{host}:{port}/v1.0/users?$top=10").json()

        assert page["@odata.nextLink"].startswith(f"https://{host}:{port}/v1.0/users?")
        assert graph.get(page["@odata.nextLink"]).status_code == 200


def test_answers_are_compressed_when_asked(new_tenant):
    graph = new_tenant(users=50).graph()
    plain = graph.get("/users", headers={"Accept-Encoding": "identity"})
    packed = graph.get("/users", headers={"Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 2
    assert packed.json()["value"] == plain.json()["value"]


def test_what_graph_does_not_have(tenant):
    graph = tenant.graph()

    assert_error(graph.get("/nothing"), 400, "BadRequest")
    assert_error(graph.get(f"{tenant.cloud.graph}/beta/users"), 400, "BadRequest")
    assert_error(graph.put("/users"), 405, "Request_BadRequest")


# Organization and applications


def test_the_organization(new_tenant):
    tenant = new_tenant(roles=["Organization.Read.All"])
    page = tenant.graph().get("/organization").json()
    [organization] = page["value"]

    assert organization["id"] == tenant.id
    assert organization["verifiedDomains"][0]["name"] == tenant.domain
    assert set(organization) == {"id", "displayName", "countryLetterCode", "tenantType", "verifiedDomains"}
    chosen = tenant.graph().get("/organization?$select=id,displayName").json()["value"]
    assert set(chosen[0]) == {"id", "displayName"}


def test_an_application_shows_when_its_credentials_end(new_tenant):
    tenant = new_tenant(roles=["Application.Read.All"])
    graph = tenant.graph()
    by_key = graph.get(f"/applications(appId='{tenant.client_id}')").json()
    [by_filter] = graph.get(f"/applications?$filter=appId eq '{tenant.client_id}'").json()["value"]
    [password] = by_key["passwordCredentials"]
    secret = tenant.app["secrets"][0]

    assert by_key["id"] == by_filter["id"] == tenant.app["objectId"]
    assert password["keyId"] == secret["keyId"]
    assert datetime.fromisoformat(password["endDateTime"]) == datetime.fromisoformat(secret["endDateTime"]).replace(
        microsecond=0
    )
    assert secret["value"] not in str(by_key)
    assert by_filter["passwordCredentials"] == by_key["passwordCredentials"]


def test_an_application_shows_when_its_certificates_end(new_tenant):
    tenant = new_tenant(roles=["Application.Read.All"])
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "portal")])
    ends = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    added = tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": pem})
    application = tenant.graph().get(f"/applications(appId='{tenant.client_id}')?$select=keyCredentials").json()
    [shown] = application["keyCredentials"]

    assert set(application) == {"@odata.context", "keyCredentials"}
    assert (shown["keyId"], shown["type"], shown["usage"]) == (added["keyId"], "AsymmetricX509Cert", "Verify")
    assert datetime.fromisoformat(shown["endDateTime"]) == ends
    assert shown["key"] is None


def test_an_unknown_application(new_tenant):
    graph = new_tenant(roles=["Application.Read.All"]).graph()

    assert_error(graph.get(f"/applications(appId='{uuid4()}')"), 404, "Request_ResourceNotFound")
    assert graph.get(f"/applications?$filter=appId eq '{uuid4()}'").json()["value"] == []
