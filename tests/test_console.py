"""The portal page and the guide for admins: as text, and the page in a real browser where CONSOLE_BROWSER names a Chromium.

.venv/bin/pip install playwright
CONSOLE_BROWSER=/usr/bin/chromium .venv/bin/pytest tests/test_console.py
"""

import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin
from xml.etree.ElementTree import Element

import azure.functions as func
import html5lib
import pytest
import requests
from pydantic import BaseModel, TypeAdapter

from local.stack import Stack
from sync import checks
from sync.api import OPERATIONS
from sync.calendars.model import Policy, RoomStatus, SyncState
from sync.calendars.model import Status as ReservationStatus
from sync.calendars.models import RoomIn
from sync.calendars.pacing import PAUSE
from sync.calendars.rooms import REMEDY
from sync.graph import aadsts
from sync.graph.aadsts import explain
from sync.http import Operation, respond
from sync.models import CheckOut, ConnectionIn, LogEntry, RunStatus, Status
from sync.permissions import judge
from sync.sync_settings import SETTINGS, IntervalIn, SyncSettings
from sync.wiring import EXECUTORS, App

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PAGE = Path(__file__).resolve().parent.parent / "console/index.html"
TEXT = PAGE.read_text()


FINDINGS = next(line for line in (checks.__doc__ or "").splitlines() if line.endswith("expiry")).strip().split(", ")


def parse() -> Element:
    """The page as a tree; raises html5lib's ParseError on anything that the HTML standard calls a parse error."""
    page: Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(TEXT)
    return page


def script(kind: str, name: str | None = None) -> str:
    found = [one for one in parse().iter("script") if one.get("type") == kind and one.get("id") == name]
    assert len(found) == 1

    return found[0].text or ""


def code() -> str:
    return script("module")


def js_keys(table: str) -> set[str]:
    """The keys of a constant object of the page's script."""
    found = re.search(rf"^const {table} = (\{{.*?\}});$", code(), re.MULTILINE | re.DOTALL)
    assert found

    return set(re.findall(r'[{,]\s*"?([\w-]+)"?: ', found[1]))


def build_nothing() -> App:
    raise AssertionError("the page touches no store")


def leaves(model: Any, pointer: str = "") -> dict[str, Any]:
    """The JSON pointer of every plain field of a model, and its type."""
    if get_origin(model) in (Union, UnionType):
        parts = [leaves(part, pointer) for part in get_args(model) if part is not type(None)]
        return {key: kind for part in parts for key, kind in part.items()}
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {pointer: model}
    fields = model.model_fields.values()
    inner = [leaves(field.annotation, f"{pointer}/{field.alias}") for field in fields]
    return {key: kind for part in inner for key, kind in part.items()}


# --- the page as text ------------------------------------------------------------------------------------------------


def test_the_page_is_valid_html_with_unique_ids():
    ids = [one.get("id") for one in parse().iter() if one.get("id")]

    assert len(ids) == len(set(ids))


def test_every_field_has_a_label():
    page = parse()
    labelled = {field for label in page.iter("label") for field in label.iter()}
    fields = [field for name in ("input", "select", "textarea") for field in page.iter(name)]

    assert fields
    assert [field.attrib for field in fields if field not in labelled] == []


def test_every_part_that_the_script_looks_up_is_in_the_page():
    ids = {one.get("id") for one in parse().iter() if one.get("id")}

    assert set(re.findall(r'[$"`( ]#([a-z][a-z-]+)', code())) <= ids


def test_nothing_comes_from_elsewhere_or_runs_out_of_an_attribute():
    for one in parse().iter():
        assert not [name for name in one.attrib if name == "style" or str(name).startswith("on")]
        assert one.get("src") is None
        assert one.get("href") in (None, "#")
        assert one.get("action") is None
    assert re.findall(r"(?i:[a-z]+:)//|\burl\(|@import|\bimport\b|\bdata:", TEXT) == []
    assert len(re.findall(r"\bfetch\(", TEXT)) == 1


def test_text_never_becomes_markup_or_code():
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|\bFunction\(", TEXT)
        == []
    )


