"""Who a device belongs to (Learn: List registeredOwners)."""

from local.cloud.kinds import DEVICE
from local.cloud.listing import linked_objects
from local.cloud.protocol import Answer, Call, Route


def list_owners(call: Call, key: str) -> Answer:
    device = DEVICE.find(call, key)
    return linked_objects(call, device.links.values()).answer(call)


ROUTES = [Route("GET", "devices/{id}/registeredOwners", list_owners, DEVICE.readers)]
