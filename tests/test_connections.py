"""Connections: created, listed, edited, each once, whatever answer is lost."""

import uuid
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from storage.meter import MeteredTransport
from storage.secrets import secret_name
from storage.tables import Conflict, Write
from sync import connections
from tests.cloud import NewTenant
from tests.contents import contents
from tests.credentials import check, code, connected, request, vault
from tests.house import House

__all__ = ["connected", "vault"]


class TestCreating:
    def test_the_answer(self, house: House, new_tenant: NewTenant) -> None:
        """A new connection is shown as it was sent, less its secret, with its address, version and defaults."""
        tenant = new_tenant()
        body = request(tenant, labels={"customer": "42 é😀"}, timeZone="Europe/Berlin")
        body["credential"] |= {"secretId": str(uuid.uuid4()), "expiresOn": "2999-01-01"}

        answer = house.call("POST", "connections", body)

        shown = answer.json
        assert answer.status == 201
        assert answer.headers["Location"] == "/api/connections/primary"
        assert {name: shown[name] for name in ("name", "tenantId", "clientId", "timeZone", "labels")} == {
            name: body[name] for name in ("name", "tenantId", "clientId", "timeZone", "labels")
        }
        assert (shown["cloud"], shown["status"], shown["lastCheck"]) == ("global", "unchecked", None)
        assert shown["credential"]["secretId"] == body["credential"]["secretId"]
        assert shown["credential"]["daysLeft"] == (date(2999, 1, 1) - house.clock().date()).days
        assert shown["createdAt"] == shown["updatedAt"]
        assert tenant.secret not in answer.content.decode()
        again = house.call("GET", "connections/primary")
        assert (again.json, again.headers["ETag"]) == (shown, answer.headers["ETag"])

    def test_where_the_secret_goes(self, connected: House) -> None:
        """The secret is in the vault, under a name that tells nothing, and nowhere else."""
        value = connected.tenants["primary"].secret

        assert connected.app.secrets.load(secret_name("primary")) == value
        assert contents(connected).naming(value) == []

    def test_a_name_that_is_taken(self, connected: House, new_tenant: NewTenant) -> None:
        """A second connection of the same name is refused, and the first one's credential still works."""
        answer = connected.call("POST", "connections", request(new_tenant()))

        assert code(answer) == (409, "connection-exists")
        assert check(connected)["status"] == "confirmed"

    def test_two_at_once(self, house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of two requests for one name at the same moment one wins, whole: its own secret is the one that works."""
        winner, loser = new_tenant(), new_tenant()
        find = connections.find

        def find_and_be_overtaken(*arguments: Any) -> Any:
            found = find(*arguments)
            monkeypatch.setattr(connections, "find", find)
            assert house.call("POST", "connections", request(winner)).status == 201
            return found

        monkeypatch.setattr(connections, "find", find_and_be_overtaken)
        answer = house.call("POST", "connections", request(loser))

        assert code(answer) == (409, "connection-exists")
        assert house.get("connections/primary")["tenantId"] == winner.id
        assert check(house)["status"] == "confirmed"

    def test_names_that_only_case_tells_apart(self, house: House, new_tenant: NewTenant) -> None:
        """Names are case-sensitive: two that differ in case are two connections with secrets of their own."""
        for name in ("main", "Main"):
            house.connect(new_tenant(), name)

        assert [check(house, name)["status"] for name in ("main", "Main")] == ["confirmed", "confirmed"]
        assert house.get("connections/main")["tenantId"] != house.get("connections/Main")["tenantId"]

    def test_a_vault_that_is_down(self, house: House, new_tenant: NewTenant, vault: Callable[..., None]) -> None:
        """Without the vault nothing is created: 503, and the name is still free afterwards."""
        body = request(new_tenant(), f"new-{uuid.uuid4()}")
        vault(unavailable=True)
        answer = house.call("POST", "connections", body)
        vault()

        assert code(answer) == (503, "storage-unavailable")
        assert answer.headers["Retry-After"]
        assert contents(house).naming(body["name"]) == []
        assert house.call("POST", "connections", body).status == 201

    def test_what_a_dead_removal_left(self, house: House, new_tenant: NewTenant) -> None:
        """A new connection does not inherit rows of an old one of that name."""
        house.app.tables.data.commit("primary", [Write("insert", f"user|{number}") for number in range(100)])
        house.app.tables.data.commit("primary", [Write("insert", "settings|users", {"j_settings": {"enabled": True}})])

        house.connect(new_tenant())

        assert house.users("primary") == {}
        assert not house.get("connections/primary/syncs/users")["enabled"]


class TestLostAnswers:
    """Storage did the write, but a gateway answered 503 in its place: the SDK sends the write again."""

    @pytest.fixture
    def lose(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
        """Loses the answer to the next request of a method to the table of connections; tells what was sent."""

        def arm(method: str) -> list[str]:
            send, sent = MeteredTransport.send, []

            def lossy(self: Any, request: Any, **options: Any) -> Any:
                answer = send(self, request, **options)
                if request.method == method and "/connections" in request.url:
                    sent.append(request.url)
                    if len(sent) == 1:
                        answer.status_code = 503
                return answer

            monkeypatch.setattr(MeteredTransport, "send", lossy)
            return sent

        return arm

    def test_of_a_new_connection(self, house: House, new_tenant: NewTenant, lose: Callable[[str], list[str]]) -> None:
        """The connection that the first attempt made is not taken for somebody else's."""
        sent = lose("POST")

        answer = house.call("POST", "connections", request(new_tenant()))

        assert (answer.status, len(sent)) == (201, 2)
        assert answer.headers["ETag"] == house.call("GET", "connections/primary").headers["ETag"]

    def test_of_an_edit(self, connected: House, lose: Callable[[str], list[str]]) -> None:
        """The change that the first attempt made is not taken for somebody else's."""
        sent = lose("PUT")

        answer = connected.call("PATCH", "connections/primary", {"labels": {"a": "1"}})

        assert (answer.status, answer.json["labels"], len(sent)) == (200, {"a": "1"}, 2)


class TestListing:
    def test_pages(self, house: House, new_tenant: NewTenant) -> None:
        """Every connection comes once, in the order of names, page by page, without any secret."""
        tenant = new_tenant()
        names = ["A", "B-1", "B_2", "a", "b"]
        for name in reversed(names):
            house.connect(tenant, name)

        found, cursor = [], ""
        while True:
            answer = house.call("GET", f"connections?top=2{cursor}")
            assert tenant.secret not in answer.content.decode()
            found.append([one["name"] for one in answer.json["items"]])
            if answer.json["next"] is None:
                break
            cursor = f"&cursor={answer.json['next']}"

        assert found == [["A", "B-1"], ["B_2", "a"], ["b"]]

    def test_none(self, house: House) -> None:
        """Without connections the list is empty."""
        assert house.get("connections") == {"items": [], "next": None}


class TestEditing:
    def test_what_may_change(self, connected: House) -> None:
        """Labels are replaced as a whole, the time zone too; what is not named stays."""
        before = connected.get("connections/primary")
        connected.call("PATCH", "connections/primary", {"labels": {"a": "1", "b": "2"}})
        connected.call("PATCH", "connections/primary", {"timeZone": "UTC"})
        connected.call("PATCH", "connections/primary", {"labels": {"c": "3"}})

        after = connected.get("connections/primary")

        assert (after["labels"], after["timeZone"]) == ({"c": "3"}, "UTC")
        assert after["updatedAt"] > before["updatedAt"]
        changed = ("labels", "timeZone", "updatedAt")
        assert {k: v for k, v in after.items() if k not in changed} == {
            k: v for k, v in before.items() if k not in changed
        }

    def test_emptied_labels(self, connected: House) -> None:
        """An empty object takes all labels away."""
        connected.call("PATCH", "connections/primary", {"labels": {"a": "1"}})

        assert connected.call("PATCH", "connections/primary", {"labels": {}}).json["labels"] == {}

    def test_two_at_once(self, connected: House) -> None:
        """An edit over a version that has changed since it was loaded is refused."""
        seen = connections.load(connected.app, "primary")
        connected.call("PATCH", "connections/primary", {"labels": {"a": "1"}})

        with pytest.raises(Conflict):
            connections.save(connected.app, seen)
        assert connected.get("connections/primary")["labels"] == {"a": "1"}