def test_the_key_is_kept_in_this_tab_only():
    assert "localStorage" not in TEXT
    assert "document.cookie" not in TEXT
    assert re.findall(r"[?&]code=", TEXT) == []


def test_the_page_is_served_as_it_is_under_a_policy_that_lets_it_reach_this_service_alone():
    request = func.HttpRequest("GET", "http://localhost/api/console", body=b"")
    answer = respond(request, OPERATIONS["get_console"], build_nothing)
    policy = dict(part.split(maxsplit=1) for part in answer.headers["Content-Security-Policy"].split(";"))

    assert answer.get_body() == PAGE.read_bytes()
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["img-src"] == "blob:"


def test_every_call_of_the_page_is_an_operation_of_the_contract():
    calls = json.loads(script("application/json", "calls"))

    assert calls == {name: f"{OPERATIONS[name].method} {OPERATIONS[name].path}" for name in calls}
    assert set(re.findall(r'\b(?:call|request)\("(\w+)"', code())) == set(calls)


def test_every_sync_of_this_version_is_shown_with_all_its_settings():
    shown = json.loads(script("application/json", "settings"))
    common = leaves(SyncSettings)

    assert set(shown) == set(EXECUTORS) & set(SETTINGS)
    for sync, fields in shown.items():
        own = {pointer: kind for pointer, kind in leaves(SETTINGS[sync]).items() if pointer not in common}

        assert {pointer for pointer, _, _ in fields} == set(own)
        for pointer, _, kind in fields:
            simple = {bool: "checkbox", int: "number", list: "list"}.get(get_origin(own[pointer]) or own[pointer])
            if isinstance(kind, str):
                assert kind == (simple or "text")
            else:
                assert set(kind) == set(get_args(own[pointer]))


def test_the_common_settings_are_all_there():
    assert {f'"{pointer}"' for pointer in leaves(SyncSettings)} <= set(re.findall(r'"/[\w/]+"', code()))


def fields_of(*places: str) -> dict[str | None, Element]:
    """The named fields in these parts of the page."""
    parts = [part for part in parse().iter() if part.get("id") in places]
    assert len(parts) == len(places)
    return {field.get("name"): field for part in parts for field in part.iter() if (field.get("name") or "")[:1] == "/"}


def test_the_room_form_has_the_fields_that_the_contract_takes():
    assert set(fields_of("room-dialog")) == {*leaves(RoomIn), "/room"}


def test_every_word_about_rooms_and_reservations_is_there():
    """Whatever the service may say of a room or a reservation is told in words."""
    policies = [Policy(*each) for each in itertools.product((False, True), repeat=3)]

    assert js_keys("ROOM") == set(get_args(RoomStatus))
    assert js_keys("DETAIL") == {*REMEDY, "webhook"}
    assert js_keys("WARNING") == {warning for policy in policies for warning in policy.warnings} | {
        "user-mailbox-denied"
    }
    assert js_keys("RESERVATION") == set(get_args(ReservationStatus))
    assert js_keys("SENT") == set(get_args(SyncState))
    assert js_keys("FINDING") == set(FINDINGS)
    assert re.findall(r"^const PAUSE_S = (\d+);", code(), re.MULTILINE) == [f"{PAUSE.total_seconds():.0f}"]


def test_the_connection_form_has_the_fields_that_the_contract_takes():
    fields = fields_of("connection-dialog", "credential-fields")
    wanted = {pointer: kind for pointer, kind in leaves(ConnectionIn).items() if pointer != "/labels"}

    assert set(wanted) == set(fields) - {"/credential"}
    for pointer, kind in wanted.items():
        if get_origin(kind) is Literal and pointer != "/credential/type":
            assert {option.get("value") for option in fields[pointer].iter("option")} == set(get_args(kind))


def test_every_state_and_level_has_its_word():
    levels = {level for model in (CheckOut, LogEntry) for level in _levels(model)}

    assert js_keys("STATUS") == {*get_args(Status), *get_args(RunStatus)}
    assert js_keys("MEANING") == {*get_args(Status)} - {"unchecked"}
    assert js_keys("LEVEL") == levels


