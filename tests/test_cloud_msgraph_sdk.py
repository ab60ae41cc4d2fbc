"""The simulated Graph as Microsoft's own SDK for Python sees it."""

import asyncio
import io
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import pytest
from azure.identity import ClientSecretCredential
from PIL import Image

from tests.cloud import TestTenant

# The SDK warns of classes of its own that it builds on, whenever it loads one of its modules.
DEPRECATED = [
    "GetQueryParameters is deprecated",
    "This class is deprecated. Please use the generic RequestConfiguration class",
]

with warnings.catch_warnings():
    for message in DEPRECATED:
        warnings.filterwarnings("ignore", message, DeprecationWarning)
    from kiota_abstractions.base_request_configuration import RequestConfiguration
    from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
    from msgraph.generated.models.o_data_errors.o_data_error import ODataError
    from msgraph.generated.users.count.count_request_builder import CountRequestBuilder
    from msgraph.generated.users.delta.delta_request_builder import DeltaRequestBuilder
    from msgraph.generated.users.item.user_item_request_builder import UserItemRequestBuilder
    from msgraph.generated.users.users_request_builder import UsersRequestBuilder
    from msgraph.graph_request_adapter import GraphRequestAdapter, options
    from msgraph.graph_service_client import GraphServiceClient
    from msgraph_core import GraphClientFactory  # type: ignore[import-untyped]  # ships no types
    from msgraph_core.requests.batch_request_content import BatchRequestContent  # type: ignore[import-untyped]  # ships no types
    from msgraph_core.requests.batch_request_item import BatchRequestItem  # type: ignore[import-untyped]  # ships no types

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}:DeprecationWarning") for message in DEPRECATED]

Answer = TypeVar("Answer")


@asynccontextmanager
async def sdk(tenant: TestTenant) -> AsyncIterator[GraphServiceClient]:
    """The SDK with its own retry, redirect and telemetry middleware, pointed at the simulated hosts."""
    credential = ClientSecretCredential(
        tenant.id,
        tenant.client_id,
        tenant.secret,
        authority=tenant.cloud.entra,
        disable_instance_discovery=True,
        connection_verify=tenant.cloud.ca,
    )
    trust = ssl.create_default_context(cafile=tenant.cloud.ca)
    async with httpx.AsyncHTTPTransport(verify=trust) as transport:
        # The SDK's client never closes the transport below it.
        plain = httpx.AsyncClient(transport=transport, timeout=60)
        client = GraphClientFactory.create_with_default_middleware(client=plain, options=options)
        provider = AzureIdentityAuthenticationProvider(
            credential, scopes=[f"{tenant.cloud.graph}/.default"], allowed_hosts=["localhost"]
        )
        adapter = GraphRequestAdapter(provider, client)
        adapter.base_url = f"{tenant.cloud.graph}/v1.0"
        yield GraphServiceClient(request_adapter=adapter)


def run(tenant: TestTenant, work: Callable[[GraphServiceClient], Awaitable[Answer]]) -> Answer:
    async def main() -> Answer:
        async with sdk(tenant) as graph:
            return await work(graph)

    return asyncio.run(main())


async def all_users(graph: GraphServiceClient, **parameters: Any) -> list[Any]:
    query = UsersRequestBuilder.UsersRequestBuilderGetQueryParameters(**parameters)
    page = await graph.users.get(RequestConfiguration(query_parameters=query))
    users: list[Any] = []
    while page:
        users += page.value or []
        page = await graph.users.with_url(page.odata_next_link).get() if page.odata_next_link else None
    return users


async def delta_round(
    graph: GraphServiceClient, builder: DeltaRequestBuilder, **parameters: Any
) -> tuple[list[Any], str]:
    """All items of a round, and its delta link."""
    query = DeltaRequestBuilder.DeltaRequestBuilderGetQueryParameters(**parameters)
    page = await builder.get(RequestConfiguration(query_parameters=query) if parameters else None)
    users: list[Any] = []
    while page:
        users += page.value or []
        if page.odata_delta_link:
            return users, page.odata_delta_link
        page = await graph.users.delta.with_url(page.odata_next_link or "").get()
    raise AssertionError("no delta link")


def test_users_in_pages(new_tenant):
    tenant = new_tenant(users=250, guestShare=0.3)
    truth = {user["id"]: user for user in tenant.control.get("users")}
    users = run(tenant, lambda graph: all_users(graph, select=["id", "displayName", "userType"], top=100))

    assert len(users) == 250
    assert {user.id: (user.display_name, user.user_type) for user in users} == {
        key: (user["displayName"], user["userType"]) for key, user in truth.items()
    }
    assert tenant.control.get("counters")["graph"]["byTemplate"] == {"GET /users": 3}


def test_users_by_filter(new_tenant):
    tenant = new_tenant(users=60, guestShare=0.3, disabledShare=0.3)
    wanted = [user for user in tenant.control.get("users") if user["userType"] == "Member" and user["accountEnabled"]]
    clause = "userType eq 'Member' and accountEnabled eq true"
    users = run(tenant, lambda graph: all_users(graph, filter=clause, select=["id"]))

    assert {user.id for user in users} == {user["id"] for user in wanted}


def test_the_number_of_users(tenant):
    async def count(graph: GraphServiceClient) -> Any:
        configuration = RequestConfiguration[CountRequestBuilder.CountRequestBuilderGetQueryParameters]()
        configuration.headers.add("ConsistencyLevel", "eventual")
        return await graph.users.count.get(configuration)

    assert run(tenant, count) == 30


