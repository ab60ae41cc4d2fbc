"""The main job from a person's seat: connect a tenant, check it, sync what it has, then what changed.

Everything goes through the HTTP API, as a vendor's portal does it; only what happens inside the tenant goes to the
simulated cloud's control endpoint.
"""

import argparse
import io
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageChops

from local.demo_calendars import show_calendars
from local.demo_directory import show_contacts, show_devices
from local.demo_runs import Done, follow
from local.portal import Control, Json, Portal, Refused, Tenant
from local.printed import WIDTH, say, table
from local.processes import ROOT, Failed
from local.stack import Stack

FOLDER = ROOT / "dist/demo"
TENANT_FILE = ROOT / "local/tenants/contoso.json"
NAME = "contoso"
SYNCS = ("users", "photos")


def main(stack: Stack, argv: Sequence[str]) -> int:
    """0 when every step did what it should; Failed says which did not."""
    parser = argparse.ArgumentParser(prog="dev.py demo", description="Show the main job, end to end.")
    parser.add_argument("--photos", type=Path, default=FOLDER, metavar="DIR", help="where the synced photo is saved")
    options = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names come from all over the world, terminals too
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    file = json.loads(TENANT_FILE.read_text())
    demo = Demo(Portal.of(stack), Control.of(stack).tenant(file["id"]), file["story"])
    demo.play(options.photos.resolve())
    return 0


