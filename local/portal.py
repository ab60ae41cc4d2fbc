"""Both sides of a running app, as the demo, the bench and the journeys use them: the API, and the simulated tenant."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import requests

from local.processes import Failed
from local.stack import Stack

Json = dict[str, Any]

ENDED = frozenset({"succeeded", "partial", "failed", "held", "cancelled"})
ANSWER_SECONDS = 300


class Refused(Failed):
    """An answer that is no success; `problem` is its body, `status` its number."""

    def __init__(self, what: str, answer: requests.Response) -> None:
        self.status = answer.status_code
        is_json = "json" in answer.headers.get("Content-Type", "")
        self.problem: Json = answer.json() if is_json else {}
        said = self.problem.get("detail") or self.problem.get("title") or answer.text[:200]
        super().__init__(" ".join(filter(None, [f"{what}: {self.status} {said}", self.problem.get("remedy")])))


class Portal:
    """The HTTP API as a vendor's portal calls it; paths are relative to /api."""

    def __init__(self, api: str, key: str | None) -> None:
        self.api = api
        self._session = requests.Session()
        self._session.trust_env = False
        if key is not None:
            self._session.headers["x-functions-key"] = key

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """The portal of a running stack."""
        return cls(stack.api, stack.key)

    def send(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Any answer at all; Failed where there is none."""
        url = f"{self.api}/{path}"
        try:
            return self._session.request(method, url, json=body, headers=headers, timeout=ANSWER_SECONDS)
        except requests.RequestException as fault:
            raise Failed(f"{method} /{path}: the app does not answer ({type(fault).__name__}).") from fault

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of a success; Refused for anything else."""
        answer = self.send(method, path, body)
        if not answer.ok:
            raise Refused(f"{method} /{path}", answer)
        return answer.json()

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        return self.call("POST", path, body)

    def put(self, path: str, body: object) -> Any:
        return self.call("PUT", path, body)

    def items(self, path: str) -> Iterator[Json]:
        """Everything in a list, page by page."""
        following = ""
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}top=1000{following}")
            yield from page["items"]
            if page["next"] is None:
                return
            following = f"&cursor={page['next']}"

    def changes(self, name: str, after: str | None) -> tuple[list[Json], str]:
        """The changes since the cursor `after` (None: since the beginning), and the cursor to poll with next."""
        found: list[Json] = []
        while True:
            page = self.get(f"connections/{name}/changes?top=1000" + (f"&after={after}" if after else ""))
            found += page["items"]
            after = page["next"]
            if not page["items"]:
                return found, str(after)

    def enable(self, name: str, sync: str, **settings: Any) -> None:
        """Enable a sync with its default schedule, where `settings` have none."""
        self.put(f"connections/{name}/syncs/{sync}", {"enabled": True, **settings})

    def start(self, name: str, sync: str, **body: Any) -> Json:
        """The run that this asked for."""
        run: Json = self.post(f"connections/{name}/syncs/{sync}/runs", body)
        return run

    def run(self, name: str, run_id: str) -> Json:
        """A run as it is now."""
        run: Json = self.get(f"connections/{name}/runs/{run_id}")
        return run

    def wait(
        self, name: str, run: Json, *, seconds: float, watch: Callable[[Json], object] = bool, pause: float = 0.1
    ) -> Json:
        """The run when it is over or held; `watch` is given it as often as it is asked for. Failed after `seconds`."""
        last = time.monotonic() + seconds
        while run["status"] not in ENDED:
            if time.monotonic() > last:
                raise Failed(f"The {run['sync']} run is still {run['status']} after {seconds:.0f} seconds: {run}")
            time.sleep(pause)
            run = self.run(name, run["id"])
            watch(run)
        return run

    def sync(self, name: str, sync: str, *, seconds: float = 60, **body: Any) -> Json:
        """A manual run, waited for."""
        return self.wait(name, self.start(name, sync, **body), seconds=seconds)


class Control:
    """The simulated cloud's control endpoint (local/cloud/control.py lists its calls)."""

    def __init__(self, url: str, ca: str) -> None:
        self.url = url
        self._ca = ca
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """That of a stack whose cloud is simulated."""
        if stack.control is None:
            raise Failed("This needs the simulated cloud.")
        return cls(stack.control, stack.app_settings["REQUESTS_CA_BUNDLE"])

    def send(self, method: str, path: str, body: object = None) -> requests.Response:
        answer = self._session.request(method, f"{self.url}/{path}".rstrip("/"), json=body, timeout=ANSWER_SECONDS)
        if not answer.ok:
            raise Refused(f"{method} {path} of the simulated cloud", answer)
        return answer

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of the answer; None where it has none."""
        answer = self.send(method, path, body)
        return answer.json() if answer.content else None

    def tenant(self, which: str) -> "Tenant":
        """A tenant that is there already, by id or domain."""
        return self._tenant(self.call("GET", f"tenants/{which}"))

    def generate(self, **population: Any) -> "Tenant":
        """A new tenant: users, seed, photoShare, guestShare, disabledShare, roles."""
        return self._tenant(self.call("POST", "tenants", {"generate": population}))

    def _tenant(self, shown: Json) -> "Tenant":
        return Tenant(f"{self.url}/tenants/{shown['id']}", self._ca, shown)


class Tenant(Control):
    """One simulated tenant; paths are relative to it."""

    def __init__(self, url: str, ca: str, shown: Json) -> None:
        super().__init__(url, ca)
        self.id = str(shown["id"])
        self.name = str(shown["displayName"])
        self.app: Json = shown["apps"][0]

    @property
    def secret(self) -> Json:
        """The app's first secret: keyId, value, endDateTime."""
        secret: Json = self.app["secrets"][0]
        return secret

    def connection(self, name: str) -> Json:
        """What an admin of this tenant would enter into the portal's form."""
        return {
            "name": name,
            "tenantId": self.id,
            "clientId": self.app["appId"],
            "credential": {
                "type": "clientSecret",
                "secretId": self.secret["keyId"],
                "secretValue": self.secret["value"],
                "expiresOn": self.secret["endDateTime"][:10],
            },
        }

    def people(self) -> dict[str, Json]:
        """The users that are there, by id."""
        return {user["id"]: user for user in self.call("GET", "users?state=live")}