def _levels(model: type[BaseModel]) -> tuple[str, ...]:
    field = model.model_fields["findings" if model is CheckOut else "level"]
    inner = get_args(field.annotation)[0]
    return get_args(inner.model_fields["level"].annotation) if model is CheckOut else get_args(field.annotation)


def test_every_interval_that_can_be_chosen_is_allowed():
    intervals = js_keys("INTERVALS")

    assert intervals
    assert all(IntervalIn(mode="interval", every=every) for every in intervals)


# --- the guide -------------------------------------------------------------------------------------------------------

GUIDE = (PAGE.parent.parent / "docs/onboarding.md").read_text()
CALLS = re.findall(r"curl [^\n]* -X (\w+) \"\$API/([^\"?]+)(?:\?[^\"]*)?\"(?: -d '(.*?)')?", GUIDE, re.DOTALL)


def operation_of(method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """The operation that serves a path of the guide, and the values of the path."""
    for one in OPERATIONS.values():
        hit = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", one.path), path)
        if hit and one.method == method:
            return one, hit.groupdict()
    raise AssertionError(f"no operation for {method} {path}")


def test_every_call_of_the_guide_is_one_that_the_service_takes():
    assert len(CALLS) == GUIDE.count("curl ")
    for method, path, body in CALLS:
        operation, values = operation_of(method, path)
        model = operation.body[values["sync"]] if isinstance(operation.body, dict) else operation.body
        if body or not operation.optional_body:
            assert bool(body) == (model is not None)
        if body:
            TypeAdapter(model).validate_json(body, strict=True)


def test_the_guide_explains_every_refusal_of_entra_as_the_service_does():
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|", GUIDE, re.MULTILINE))

    assert rows == {str(number): explain({"error_codes": [number]}).cause for number in aadsts._KNOWN}


@pytest.mark.parametrize("sync", ["users", "photos", "devices"])
def test_the_guide_names_the_least_permission_of_each_sync(sync: str):
    least = re.search(rf"^\| {sync}\b[^|]*\| `([\w.]+)`", GUIDE, re.MULTILINE)
    assert least

    assert judge(frozenset(), [sync]).missing == {sync: [least[1]]}
    assert judge(frozenset([least[1]]), [sync]).missing == {}


def test_the_guide_names_the_permissions_of_rooms_and_every_state_and_warning_that_a_room_may_have():
    permissions = re.search(r"^\| calendars \| `([\w.]+)` and `([\w.]+)`", GUIDE, re.MULTILINE)
    states = re.findall(r"^\| `(?:active|pending|error)` \| `([\w-]+)`", GUIDE, re.MULTILINE)
    settings = re.findall(r"^\| (on|off) \| (on|off) \| (on|off) \|.*\| ?([^| ]*) ?\|$", GUIDE, re.MULTILINE)

    assert permissions
    assert judge(frozenset(), ["calendars"]).missing == {"calendars": list(permissions.groups())}
    assert set(states) == REMEDY.keys() | {"webhook"}
    assert [tuple(row[:3]) for row in settings] == list(itertools.product(("off", "on"), repeat=3))
    for *flags, warning in settings:
        policy = Policy(*(flag == "on" for flag in flags))
        assert ((warning.strip("`"),) if warning else ()) == policy.warnings


def test_the_guide_names_every_result_finding_and_cloud():
    clouds = get_args(ConnectionIn.model_fields["cloud"].annotation)

    for word in (*(f"**{status.capitalize()}**" for status in js_keys("MEANING")), *(f"`{cloud}`" for cloud in clouds)):
        assert f"| {word} |" in GUIDE
    assert re.findall(r"^\| `(\w+)` \| \w+ ", GUIDE, re.MULTILINE) == FINDINGS


def test_the_links_of_the_guide_lead_to_its_headings():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", GUIDE, re.MULTILINE)
    }

    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= headings


# --- the page in a browser -------------------------------------------------------------------------------------------

BROWSER = os.environ.get("CONSOLE_BROWSER")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
TENANT = json.loads((PAGE.parent.parent / "local/tenants/contoso.json").read_text())
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
