"""No secret and no token stands anywhere but in the vault: not in a table, blob, message, log record or answer."""

import base64
import json
import logging
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sync import jobs
from tests.azurite import KEY
from tests.cloud import Cloud, NewTenant, TestTenant
from tests.contents import contents
from tests.credentials import as_pem, certify, register
from tests.house import Answer, House

JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
WRONG = "wrong~secret+value/with=odd&characters%"


def spellings(secret: str) -> set[str]:
    """The ways in which a secret may be written down: as it is, in JSON, in a URL, in base64 at any offset."""
    written = {
        secret,
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        repr(secret)[1:-1],
    }
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b" " * offset + secret.encode()).decode().rstrip("=")
            written.add(encoded[4 if offset else 0 : -1])  # less the characters that its neighbours decide
    return written


class _Log(logging.Handler):
    """Every record of every logger as text: message, exception, stack and all its attributes."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        fault = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self.lines.append(f"{record.name} {record.getMessage()} {vars(record)!r} {fault}")


@dataclass
class Traces:
    """What a journey leaves outside of the vault."""

    log: list[str]
    answers: list[Answer] = field(default_factory=list)

    def texts(self, house: House) -> Iterator[tuple[str, str]]:
        """Every text that was written anywhere, with its place."""
        yield from (("log", line) for line in self.log)
        yield from (("answer", f"{answer.headers} {answer.content.decode('latin-1')}") for answer in self.answers)
        kept = contents(house)
        yield from ((table, repr(row)) for table, rows in kept.rows.items() for row in rows)
        yield from (("blob", f"{name} {data.decode('latin-1')}") for name, data in kept.blobs.items())
        yield from (("message", f"{text} {base64.b64decode(text)!r}") for text in kept.messages)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    """Records all answers, and all loggers at DEBUG, also those that somebody has turned down."""
    handler, root, call = _Log(), logging.getLogger(), House.call
    found = Traces(handler.lines)

    def recording(self: House, *arguments: Any, **headers: str) -> Answer:
        answer = call(self, *arguments, **headers)
        found.answers.append(answer)
        return answer

    monkeypatch.setattr(House, "call", recording)
    loud = [root, *(logging.getLogger(name) for name in ("azure", "azure.identity", "msal", "urllib3", "sync"))]
    before = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield found
    root.removeHandler(handler)
    for logger, level in zip(loud, before, strict=True):
        logger.setLevel(level)


def with_a_secret(house: House, tenant: TestTenant) -> None:
    """Connect, misspell, check, rotate, sync under faults, fail, be poisoned, lose the vault."""
    credential = {"type": "clientSecret", "secretValue": tenant.secret}
    body = {"name": "primary", "tenantId": tenant.id, "clientId": tenant.client_id, "credential": credential}
    house.call("POST", "connections", {**body, "secretValue": tenant.secret, "labels": {"x": {"y": tenant.secret}}})
    house.call(
        "POST", "connections", {**body, "credential": {**credential, "expiresOn": tenant.secret, "secretId": WRONG}}
    )
    house.call("POST", "connections", {**body, "credential": {"type": tenant.secret, "secretvalue": tenant.secret}})
    house.call(
        "POST", "connections", {**body, "credential": {**credential, "type": "certificate", "pem": tenant.secret}}
    )
    house.call("POST", "connections", json.dumps(body).encode()[:-1])
    house.call("POST", "connections", body, Idempotency_Key="create")
    house.call("POST", "connections", body, Idempotency_Key="create")
    house.call("POST", "connections", body)
    house.tenants["primary"] = tenant
    for sync in ("users", "photos"):
        house.enable("primary", sync)
    house.call("PUT", "connections/primary/credential", {"type": "clientSecret", "secretValue": WRONG})
    house.call("PUT", "connections/primary/credential", credential, If_Match='"stale"')
    house.call("PUT", "connections/primary/credential", credential)
    house.call("POST", "connections/primary/check")
    tenant.control.post("faults", {"rate429": 0.1, "rate503": 0.1, "rateReset": 0.1, "rateBatchItem": 0.2, "seed": 7})
    house.run("primary", "users")
    house.run("primary", "photos")
    tenant.control.post("faults", {})
    house.cloud.control.post("vault", {"throttled": 1})
    house.call("POST", "connections/primary/check")
    tenant.control.patch(f"apps/{tenant.client_id}", {"enabled": False})
    house.call("POST", "connections/primary/check")
    tenant.control.patch(f"apps/{tenant.client_id}", {"enabled": True})
    house.start("primary", "users")
    jobs.poisoned(house.app, next(house.messages()))
    for path in ("", "/syncs", "/runs", "/users", "/changes"):
        house.call("GET", f"connections/primary{path}")
    house.start("primary", "users")


def test_a_client_secret(house: House, new_tenant: NewTenant, traces: Traces) -> None:
    """After a journey with good ends and bad, the secret is in the vault alone, in whatever spelling.

    The search is no empty one: every logger was heard, and what is then planted in each place is found in it.
    """
    tenant = new_tenant(users=2, photoShare=1)
    token, secret = tenant.token(), tenant.secret

    def places(*words: str) -> set[str]:
        """Where any of these words stands, in any spelling."""
        spelled = {spelling for word in words for spelling in spellings(word)}
        return {place for place, text in traces.texts(house) if any(word in text for word in spelled)}

    def tokens() -> set[str]:
        return {place for place, text in traces.texts(house) if JWT.search(text)}

    with_a_secret(house, tenant)
    assert {line.split(".")[0].split(" ")[0] for line in traces.log} >= {"sync", "urllib3", "azure", "msal"}
    assert len(traces.answers) > 20
    assert (places(secret, WRONG, KEY), tokens()) == (set(), set())

    logging.getLogger("urllib3").debug("header: Bearer %s", token)
    logging.getLogger("anything").debug("form", extra={"body": quote_plus(WRONG)})
    house.app.blobs.save("x/y", base64.b64encode(b"any" + secret.encode() + b"thing"), "image/png")
    house.app.queues.send("sync-runs", {"connection": "primary", "run": secret})
    house.call("PATCH", "connections/primary", {"labels": {"a": secret}})

    assert (tokens(), places(WRONG)) == ({"log"}, {"log"})
    assert places(secret) == {"blob", "message", "answer", "connections"}


def test_a_private_key(house: House, new_tenant: NewTenant, cloud: Cloud, traces: Traces) -> None:
    """Nothing of a certificate's key, and no assertion that it or a managed identity signed, is left behind either."""
    tenant, key = new_tenant(users=1), rsa.generate_private_key(65537, 2048)
    certificate = certify(key)
    pem = as_pem(key, certificate)
    credential = {"type": "certificate", "pem": pem}
    body = {"name": "primary", "tenantId": tenant.id, "clientId": tenant.client_id, "credential": credential}
    house.call("POST", "connections", {**body, "credential": {**credential, "pem": pem.replace("A", "B", 40)}})
    house.call("POST", "connections", body)
    house.call("POST", "connections/primary/check")
    register(tenant, certificate)
    house.call("POST", "connections/primary/check")
    house.enable("primary", "users")
    house.run("primary", "users")
    identity = cloud.control.get("identity")
    trusted = {"issuer": identity["issuer"], "subject": identity["subject"]}
    house.call("PUT", "connections/primary/credential", {"type": "managedIdentity"})
    tenant.control.post(f"apps/{tenant.client_id}/federatedCredentials", trusted)
    house.call("PUT", "connections/primary/credential", {"type": "managedIdentity"})

    report = house.call("POST", "connections/primary/check").json
    assert report["status"] == "confirmed"
    lines = [line for line in pem.partition("-----BEGIN CERTIFICATE")[0].splitlines() if len(line) == 64]
    assert len(lines) > 20
    texts = list(traces.texts(house))
    assert [(place, line) for place, text in texts for line in lines if line in text] == []
    assert [place for place, text in texts if "PRIVATE KEY" in text] == []
    assert [(place, hit) for place, text in texts for hit in JWT.findall(text)] == []


