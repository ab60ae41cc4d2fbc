"""The OpenAPI document: valid, complete, and true to what requests may say and answers do say."""

import json
import re
from typing import Any, cast

import pytest
from azure.functions import AuthLevel
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from sync.api import OPERATIONS, VERSION
from sync.http import Operation
from sync.openapi import document
from tests.cloud import NewTenant, TestTenant
from tests.edge import BODIES, CONNECTION, GUID, SECRET, two
from tests.house import Answer, Clock, House
from tests.test_function_app import TRIGGERS
from tests.truth import people

ROLES = ["User.Read.All", "Device.Read.All", "GroupMember.Read.All", "ProfilePhoto.Read.All"]
DOCUMENT: dict[str, Any] = json.loads(json.dumps(document(OPERATIONS.values(), VERSION)))


def described(operation: Operation) -> Any:
    return DOCUMENT["paths"][f"/{operation.path}"][operation.method.lower()]


def validator(*path: str) -> Draft202012Validator:
    """For the schema at this place in the document."""
    pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)
    return Draft202012Validator({**DOCUMENT, "$ref": f"#/{pointer}"}, format_checker=FormatChecker())


def operation_of(method: str, path: str) -> Operation:
    bare = path.partition("?")[0]
    shapes = [(one, re.sub(r"\{\w+\}", "[^/]+", one.path)) for one in OPERATIONS.values() if one.method == method]
    return next(one for one, shape in shapes if re.fullmatch(shape, bare))


def test_it_is_openapi() -> None:
    """A validator that nobody here wrote finds a correct OpenAPI 3.1 document."""
    OpenAPIV31SpecValidator(DOCUMENT).validate()

    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["version"] == VERSION


def test_it_is_what_the_service_answers() -> None:
    """GET /api/openapi.json is this document, and needs no store."""
    answer = House(cast("Any", None), Clock(), cast("Any", None)).call("GET", "openapi.json")

    assert (answer.status, answer.json) == (200, DOCUMENT)


def triggers() -> dict[str, tuple[str, str, AuthLevel]]:
    """The HTTP triggers of the function app but the one for everything else: route, method and level by name."""
    return {
        name: (trigger["route"], trigger["methods"][0].value, trigger["authLevel"])
        for name, trigger in TRIGGERS.items()
        if trigger["type"] == "httpTrigger" and len(trigger["methods"]) == 1
    }


def test_every_trigger_is_in_it_and_nothing_else() -> None:
    """Document and function app have the same routes, methods and levels, under the same names."""
    documented = {
        operation["operationId"]: (
            path.removeprefix("/"),
            method.upper(),
            AuthLevel.ANONYMOUS if operation.get("security") == [] else AuthLevel.FUNCTION,
        )
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }

    assert documented == triggers()