class Demo:
    """The story, step by step, on standard output."""

    def __init__(self, portal: Portal, tenant: Tenant, story: Sequence[Json]) -> None:
        self._portal = portal
        self._tenant = tenant
        self._story = story
        self._steps = 0
        self._done: list[Done] = []

    def play(self, folder: Path) -> None:
        """All of it; the photo is saved in `folder`."""
        print(f"Tenantsync: connect {self._tenant.name}, check it, and keep its people and their photos in step")
        print(f"Every step below is a call to {self._portal.api}, as a portal would make it.")
        self._greet()
        self._connect()
        self._check()
        self._mistype()
        self._enable()
        self._sync("first")
        _, cursor = self._portal.changes(NAME, None)
        before = self._users()
        self._change_tenant()
        self._sync("again")
        self._tell_changes(cursor, before)
        count, photos = self._compare()
        saved = self._save_photo(folder)
        self._done += show_devices(self._portal, self._tenant, NAME, self._step)
        self._done += show_contacts(self._portal, self._tenant, NAME, self._step)
        show_calendars(self._portal, self._tenant, NAME, self._step)
        self._summarise(count, photos, saved)

    def _step(self, title: str) -> None:
        self._steps += 1
        print(f"\n{self._steps}. {title}")

    def _greet(self) -> None:
        self._step("Is the app there?")
        health, ready = self._portal.get("health"), self._portal.get("ready")
        say(f"alive: {health['status']}, version {health['version']}")
        say("ready: " + ", ".join(f"{store} {state}" for store, state in ready["checks"].items()))

    def _connect(self) -> None:
        self._step(f"Connect the tenant {self._tenant.name}: the six fields of the form")
        form = self._tenant.connection(NAME)
        credential = form["credential"]
        fields = {
            "Name": form["name"],
            "Client ID": form["clientId"],
            "Tenant ID": form["tenantId"],
            "Secret ID": credential["secretId"],
            "Secret value": "(kept in the vault, never shown again)",
            "Expires on": credential["expiresOn"],
        }
        for label, value in fields.items():
            say(f"{label:<13} {value}")
        made = self._portal.post("connections", form)
        say(f"Connected. The secret ends in {made['credential']['daysLeft']:,} days.")

    def _check(self) -> None:
        self._step("Check the connection")
        checked = self._portal.post(f"connections/{NAME}/check")
        for finding in checked["findings"]:
            say_finding(finding)
        say(f"Status: {checked['status'].capitalize()}")
        if checked["status"] != "confirmed":
            raise Failed("The check should have confirmed the connection.")

    def _mistype(self) -> None:
        self._step("Enter a wrong secret, as happens")
        wrong = {"type": "clientSecret", "secretValue": "not-the-secret"}
        try:
            self._portal.put(f"connections/{NAME}/credential", wrong)
        except Refused as refusal:
            if refusal.problem.get("code") != "credential-rejected":
                raise
            for finding in refusal.problem["findings"]:
                say_finding(finding)
            say(f"{refusal.problem['detail']}.")
        else:
            raise Failed("A wrong secret was taken.")

    def _enable(self) -> None:
        self._step("Enable the syncs of users and photos")
        for sync in SYNCS:
            self._portal.enable(NAME, sync)
        for each in self._portal.items(f"connections/{NAME}/syncs"):
            if each["settings"]["enabled"]:
                say(f"{each['sync']:<7} {in_words(each['settings']['schedule'])}")

    def _sync(self, name: str) -> None:
        self._step("Sync now" if name == "first" else "Sync again: only what changed is fetched and written")
        self._done += [follow(self._portal, NAME, sync, name) for sync in SYNCS]

    def _change_tenant(self) -> None:
        self._step(f"Meanwhile, at {self._tenant.name}")
        for event in self._story:
            self._tenant.call(event["method"], event["path"], event.get("body"))
            say(f"- {event['says']}")

    def _users(self) -> dict[str, Json]:
        return {user["id"]: user for user in self._portal.items(f"connections/{NAME}/users")}

    def _tell_changes(self, cursor: str, before: Mapping[str, Json]) -> None:
        self._step("What the portal reads in the change feed since it last looked")
        changes, _ = self._portal.changes(NAME, cursor)
        after = self._users()
        for change in changes:
            who = change["id"]
            say(f"- {tell(change, before.get(who, {}).get('displayName'), after[who]['displayName'])}")
        if not changes:
            raise Failed("The change feed is empty although the tenant changed.")

    def _compare(self) -> tuple[int, int]:
        """How many people and photos both sides have; Failed where they differ."""
        theirs = {key: user for key, user in self._tenant.people().items() if user["userType"] == "Member"}
        ours = {key: user for key, user in self._users().items() if user["state"] == "active"}
        for key in theirs.keys() | ours.keys():
            if key not in ours or key not in theirs or differs(ours[key], theirs[key]):
                raise Failed(f"The user {key} is not the same in the portal and in the tenant.")
        return len(ours), sum(user["photo"] is not None for user in ours.values())

    def _save_photo(self, folder: Path) -> Path:
        """Where the photo of the first person who has one is now, and what it is."""
        self._step("Save one synced photo, and compare it with the one in Microsoft 365")
        user = next(user for user in self._users().values() if user["state"] == "active" and user["photo"])
        path = f"connections/{NAME}/users/{user['id']}/photo"
        answer = self._portal.send("GET", path)
        picture = Image.open(io.BytesIO(answer.content))
        original = self._tenant.send("GET", f"users/{user['id']}/photo?size=240x240").content
        if ImageChops.difference(picture.convert("RGB"), Image.open(io.BytesIO(original)).convert("RGB")).getbbox():
            raise Failed("The photo is not the one that the tenant has.")
        folder.mkdir(parents=True, exist_ok=True)
        saved = folder / f"{user['userPrincipalName'].partition('@')[0]}.{str(picture.format).lower()}"
        saved.write_bytes(answer.content)
        size = f"{picture.width} x {picture.height} {picture.format}, {len(answer.content):,} bytes"
        say(f"{user['displayName']}: {size}, the same pixel for pixel.")
        again = self._portal.send("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
        say(f"Asked for again with its ETag: {again.status_code}, {len(again.content)} bytes.")
        return saved

    def _summarise(self, people: int, photos: int, saved: Path) -> None:
        header = ["sync", "read", "written", "Graph requests", "in batches", "storage", "seconds"]
        print("\nSummary")
        for line in table([header, *(done.row() for done in self._done)]):
            say(line)
        print()
        say("read: items asked about; in batches: Graph requests that travelled inside others, 20 at most;")
        say("storage: table, blob and queue transactions.")
        print()
        devices = sum(1 for _ in self._portal.items(f"connections/{NAME}/devices?state=active"))
        contacts = sum(1 for _ in self._portal.items(f"connections/{NAME}/contacts?azureState=active"))
        agreed = f"{people} people, {photos} photos, {devices} devices and {contacts} contacts"
        say(f"The portal and {self._tenant.name} agree on {agreed}.")
        say(f"The photo is {saved}")
        say("To go on by yourself: python3 dev.py up")


def say_finding(finding: Json) -> None:
    head = f"{finding['level']:<8}{finding['id']:<12} "
    text = f"{finding['detail']} {finding['remedy']}".strip()
    print(textwrap.fill(head + text, WIDTH, initial_indent="   ", subsequent_indent=" " * (3 + len(head))))


def in_words(schedule: Json) -> str:
    """A schedule for people."""
    match schedule:
        case {"mode": "daily"}:
            return f"daily at {schedule['at']}, {schedule['timeZone']}"
        case {"mode": "interval"}:
            return f"every {schedule['every'].removeprefix('PT').replace('H', ' hours').replace('M', ' minutes')}"
    return "when asked"


def tell(change: Json, before: str | None, name: str) -> str:
    """A change for people; `before` is the name that the portal knew, `name` the one that it knows now."""
    match change["entity"], change["change"]:
        case "user", "created":
            return f"{name} is new"
        case "user", "deleted":
            return f"{name} has left"
        case "user", "updated" if before != name:
            return f"{before} is now {name}"
        case "photo", "created":
            return f"{name} has a photo"
        case "photo", "updated":
            return f"{name} has another photo"
        case "photo", "deleted":
            return f"{name} has no photo any more"
    return f"{name}: {change['entity']} {change['change']}"


def differs(ours: Json, theirs: Json) -> bool:
    """Whether the portal's user is not the tenant's."""
    names = ("displayName", "userPrincipalName", "mail", "jobTitle", "department", "mobilePhone", "accountEnabled")
    same_photo = (ours["photo"] is None) == (theirs["photo"] is None)
    return not same_photo or any(ours[name] != theirs.get(name) for name in names)