def test_a_client_state(reachable: House, traces: Traces) -> None:
    """What proves that a notification is Graph's is kept at Graph alone: neither making a subscription, nor what it sends,
    true or forged, nor renewing it, nor its end leaves it here.
    """
    tenant = reachable.tenants["primary"]
    tenant.control.post("notifications", {"mode": "collect"})
    mailbox = tenant.control.get("rooms")[0]["emailAddress"]
    link = {"displayName": "Oak", "calendarType": "office365", "externalCalendar": mailbox, "active": True}
    reachable.call("PUT", "connections/primary/rooms/oak", link)
    reachable.work()
    (subscription,) = tenant.control.get("subscriptions")
    wanted = {"subscriptionId": subscription["id"]}
    forged = {"subscriptionId": "wrong", "tenantId": "wrong"}
    for item in ({}, {"clientState": WRONG}, *({name: value} for name, value in forged.items())):
        tenant.control.post("notifications/forge", {**wanted, "item": item})
    for event in ("missed", "reauthorizationRequired", "subscriptionRemoved"):
        tenant.control.post("lifecycle", {**wanted, "event": event})
    assert set(tenant.control.post("notifications/deliver")["statuses"]) == {202}
    active = reachable.get("connections/primary/runs")["items"][0]
    jobs.work(reachable.app, {"connection": "primary", "run": active["id"]})
    (following,) = tenant.control.get("subscriptions")
    assert following["id"] != subscription["id"]

    secrets = (subscription["clientState"], following["clientState"], WRONG)
    spelled = {spelling for secret in secrets for spelling in spellings(secret)}

    def places() -> set[str]:
        return {place for place, text in traces.texts(reachable) if any(word in text for word in spelled)}

    assert places() == set()
    reachable.call("DELETE", "connections/primary")
    reachable.work()
    assert (places(), tenant.control.get("subscriptions")) == (set(), [])
    logging.getLogger("anything").debug("notification: %s", following["clientState"])
    assert places() == {"log"}
