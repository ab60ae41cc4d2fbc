"""Route templates of the local host against paths, by table."""

import pytest

from local.routes import BadTemplate, Template

GUID = "0b9f6a52-31c4-4f3e-8a77-6c1de0f25b94"


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("health", "/health", {}),
        ("health", "/Health", {}),
        ("health", "/health/", {}),
        ("health", "/health//", None),
        ("health", "/health/x", None),
        ("health", "/", None),
        ("", "/", {}),
        ("a/{id}", "/a/7", {"id": "7"}),
        ("a/{id}", "/a", None),
        ("a/{id}", "/a/", None),
        ("a/{id}", "/a/b/c", None),
        ("a/{id}", "/a/ü ß", {"id": "ü ß"}),
        ("a/{id?}", "/a", {}),
        ("a/{id?}", "/a/7", {"id": "7"}),
        ("a/{id?}", "/a/7/8", None),
        ("a/{id=5}", "/a", {"id": "5"}),
        ("a/{id=5}", "/a/6", {"id": "6"}),
        ("a/{id:int=5}", "/a", {"id": "5"}),
        ("a/{*rest}", "/a", {}),
        ("a/{*rest}", "/a/b/c", {"rest": "b/c"}),
        ("a/{**rest}", "/a/b/c/", {"rest": "b/c/"}),
        ("{a}/x/{b}", "/1/x/2", {"a": "1", "b": "2"}),
        ("{name}.{kind}", "/photo.jpg", {"name": "photo", "kind": "jpg"}),
        ("v{version:int}/x", "/v12/x", {"version": "12"}),
        ("v{version:int}/x", "/vx/x", None),
        ("a/{{b}}", "/a/{b}", {}),
        ("a.b", "/aXb", None),
        ("{id:int}", "/-7", {"id": "-7"}),
        ("{id:int}", "/2147483647", {"id": "2147483647"}),
        ("{id:int}", "/2147483648", None),
        ("{id:int}", "/٣", None),
        ("{id:int}", "/1.5", None),
        ("{id:int?}", "/", {}),
        ("{id:long}", "/2147483648", {"id": "2147483648"}),
        ("{id:guid}", f"/{GUID}", {"id": GUID}),
        ("{id:guid}", f"/{GUID.replace('-', '').upper()}", {"id": GUID.replace("-", "").upper()}),
        ("{id:guid}", f"/{{{GUID}}}", {"id": f"{{{GUID}}}"}),
        ("{id:guid}", f"/urn:uuid:{GUID}", None),
        ("{id:guid}", "/recent", None),
        ("{w:alpha}", "/Abc", {"w": "Abc"}),
        ("{w:alpha}", "/ab1", None),
        ("{w:alpha}", "/ä", None),
        ("{w:length(3)}", "/abc", {"w": "abc"}),
        ("{w:length(3)}", "/ab", None),
        ("{w:length(2,3)}", "/ab", {"w": "ab"}),
        ("{w:length(2,3)}", "/abcd", None),
        ("{w:minlength(3)}", "/ab", None),
        ("{w:minlength(3)}", "/abc", {"w": "abc"}),
        ("{w:maxlength(3)}", "/abc", {"w": "abc"}),
        ("{w:maxlength(3)}", "/abcd", None),
        ("{n:min(3)}", "/2", None),
        ("{n:min(3)}", "/3", {"n": "3"}),
        ("{n:max(3)}", "/4", None),
        ("{n:range(1,3)}", "/3", {"n": "3"}),
        ("{n:range(1,3)}", "/0", None),
        ("{w:alpha:minlength(2)}", "/a", None),
        ("{w:alpha:minlength(2)}", "/ab", {"w": "ab"}),
        (r"{w:regex(^\d{{3}}$)}", "/123", {"w": "123"}),
        (r"{w:regex(^\d{{3}}$)}", "/1234", None),
        (r"{w:regex(^(a|b)$)}/x", "/B/x", {"w": "B"}),
        (r"{w:regex(^[A-Za-z0-9_-]{{1,63}}$)}/syncs/{s:regex(^(photos|users)$)}", "/p_1/syncs/users", {"w": "p_1", "s": "users"}),
        (r"{w:regex(^[A-Za-z0-9_-]{{1,63}}$)}", "/a b", None),
    ],
)  # fmt: skip
def test_match(template, path, expected):
    assert Template.compile(template).match(path) == expected


@pytest.mark.parametrize(
    "template",
    [
        "a//b",
        "{id",
        "id}",
        "{}",
        "{:int}",
        "{a}/{A}",
        "{id:unknown}",
        "{id:length}",
        "{id:length(x)}",
        "{id:int(3)}",
        "{id:regex()}",
        "{id?}/x",
        "{*rest}/x",
        "x{*rest}",
        "{id=1}/x",
    ],
)
def test_a_template_that_cannot_be_read(template):
    with pytest.raises(BadTemplate):
        Template.compile(template)