def test_who_may_come_in_without_a_key() -> None:
    """Open is what holds no data, and what Graph calls, which proves itself in another way; everything else takes the
    function key as header or parameter.
    """
    assert {name for name, (_, _, level) in triggers().items() if level != AuthLevel.FUNCTION} == {
        "get_health",
        "get_console",
        "receive_notifications",
        "receive_lifecycle_events",
    }
    assert DOCUMENT["security"] == [{"header": []}, {"query": []}]
    assert {(s["in"], s["name"]) for s in DOCUMENT["components"]["securitySchemes"].values()} == {
        ("header", "x-functions-key"),
        ("query", "code"),
    }


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda one: one.id)
class TestOperations:
    def test_parameters(self, operation: Operation) -> None:
        """Every parameter of path and query is described, and the headers that the call honours."""
        parameters = described(operation)["parameters"]
        by_place = {place: {p["name"] for p in parameters if p["in"] == place} for place in ("path", "query", "header")}

        fields = operation.query.model_fields.values() if operation.query else ()
        assert by_place["path"] == set(re.findall(r"\{(\w+)\}", operation.path))
        assert by_place["query"] == {field.alias for field in fields}
        assert ("Idempotency-Key" in by_place["header"]) == operation.takes_key
        assert all(p["required"] == (p["in"] == "path") for p in parameters)

    def test_problems(self, operation: Operation) -> None:
        """Every answer above 399 is a problem document, and each call says what may go wrong with it."""
        for status, answer in described(operation)["responses"].items():
            if int(status) >= 400 and int(status) not in operation.answers:
                schema = answer["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}
        assert ("404" in described(operation)["responses"]) == ("{" in operation.path)
        assert "500" in described(operation)["responses"]
        assert (operation.method == "GET") or {"409", "413"} <= set(described(operation)["responses"])

    def test_body(self, operation: Operation) -> None:
        """A call has a described body exactly where it reads one, required unless it may be left out."""
        body = described(operation).get("requestBody")

        assert (body is not None) == (operation.body is not None)
        if body is not None:
            assert body["required"] != (operation.optional_body or operation.instead_of_body is not None)
            assert list(body["content"]) == ["application/json"]


def bodies(call: str) -> Draft202012Validator:
    operation = operation_of(*two(call))
    place = ("paths", f"/{operation.path}", operation.method.lower(), "requestBody", "content", "application/json")
    return validator(*place, "schema")


@pytest.mark.parametrize("call", BODIES)
def test_good_bodies(call: str) -> None:
    """What the service takes, the document allows; no unknown field is allowed."""
    bodies(call).validate(BODIES[call])

    assert not bodies(call).is_valid({**BODIES[call], "unknown": 1})
    assert not bodies(call).is_valid([])


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("POST connections", {}),
        ("POST connections", {**CONNECTION, "name": "a b"}),
        ("POST connections", {**CONNECTION, "cloud": "mars"}),
        ("POST connections", {**CONNECTION, "labels": {"a": 1}}),
        ("POST connections", {**CONNECTION, "credential": {"type": "certificate", "keyVaultCertificate": "a_b"}}),
        ("POST connections", {**CONNECTION, "credential": {**SECRET, "secretValue": ""}}),
        ("PUT connections/primary/credential", {"type": "clientSecret"}),
        ("PUT connections/primary/credential", {"type": "managedIdentity", "pem": "x"}),
        ("PATCH connections/primary", {"tenantId": GUID}),
        ("PUT connections/primary/syncs/users", {"schedule": {"mode": "interval"}}),
        ("PUT connections/primary/syncs/users", {"deletionGuard": {"maxPercent": 101}}),
        ("POST connections/primary/syncs/users/runs", {"mode": "quick"}),
    ],
)
def test_bad_bodies(call: str, body: object) -> None:
    """What a client can learn from the document to avoid is refused by both, document and service."""
    edge = House(cast("Any", None), Clock(), cast("Any", None))

    assert not bodies(call).is_valid(body)
    assert edge.call(*two(call), body).status == 422


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Operation, Answer]]:
    """Every answer of the service from now on, with its operation."""
    recorded: list[tuple[Operation, Answer]] = []
    call = House.call

    def recording(self: House, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        answer = call(self, method, path, body, **headers)
        recorded.append((operation_of(method, path), answer))
        return answer

    monkeypatch.setattr(House, "call", recording)
    return recorded


def journey(house: House, tenant: TestTenant) -> None:
    """Every call of the contract, with good ends and bad."""
    for path in ("health", "ready", "openapi.json", "console", "connections"):
        house.call("GET", path)
    house.connect(tenant, "primary", users={}, photos={})
    house.call("POST", "connections", {**CONNECTION, "tenantId": tenant.id})
    house.call("POST", "connections", {"name": "a b"})
    house.call("POST", "connections", b"{")
    house.call("POST", "connections", b" " * (1024 * 1024 + 1))
    house.call("GET", "connections/other")
    house.call("PATCH", "connections/primary", {"labels": {"a": "é😀"}})
    house.call("PATCH", "connections/primary", {"labels": {}}, If_Match='"stale"')
    house.call("PUT", "connections/primary/credential", {"type": "clientSecret", "secretValue": "wrong"})
    house.call("PUT", "connections/primary/credential", {"type": "clientSecret", "secretValue": tenant.secret})
    house.call("POST", "connections/primary/check")
    house.call("GET", "connections?top=1")
    house.call("POST", "connections/primary/syncs/devices/runs", Idempotency_Key="k")
    house.call("PUT", "connections/primary/syncs/devices", {"enabled": True})
    for sync in ("users", "photos"):
        house.run("primary", sync)
    tenant.control.post("mutate", {"count": 3, "seed": 1, "kinds": ["create", "patch", "delete"]})
    run = house.run("primary", "users")["id"]
    house.call("GET", "connections/primary/syncs")
    house.call("GET", "connections/primary/syncs/photos")
    house.call("GET", "connections/primary/runs?sync=users&status=succeeded")
    house.call("GET", f"connections/primary/runs/{run}/log")
    house.call("POST", f"connections/primary/runs/{run}/cancel")
    house.call("POST", f"connections/primary/runs/{house.start('primary', 'users')}/cancel")
    for user in house.users("primary"):
        house.call("GET", f"connections/primary/users/{user}")
        photo = house.call("GET", f"connections/primary/users/{user}/photo")
        house.call("GET", f"connections/primary/users/{user}/photo", If_None_Match=photo.headers.get("ETag", ""))
    house.changes("primary")
    house.call("GET", "connections/primary/users?top=0")
    deletions(house, tenant)
    devices_and_contacts(house, tenant)
    rooms(house)
    for path in ("webhooks/graph", "webhooks/graph/lifecycle"):
        house.call("POST", f"{path}?validationToken=any")
        house.call("POST", path, {"value": [{"clientState": "wrong", "subscriptionId": GUID}]})
        house.call("POST", path, {"items": []})
    house.call("DELETE", "connections/primary")
    house.work()


def deletions(house: House, tenant: TestTenant) -> None:
    """What the guard holds back: shown, proposed by a dry run, dropped, and done."""
    house.enable("primary", "users", deletionGuard={"maxCount": 0, "maxPercent": 100})
    tenant.control.post("mutate", {"count": 1, "seed": 2, "kinds": ["delete"]})
    house.run("primary", "users", dryRun=True)
    for decision in ("reject", "approve", "approve"):
        run = house.run("primary", "users")
        house.call("GET", f"connections/primary/runs/{run['id']}/plan")
        house.call("POST", f"connections/primary/runs/{run['id']}/{decision}")
        house.work()


def rooms(house: House) -> None:
    """A room of the portal, linked to a calendar."""
    room = {"displayName": "Oak", "externalCalendar": "oak@contoso.com", "active": True}
    house.call("GET", "connections/primary/places")
    for body in (room, room, {}):
        house.call("PUT", "connections/primary/rooms/oak", body)
    house.call("PUT", "connections/primary/rooms/elm", room)
    house.call("PUT", "connections/primary/rooms/oak", room, If_Match='"stale"')
    house.call("GET", "connections/primary/rooms")
    reservations(house, "connections/primary/rooms/oak/reservations")
    for _ in range(2):
        house.call("GET", "connections/primary/rooms/oak")
        house.call("DELETE", "connections/primary/rooms/oak")


def reservations(house: House, path: str) -> None:
    """A reservation of the portal's own."""
    start, end = ({"dateTime": f"2027-03-01T{hour}:00", "timeZone": "Europe/Berlin"} for hour in (10, 11))
    person = {"name": "Ann", "email": "ann@contoso.com"}
    body = {"title": "Planning", "start": start, "end": end, "owner": person, "attendees": [person]}
    for one in (body, body, {**body, "end": start}, {}):
        house.call("POST", path, one)
    (made,) = house.get(path)["items"]
    for key in (made["id"], "nothing"):
        house.call("GET", f"{path}/{key}")
    house.call("GET", f"{path}?from=2027-03-01&to=2027-03-02T00:00:00Z&status=any")
    for patch in ({"title": "Review"}, {"end": start}, {"room": "nowhere"}):
        house.call("PATCH", f"{path}/{made['id']}", patch)
    house.call("PATCH", f"{path}/{made['id']}", {"title": "Lost"}, If_Match='"stale"')
    daily = {
        "pattern": {"type": "daily"},
        "range": {"type": "numbered", "startDate": "2027-03-01", "numberOfOccurrences": 3},
    }
    for _ in range(2):
        house.call("DELETE", f"{path}/{made['id']}")
        house.call("POST", path, {**body, "recurrence": daily})
    house.call("GET", f"{path}?from=2027-03-01&to=2027-03-05")


def devices_and_contacts(house: House, tenant: TestTenant) -> None:
    """The other copies, and contacts of the portal's own."""
    inner = tenant.control.post("groups", {"displayName": "Sales", "members": list(people(tenant))[:1]})["id"]
    top = tenant.control.post("groups", {"displayName": "Top", "members": [inner]})["id"]
    house.enable("primary", "contacts", groupId=top)
    for sync in ("devices", "contacts"):
        house.run("primary", sync)
    own = house.call("POST", "connections/primary/contacts", {"displayName": "Reception"}).json["id"]
    house.call("POST", "connections/primary/contacts", {})
    for kind in ("devices", "contacts", "contact-groups"):
        (first, *_) = house.get(f"connections/primary/{kind}")["items"]
        if kind != "contact-groups":
            house.call("GET", f"connections/primary/{kind}/{first['id']}")
            house.call("GET", f"connections/primary/{kind}/nobody")
    house.call("PATCH", f"connections/primary/contacts/{own}", {"mail": "a@example.com"})
    house.call("PATCH", f"connections/primary/contacts/{own}", {"mail": None}, If_Match='"stale"')
    house.call("DELETE", f"connections/primary/contacts/{own}")


def test_answers_of_a_whole_journey(
    house: House, new_tenant: NewTenant, answers: list[tuple[Operation, Answer]]
) -> None:
    """Every answer has a status that its call documents and, where it is JSON, exactly the documented form."""
    journey(house, new_tenant(users=5, photoShare=0.6, devices=2, roles=ROLES))

    for operation, answer in answers:
        place = ("paths", f"/{operation.path}", operation.method.lower(), "responses", str(answer.status))
        assert str(answer.status) in described(operation)["responses"], (operation.id, answer)
        content = described(operation)["responses"][str(answer.status)].get("content", {})
        for kind in content:
            if kind.endswith("json"):
                validator(*place, "content", kind, "schema").validate(answer.json)
        assert answer.content == b"" or content, (operation.id, answer.status)
    assert {operation.id for operation, _ in answers} == set(OPERATIONS)