def test_one_user_by_id_and_by_a_guests_name(new_tenant):
    tenant = new_tenant(users=1, guestShare=1)
    truth = tenant.control.get("users")[0]

    async def both(graph: GraphServiceClient) -> tuple[Any, Any]:
        query = UserItemRequestBuilder.UserItemRequestBuilderGetQueryParameters(select=["id", "externalUserState"])
        name = graph.users.by_user_id(truth["userPrincipalName"])
        return await graph.users.by_user_id(truth["id"]).get(), await name.get(
            RequestConfiguration(query_parameters=query)
        )

    by_id, by_name = run(tenant, both)

    assert "#EXT#@" in truth["userPrincipalName"]
    assert (by_id.display_name, by_id.mail) == (truth["displayName"], truth["mail"])
    assert (by_name.id, by_name.external_user_state) == (truth["id"], "Accepted")


def test_an_unknown_user_is_an_odata_error(tenant):
    with pytest.raises(ODataError) as raised:
        run(tenant, lambda graph: graph.users.by_user_id("nobody@contoso.com").get())

    assert raised.value.response_status_code == 404
    assert raised.value.error
    assert raised.value.error.code == "Request_ResourceNotFound"
    assert raised.value.error.inner_error
    assert raised.value.error.inner_error.request_id


def test_delta_to_its_link_and_a_second_round(new_tenant):
    tenant = new_tenant(users=450)
    select = ["id", "displayName", "mobilePhone"]

    async def rounds(graph: GraphServiceClient) -> tuple[list[Any], list[Any], list[Any], dict[str, list[str]]]:
        first, link = await delta_round(graph, graph.users.delta, select=select)
        nothing, link = await delta_round(graph, graph.users.delta.with_url(link))
        changed = await asyncio.to_thread(
            tenant.control.post, "mutate", {"count": 30, "seed": 5, "kinds": ["patch", "create", "delete"]}
        )
        second, _ = await delta_round(graph, graph.users.delta.with_url(link))
        return first, nothing, second, changed

    first, nothing, second, changed = run(tenant, rounds)
    removed = {user.id for user in second if "@removed" in user.additional_data}
    kept = {user.id: user.display_name for user in second if user.id not in removed}
    truth = {user["id"]: user["displayName"] for user in tenant.control.get("users")}

    assert (len(first), nothing) == (450, [])
    assert removed == set(changed["delete"])
    assert set(kept) == {*changed["patch"], *changed["create"]}
    assert kept == {key: truth[key] for key in kept}


def test_photo_bytes_and_what_is_known_of_them(new_tenant):
    tenant = new_tenant(users=1, photoShare=1)
    user = tenant.control.get("users")[0]

    async def photo(graph: GraphServiceClient) -> tuple[Any, Any]:
        builder = graph.users.by_user_id(user["id"]).photos.by_profile_photo_id("48x48")
        return await builder.get(), await builder.content.get()

    known, content = run(tenant, photo)
    image = Image.open(io.BytesIO(content))

    assert (known.width, known.height, known.id) == (48, 48, "48x48")
    assert known.additional_data["@odata.mediaEtag"] == user["photo"]["etag"]
    assert (image.format, image.size) == ("JPEG", (48, 48))
    assert content == tenant.control.get(f"users/{user['id']}/photo", size="48x48")


def test_a_missing_photo_is_an_odata_error(new_tenant):
    tenant = new_tenant(users=1, photoShare=0)
    user = tenant.control.get("users")[0]
    with pytest.raises(ODataError) as raised:
        run(tenant, lambda graph: graph.users.by_user_id(user["id"]).photo.content.get())

    assert raised.value.error
    assert (raised.value.response_status_code, raised.value.error.code) == (404, "ImageNotFound")


def test_a_batch_of_photos(new_tenant):
    tenant = new_tenant(users=20, photoShare=0.5)
    users = {user["id"]: user for user in tenant.control.get("users")}

    async def photos(graph: GraphServiceClient) -> dict[str, Any]:
        content = BatchRequestContent()
        for user_id in users:
            request = (
                graph.users.by_user_id(user_id).photos.by_profile_photo_id("48x48").content.to_get_request_information()
            )
            content.add_request(user_id, BatchRequestItem(request, id=user_id))
        answers = await graph.batch.post(content)
        return {user_id: answers.get_response_by_id(user_id) for user_id in users}

    answers = run(tenant, photos)

    for user_id, user in users.items():
        answer = answers[user_id]
        assert answer.status == (200 if user["photo"] else 404)
        if user["photo"]:
            assert answer.headers["ETag"] == user["photo"]["etag"]
    assert {answer.status for answer in answers.values()} == {200, 404}
    assert tenant.control.get("counters")["graph"]["batchItems"] == 20


def test_the_sdk_waits_as_it_is_told(new_tenant):
    """Its retry handler honours Retry-After, so nothing is lost and no request counts as too early."""
    tenant = new_tenant(users=30)
    tenant.control.post("faults", {"rate429": 0.3, "rate503": 0.2, "seed": 2})
    users = run(tenant, lambda graph: all_users(graph, top=10))
    graph = tenant.control.get("counters")["graph"]

    assert len(users) == 30
    assert graph["faulted"] > 0
    assert graph["retryViolations"] == 0
