"""Photos in the simulated Graph, over HTTPS."""

import base64
import io
import re
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from PIL import Image

from tests.graph import assert_error, ids, person_with_photo, users_of


def test_every_size_up_to_the_upload_is_a_real_jpeg(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 240)
    graph = tenant.graph()
    sizes = [photo["id"] for photo in graph.get(f"/users/{user_id}/photos").json()["value"]]

    assert sizes == ["48x48", "64x64", "96x96", "120x120", "240x240"]
    for size in sizes:
        answer = graph.get(f"/users/{user_id}/photos/{size}/$value")
        image = Image.open(io.BytesIO(answer.content))
        image.load()
        assert (answer.headers["Content-Type"], image.format) == ("image/jpeg", "JPEG")
        assert f"{image.width}x{image.height}" == size
    assert_error(graph.get(f"/users/{user_id}/photos/360x360/$value"), 404, "ImageNotFound")
    assert_error(graph.get(f"/users/{user_id}/photos/360x360"), 404, "ImageNotFound")


def test_the_photo_is_the_largest_size(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 504)
    graph = tenant.graph()
    known = graph.get(f"/users/{user_id}/photo").json()
    content = graph.get(f"/users/{user_id}/photo/$value")

    assert known == {
        "@odata.context": f"{tenant.cloud.graph}/v1.0/$metadata#users('{user_id}')/photo/$entity",
        "@odata.mediaContentType": "image/jpeg",
        "@odata.mediaEtag": content.headers["ETag"],
        "id": "504x504",
        "width": 504,
        "height": 504,
    }
    assert Image.open(io.BytesIO(content.content)).size == (504, 504)


def test_a_new_photo_has_new_bytes_and_a_new_etag(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    graph, path = tenant.graph(), f"/users/{user_id}/photos/240x240/$value"
    before, again = graph.get(path), graph.get(path)
    tenant.control.put(f"users/{user_id}/photo", {"longest": 648})
    after = graph.get(path)

    assert (before.content, before.headers["ETag"]) == (again.content, again.headers["ETag"])
    assert before.content != after.content
    assert before.headers["ETag"] != after.headers["ETag"]
    assert re.fullmatch(r'"[0-9A-F]{8}"', after.headers["ETag"])


def test_everybodys_bytes_are_their_own(new_tenant):
    tenant = new_tenant(users=200, photoShare=1)
    graph = tenant.graph()
    with ThreadPoolExecutor(4) as pool:
        photos = list(
            pool.map(lambda user_id: graph.get(f"/users/{user_id}/photo/$value").content, ids(users_of(tenant)))
        )

    assert len(set(photos)) == 200


def test_no_photo_and_no_user(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    tenant.control.delete(f"users/{user_id}/photo")
    graph = tenant.graph()
    for path in ("photo", "photo/$value", "photos", "photos/240x240", "photos/240x240/$value"):
        error = assert_error(graph.get(f"/users/{user_id}/{path}"), 404, "ImageNotFound")
        assert "ImageNotFoundException" in error["message"]
        assert_error(graph.get(f"/users/{uuid4()}/{path}"), 404, "Request_ResourceNotFound")


def test_planted_bytes_are_served_as_they_are(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    planted = b"this is no picture"
    body = {"base64": base64.b64encode(planted).decode(), "contentType": "image/png"}
    tenant.control.put(f"users/{user_id}/photo", body)
    answer = tenant.graph().get(f"/users/{user_id}/photos/240x240/$value")

    assert (answer.content, answer.headers["Content-Type"]) == (planted, "image/png")


@pytest.mark.parametrize(
    ("role", "status"),
    [("ProfilePhoto.Read.All", 200), ("User.Read.All", 200), ("User.ReadWrite.All", 200), ("Directory.Read.All", 403)],
)
def test_the_roles_for_photos(new_tenant, role, status):
    tenant = new_tenant(users=1, photoShare=1, roles=[role])
    answer = tenant.graph().get(f"/users/{users_of(tenant)[0]['id']}/photo")

    assert answer.status_code == status
    if status == 403:
        assert_error(answer, 403, "ErrorAccessDenied")
