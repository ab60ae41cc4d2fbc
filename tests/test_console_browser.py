"""The portal page in a real browser, where CONSOLE_BROWSER names a Chromium.

.venv/bin/pip install playwright
CONSOLE_BROWSER=/usr/bin/chromium .venv/bin/pytest tests/test_console_browser.py
"""

import json
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests

from local.stack import Stack
from tests.cloud import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

BROWSER = os.environ.get("CONSOLE_BROWSER")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
TENANT = json.loads((ROOT / "local/tenants/contoso.json").read_text())
APP = TENANT["apps"][0]
HOSTILE = "<img src=x onerror=alert(1)>"


def control(stack: Stack, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """A call to the simulated cloud's control endpoint."""
    bundle = stack.app_settings["REQUESTS_CA_BUNDLE"]
    answer = requests.request(method, f"{stack.control}{path}", json=body, verify=bundle, timeout=30)
    answer.raise_for_status()
    return answer.json()


if BROWSER:
    from playwright.sync_api import expect, sync_playwright

    @pytest.fixture(scope="module")
    def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
        with Stack(logs=tmp_path_factory.mktemp("logs")) as running:
            yield running

    @pytest.fixture(scope="module")
    def browser() -> Iterator["Browser"]:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=BROWSER, args=FLAGS)
            yield browser
            browser.close()

    @pytest.fixture
    def page(browser: "Browser", stack: Stack) -> Iterator["Page"]:
        """A signed-in page that fails the test on any error of its script or of its policy."""
        faults: list[str] = []
        with browser.new_context() as context:
            page = context.new_page()
            page.on("pageerror", lambda fault: faults.append(str(fault)))
            page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
            page.on("dialog", lambda dialog: dialog.accept())
            page.goto(stack.console)
            page.get_by_label("Function key").fill(stack.key)
            page.get_by_role("button", name="Open").click()
            expect(page.get_by_role("heading", name="Connections")).to_be_visible()
            yield page

        assert faults == []

    def fill(form: "Locator", pointer: str, text: str) -> None:
        form.locator(f"[name='{pointer}']:enabled").fill(text)

    def connect(page: "Page", name: str, secret: str = APP["secrets"][0]["value"]) -> None:
        page.get_by_role("button", name="Add a connection").click()
        form = page.get_by_role("dialog", name="Add a connection")
        fill(form, "/name", name)
        fill(form, "/clientId", APP["appId"])
        fill(form, "/tenantId", TENANT["id"])
        fill(form, "/credential/secretValue", secret)
        form.get_by_role("button", name="Set").click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()
        page.get_by_role("button", name="Check", exact=True).click()

    def enable_and_run(page: "Page", sync: str) -> None:
        page.get_by_role("button", name=f"{sync}: Settings").click()
        form = page.get_by_role("dialog", name=f"{sync} sync")
        form.get_by_label(f"Enable the {sync.lower()} sync").check()
        form.get_by_label("When").select_option("manual")
        form.get_by_role("button", name="Save and sync now").click()
        card = page.locator(f"[data-sync={sync.lower()}]")
        expect(card.get_by_text("Succeeded")).to_be_visible(timeout=30_000)
        expect(card.get_by_text("Manual only.")).to_be_visible()

    def test_an_admin_connects_a_tenant_and_sees_its_people(page: "Page") -> None:
        connect(page, "journey")
        expect(page.get_by_text("Sign-in works and every enabled sync").last).to_be_visible()
        enable_and_run(page, "Users")
        expect(page.get_by_text("Adele Vance", exact=True).first).to_be_visible()
        enable_and_run(page, "Photos")
        faces = page.locator("#users img.face")
        expect(faces.first).to_be_visible()

        assert faces.first.evaluate("face => face.decode().then(() => face.naturalWidth)") > 0
        expect(page.locator("#changes")).to_contain_text("Photo Adele Vance")
        page.get_by_label("Search").fill("adele")
        expect(page.locator("#users li")).to_have_count(1)
        page.get_by_role("button", name="Users: Log").click()
        expect(page.locator("#log")).to_contain_text("Skipped: guest.")
        page.keyboard.press("Escape")
        page.reload()
        expect(page.get_by_role("heading", name="journey")).to_be_visible()
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_role("heading", name="Connections")).to_be_visible()
        expect(page.get_by_role("link", name="journey")).to_have_count(0)

    def test_an_admin_looks_at_what_would_be_done_and_decides(page: "Page", stack: Stack) -> None:
        """A dry run shows its plan; deletions that wait are shown by name, and approved or rejected."""
        connect(page, "careful")
        card = page.locator("[data-sync=users]")
        page.get_by_role("button", name="Users: Settings").click()
        form = page.get_by_role("dialog", name="Users sync")
        form.get_by_label("Enable the users sync").check()
        form.get_by_label("When").select_option("manual")
        form.get_by_text("Deletion guard").click()
        fill(form, "/deletionGuard/maxCount", "0")
        form.get_by_role("button", name="Save", exact=True).click()
        page.get_by_role("button", name="Users: Dry run").click()
        expect(card.get_by_text("Dry run: nothing is written.")).to_be_visible()
        page.get_by_role("button", name="Users: Plan").click()
        expect(page.locator("#plan")).to_contain_text("Create: new.")
        page.keyboard.press("Escape")
        expect(page.locator("#no-users")).to_have_text("No users.")

        page.get_by_role("button", name="Users: Sync now").click()
        expect(page.get_by_text("Adele Vance", exact=True).first).to_be_visible()
        leaver = next(user["id"] for user in TENANT["users"] if user["displayName"] == "Isaiah Langer")
        user = f"/tenants/{TENANT['id']}/users/{leaver}"
        control(stack, "DELETE", user)
        try:
            page.get_by_role("button", name="Users: Sync now").click()
            expect(card.get_by_text("Held", exact=True)).to_be_visible()
            page.get_by_role("button", name="Users: Plan").click()
            expect(page.locator("#plan")).to_contain_text("Delete: left. user Isaiah Langer")
            page.keyboard.press("Escape")
            page.get_by_role("button", name="Users: Reject").click()
            expect(card.get_by_text("Partly done")).to_be_visible()
            page.get_by_role("button", name="Users: Sync now").click()
            page.get_by_role("button", name="Users: Approve the deletions").click()
            expect(card.get_by_text("Succeeded")).to_be_visible()
            expect(card).to_contain_text("1 deleted")
            expect(page.locator("#users")).not_to_contain_text("Isaiah Langer")
        finally:
            control(stack, "POST", f"{user}/restore")

    def test_an_admin_links_a_room_and_sees_who_has_it(page: "Page", stack: Stack) -> None:
        connect(page, "booking")
        expect(page.get_by_text("Sign-in works and every enabled sync").last).to_be_visible()
        page.get_by_role("button", name="Link a room").click()
        form = page.get_by_role("dialog", name="Link a room")
        choice = form.get_by_label("Room of the tenant")
        expect(choice.locator("option")).to_have_count(4)
        choice.select_option(label="Board room, building 18, 14 seats")
        form.get_by_role("button", name="Save").click()
        card = page.locator("[data-room=boardroom]")
        expect(card).to_contain_text("The calendars sync is off. Enable the calendars sync in its settings.")
        expect(page.get_by_role("button", name="Sync all calendars")).to_be_hidden()

        mailbox = f"/tenants/{TENANT['id']}/mailboxes/boardroom@{TENANT['domain']}"
        times = ({"dateTime": f"2027-03-01T{hour}:00:00", "timeZone": "Eastern Standard Time"} for hour in (10, 11))
        control(
            stack, "POST", f"{mailbox}/events", dict(zip(("start", "end"), times, strict=True)) | {"subject": HOSTILE}
        )
        enable_and_run(page, "Calendars")
        expect(card).to_contain_text("Active", timeout=30_000)
        card.get_by_role("button", name="Reservations").click()
        day = page.get_by_role("dialog", name="Reservations of Board room")
        day.get_by_label("Day").fill("2027-03-01")
        expect(day.locator("li", has_text=HOSTILE)).to_contain_text("10:00 to 11:00")
        day.get_by_label("Day").fill("2027-03-02")
        expect(day).to_contain_text("Nothing on this day.")
        page.keyboard.press("Escape")

        page.get_by_text("Try that other mailboxes are closed").click()
        outside = page.get_by_label("Mailbox of somebody who is no room")
        outside.fill(f"boardroom@{TENANT['domain']}")
        page.get_by_role("button", name="Check with it").click()
        expect(page.locator("#scope")).to_contain_text("Must not be a room that is linked")
        outside.fill(control(stack, "GET", f"/tenants/{TENANT['id']}/users?state=live")[0]["mail"])
        page.get_by_role("button", name="Check with it").click()
        expect(page.locator("#check-result")).to_contain_text("reaches mailboxes that are no rooms")

        everything = page.get_by_role("button", name="Sync all calendars")
        everything.click()
        expect(page.get_by_text("can be synced again in 10 minutes")).to_be_visible()
        expect(everything).to_be_disabled()
        page.reload()
        everything.click()
        expect(page.get_by_text("can be synced again in 10 minutes")).to_be_visible()
        card.get_by_role("button", name="Edit").click()
        form = page.get_by_role("dialog", name="Room Board room")
        form.get_by_label("External calendar sync is active").uncheck()
        fill(form, "/displayName", "Boardroom")
        form.get_by_role("button", name="Save").click()
        expect(card).to_contain_text("BoardroomOff")
        card.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("No room is linked to a calendar yet.")).to_be_visible()

    def test_a_room_whose_first_run_is_over_before_the_page_looks(page: "Page", stack: Stack) -> None:
        """A room that is shown as pending is looked at again, with the focus where it was."""
        connect(page, "quick")
        expect(page.get_by_text("Sign-in works and every enabled sync").last).to_be_visible()
        enable_and_run(page, "Calendars")

        def late(route: "Route") -> None:
            """The rooms as they were before the run, told once it is over."""
            answer = route.fetch()
            rooms = answer.json()
            headers = {"x-functions-key": stack.key}
            while requests.get(answer.url, headers=headers, timeout=30).json()["items"][0]["status"] == "pending":
                time.sleep(0.1)
            rooms["items"][0]["status"] = "pending"
            route.fulfill(response=answer, json=rooms)

        page.route("**/connections/quick/rooms", late, times=1)
        page.get_by_role("button", name="Link a room").click()
        form = page.get_by_role("dialog", name="Link a room")
        form.get_by_label("Room of the tenant").select_option(label="Board room, building 18, 14 seats")
        form.get_by_role("button", name="Save").click()
        card = page.locator("[data-room=boardroom]")
        edit = card.get_by_role("button", name="Edit")
        edit.focus()

        expect(card).to_contain_text("Active", timeout=30_000)
        expect(edit).to_be_focused()
        expect(page.get_by_role("button", name="Sync all calendars")).to_be_visible()

    def test_field_errors_are_shown_at_their_fields(page: "Page") -> None:
        page.get_by_role("button", name="Add a connection").click()
        form = page.get_by_role("dialog", name="Add a connection")
        fill(form, "/name", "not a name")
        form.get_by_role("button", name="Set").click()
        wrong = form.locator("[aria-invalid]")
        expect(wrong).to_have_count(4)

        names = wrong.evaluate_all("fields => fields.map((field) => field.name)")
        assert names == ["/name", "/clientId", "/tenantId", "/credential/secretValue"]
        assert page.evaluate("document.activeElement.name") == "/name"

    def test_a_refused_secret_comes_with_its_cause_and_remedy(page: "Page") -> None:
        connect(page, "refused", secret="not the secret")
        result = page.locator("#check-result")
        expect(result).to_contain_text("Failed.")
        expect(result).to_contain_text("Enter the secret's value, not its id.")
        page.get_by_role("button", name="Replace the credential").click()
        form = page.get_by_role("dialog", name="Replace the credential")
        fill(form, "/secretValue", "nor this")
        form.get_by_role("button", name="Try and replace").click()
        expect(form).to_contain_text("the old one stays in place")
        fill(form, "/secretValue", APP["secrets"][0]["value"])
        form.get_by_role("button", name="Try and replace").click()
        expect(result).to_contain_text("Confirmed.")

    def test_names_are_text_whatever_they_hold(page: "Page", stack: Stack) -> None:
        hostile = {"userPrincipalName": f"x@{TENANT['domain']}", "displayName": HOSTILE, "jobTitle": "</li><script>"}
        user = control(stack, "POST", f"/tenants/{TENANT['id']}/users", hostile)
        connect(page, "hostile")
        enable_and_run(page, "Users")
        control(stack, "DELETE", f"/tenants/{TENANT['id']}/users/{user['id']}")

        expect(page.locator("#users strong", has_text=HOSTILE)).to_have_text(HOSTILE)
        assert page.locator("#users script, #users img[src=x]").count() == 0

    def test_a_wrong_key_is_forgotten(page: "Page") -> None:
        page.get_by_role("button", name="Forget the key").click()
        page.get_by_label("Function key").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert").first).to_contain_text("does not accept this key")

        assert page.evaluate("sessionStorage.length") == 0

    def test_it_fits_a_phone(page: "Page") -> None:
        page.set_viewport_size({"width": 320, "height": 700})

        assert page.evaluate("document.documentElement.scrollWidth") <= 320
