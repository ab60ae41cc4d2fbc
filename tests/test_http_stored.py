"""The HTTP edge with everything behind it: what is not there, stale versions, and keys that are used once."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from sync.api import OPERATIONS
from sync.http import Call, Operation, Reply, encode_cursor
from tests.cloud import NewTenant
from tests.edge import BODIES, CONNECTION, HINT, pointers, problem, two
from tests.house import Answer, House


@pytest.fixture
def connected(house: House, new_tenant: NewTenant) -> House:
    """A house with the connection `primary` whose users sync is enabled."""
    house.connect(new_tenant(), users={})
    return house


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("GET connections/other", "connection-not-found"),
        ("PATCH connections/other", "connection-not-found"),
        ("PUT connections/other/credential", "connection-not-found"),
        ("DELETE connections/other", "connection-not-found"),
        ("POST connections/other/check", "connection-not-found"),
        ("GET connections/Primary", "connection-not-found"),
        ("GET connections/other/syncs", "connection-not-found"),
        ("GET connections/other/syncs/users", "connection-not-found"),
        ("PUT connections/other/syncs/users", "connection-not-found"),
        ("GET connections/primary/syncs/nonsense", "sync-not-found"),
        ("PUT connections/primary/syncs/nonsense", "sync-not-found"),
        ("POST connections/primary/syncs/nonsense/runs", "sync-not-found"),
        ("POST connections/other/syncs/users/runs", "connection-not-found"),
        ("GET connections/other/runs", "connection-not-found"),
        ("GET connections/primary/runs/1", "run-not-found"),
        ("GET connections/other/runs/1", "connection-not-found"),
        ("GET connections/primary/runs/1/log", "run-not-found"),
        ("POST connections/primary/runs/1/cancel", "run-not-found"),
        ("GET connections/other/users", "connection-not-found"),
        ("GET connections/primary/users/1", "user-not-found"),
        (f"GET connections/primary/users/{'x' * 2000}", "user-not-found"),
        ("GET connections/primary/users/x'%20or%20PartitionKey%20ne%20'", "user-not-found"),
        ("GET connections/primary/users/1/photo", "user-not-found"),
        ("GET connections/other/changes", "connection-not-found"),
    ],
)
def test_what_is_not_there(connected: House, call: str, code: str) -> None:
    """Each kind of thing that is not there is a 404 with a code of its own."""
    method, path = two(call)
    known = next(
        (body for shape, body in BODIES.items() if path.replace("other", "primary") == shape.split(" ")[1]), {}
    )

    problem(connected.call(method, path, known if method != "GET" else None), 404, code)


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("connections?cursor={}", "/cursor"),
        ("connections/primary/runs?cursor={}", "/cursor"),
        ("connections/primary/runs/{run}/log?cursor={}", "/cursor"),
        ("connections/primary/runs/{run}/plan?cursor={}", "/cursor"),
        ("connections/primary/users?cursor={}", "/cursor"),
        ("connections/primary/devices?cursor={}", "/cursor"),
        ("connections/primary/contacts?cursor={}", "/cursor"),
        ("connections/primary/contact-groups?cursor={}", "/cursor"),
        ("connections/primary/changes?after={}", "/after"),
    ],
)
def test_cursors_that_are_not_ours(connected: House, path: str, pointer: str) -> None:
    """A cursor that this list did not give out is a 422, whatever it decodes to."""
    run = connected.start("primary", "users")
    for cursor in ("!", "hunter2", encode_cursor("active|users"), encode_cursor("user|a' or '"), encode_cursor("é")):
        answer = connected.call("GET", path.format(cursor, run=run))

        assert pointers(answer) == [pointer]


class TestIfMatch:
    @pytest.mark.parametrize(
        ("call", "body"),
        [
            ("PATCH connections/primary", {"labels": {"a": "b"}}),
            ("PUT connections/primary/credential", {"type": "clientSecret", "secretValue": "wrong"}),
            ("DELETE connections/primary", None),
            ("PUT connections/primary/syncs/users", {"enabled": False}),
        ],
    )
    def test_a_stale_version(self, connected: House, call: str, body: object) -> None:
        """A write that names another version than the present one is a 412 and changes nothing."""
        method, path = two(call)
        before = connected.get("connections/primary"), connected.get("connections/primary/syncs/users")

        answer = connected.call(method, path, body, If_Match='"0123456789abcdef0123"')

        problem(answer, 412, "etag-mismatch")
        assert (connected.get("connections/primary"), connected.get("connections/primary/syncs/users")) == before

    @pytest.mark.parametrize("path", ["connections/primary", "connections/primary/syncs/users"])
    def test_a_lost_update(self, connected: House, path: str) -> None:
        """Of two writers that read the same version, the second is told; the new version is in the first's answer."""
        method, body = ("PATCH", {"timeZone": "UTC"}) if path.endswith("primary") else ("PUT", {"enabled": False})
        etag = connected.call("GET", path).headers["ETag"]

        first = connected.call(method, path, body, If_Match=etag)
        second = connected.call(method, path, body, If_Match=etag)
        third = connected.call(method, path, body, If_Match=first.headers["ETag"])

        assert (first.status, second.status, third.status) == (200, 412, 200)
        assert connected.call("GET", path).headers["ETag"] == third.headers["ETag"]

    def test_settings_that_were_never_saved(self, connected: House) -> None:
        """Defaults have a version too: a first save may be made conditional on it."""
        path = "connections/primary/syncs/photos"
        etag = connected.call("GET", path).headers["ETag"]

        assert connected.call("PUT", path, {"enabled": False}, If_Match=etag).status == 200
        problem(connected.call("PUT", path, {"enabled": False}, If_Match=etag), 412, "etag-mismatch")

    def test_cancelling_a_run_that_moved_on(self, connected: House) -> None:
        """A run can be cancelled on condition that it is as it was seen."""
        run = f"connections/primary/runs/{connected.start('primary', 'users')}"
        etag = connected.call("GET", run).headers["ETag"]

        problem(connected.call("POST", f"{run}/cancel", If_Match='"other"'), 412, "etag-mismatch")
        assert connected.call("POST", f"{run}/cancel", If_Match=etag).json["status"] == "cancelled"
        problem(connected.call("POST", f"{run}/cancel"), 409, "run-finished")


