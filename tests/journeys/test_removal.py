"""A customer leaves: nothing of the connection is left anywhere, and the name is free again."""

from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient

from local.stack import Stack


def traces(stack: Stack, name: str) -> list[str]:
    """Every row and blob that names the connection."""
    tables = TableServiceClient.from_connection_string(stack.storage)
    rows = (
        f"{table.name} {dict(row)}"
        for table in tables.list_tables()
        for row in tables.get_table_client(table.name).list_entities()
    )
    blobs = BlobServiceClient.from_connection_string(stack.storage).get_container_client("photos")
    return [trace for trace in (*rows, *blobs.list_blob_names()) if name in trace]


def test_a_connection_goes_with_everything_that_belongs_to_it(stack, portal, connect) -> None:
    customer, neighbour = connect(), connect()
    for each in (customer, neighbour):
        each.enable("users", "photos")
        each.sync("users")
        each.sync("photos")
    before = traces(stack, neighbour.name)
    assert len(traces(stack, customer.name)) > 30

    answer = portal.send("DELETE", customer.path)
    assert answer.status_code == 202
    assert portal.send("GET", customer.path).status_code == 404
    run = customer.wait(answer.json())

    assert run["status"] == "succeeded"
    assert answer.headers["Location"] == f"/api/{customer.path}/runs/{run['id']}"
    left = traces(stack, customer.name)
    assert all(run["id"] in trace for trace in left), left
    assert portal.send("GET", f"{customer.path}/users").json()["code"] == "connection-not-found"
    assert traces(stack, neighbour.name) == before
    assert len(neighbour.users()) == 30

    portal.post("connections", customer.tenant.connection(customer.name))
    customer.enable("users")
    assert customer.users() == {}
    assert customer.sync("users")["counts"]["created"] == 30
