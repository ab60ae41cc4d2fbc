"""The portal page and the guide for admins, as text."""

import itertools
import json
import re
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from xml.etree.ElementTree import Element

import azure.functions as func
import html5lib
import pytest
from pydantic import BaseModel, TypeAdapter

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