class TestIdempotencyKeys:
    def test_the_same_request_twice(self, house: House, new_tenant: NewTenant) -> None:
        """A repeated request gets the first answer again, headers and all, and is done once."""
        tenant = new_tenant()
        body = {**CONNECTION, "tenantId": tenant.id, "clientId": tenant.client_id}

        first = house.call("POST", "connections", body, Idempotency_Key="create-1")
        second = house.call("POST", "connections", body, Idempotency_Key="create-1")

        assert (first.status, second.status) == (201, 201)
        assert (second.json, second.headers["Location"], second.headers["ETag"]) == (
            first.json,
            first.headers["Location"],
            first.headers["ETag"],
        )
        problem(house.call("POST", "connections", body, Idempotency_Key="create-2"), 409, "connection-exists")

    def test_another_body(self, connected: House) -> None:
        """A key that comes back with another body is refused."""
        path = "connections/primary/syncs/users/runs"
        connected.call("POST", path, {"mode": "delta"}, Idempotency_Key="k")

        answer = connected.call("POST", path, {"mode": "full"}, Idempotency_Key="k")

        problem(answer, 422, "idempotency-key-reused")

    def test_what_a_key_belongs_to(self, connected: House, new_tenant: NewTenant) -> None:
        """The same key of another call, sync or connection is another key; other methods have none."""
        connected.connect(new_tenant(), "second", users={}, photos={})
        runs = [
            connected.call("POST", f"connections/{path}/runs", {}, Idempotency_Key="k").json["id"]
            for path in ("primary/syncs/users", "second/syncs/users", "second/syncs/photos", "primary/syncs/users")
        ]
        check = connected.call("POST", "connections/primary/check", {}, Idempotency_Key="k")
        edits = [
            connected.call("PATCH", "connections/primary", {"labels": {"n": label}}, Idempotency_Key="k").json["labels"]
            for label in "ab"
        ]

        assert runs[0] == runs[3]
        assert len(set(runs)) == 3
        assert check.json["status"] == "confirmed"
        assert edits == [{"n": "a"}, {"n": "b"}]

    def test_an_answer_outlives_what_it_tells_of(self, connected: House) -> None:
        """A repetition after the run has ended still gets the first answer, and starts no second run."""
        path = "connections/primary/syncs/users/runs"
        first = connected.call("POST", path, {}, Idempotency_Key="k")
        connected.work()

        second = connected.call("POST", path, {}, Idempotency_Key="k")

        assert second.json == first.json
        assert len(connected.get("connections/primary/runs")["items"]) == 1

    def test_a_day_later(self, connected: House) -> None:
        """A key is forgotten after 24 hours."""
        path = "connections/primary/syncs/users/runs"
        first = connected.call("POST", path, {}, Idempotency_Key="k").json
        connected.work()

        connected.clock.ahead += timedelta(hours=23, minutes=59)
        assert connected.call("POST", path, {}, Idempotency_Key="k").json["id"] == first["id"]
        connected.clock.ahead += timedelta(minutes=2)
        assert connected.call("POST", path, {}, Idempotency_Key="k").json["id"] != first["id"]

    def test_a_request_that_failed(self, connected: House) -> None:
        """A failure is not kept: the same key may try again once the reason is gone."""
        path = "connections/primary/syncs/photos/runs"
        problem(connected.call("POST", path, {}, Idempotency_Key="k"), 409, "sync-disabled")
        connected.enable("primary", "photos")

        assert connected.call("POST", path, {}, Idempotency_Key="k").status == 202

    def test_a_bad_request_does_not_use_up_its_key(self, connected: House) -> None:
        """A body that is refused leaves the key free for the right one."""
        path = "connections/primary/syncs/users/runs"
        assert pointers(connected.call("POST", path, {"mode": HINT}, Idempotency_Key="k")) == ["/mode"]

        assert connected.call("POST", path, {"mode": "full"}, Idempotency_Key="k").status == 202

    def test_two_at_once(self, connected: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the first request is being served, its repetition is told to wait; nothing is done twice."""
        path = "connections/primary/syncs/users/runs"
        start = OPERATIONS["start_run"].handler
        meanwhile: list[Answer] = []

        def slow(call: Call) -> Reply:
            if not meanwhile:
                meanwhile.append(connected.call("POST", path, {}, Idempotency_Key="k"))
            return start(call)

        monkeypatch.setitem(OPERATIONS, "start_run", with_handler("start_run", slow))
        first = connected.call("POST", path, {}, Idempotency_Key="k")

        assert first.status == 202
        problem(meanwhile[0], 409, "request-in-progress")
        assert 0 < int(meanwhile[0].headers["Retry-After"]) <= 60
        assert connected.call("POST", path, {}, Idempotency_Key="k").json == first.json

    def test_a_process_that_died(self, connected: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request whose process died is still in progress for a minute, then its repetition is served."""
        path = "connections/primary/syncs/users/runs"
        with monkeypatch.context() as patch:
            patch.setitem(OPERATIONS, "start_run", with_handler("start_run", die))
            with pytest.raises(SystemExit):
                connected.call("POST", path, {}, Idempotency_Key="k")

        problem(connected.call("POST", path, {}, Idempotency_Key="k"), 409, "request-in-progress")
        connected.clock.ahead += timedelta(seconds=61)
        assert connected.call("POST", path, {}, Idempotency_Key="k").status == 202


def with_handler(name: str, handler: Callable[[Call], Reply]) -> Operation:
    fields = {field: getattr(OPERATIONS[name], field) for field in Operation.__dataclass_fields__}
    return Operation(**{**fields, "handler": handler})


def die(_: Call) -> Reply:
    raise SystemExit
