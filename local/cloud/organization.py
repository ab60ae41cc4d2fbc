"""GET /organization (Learn: List organization)."""

from local.cloud.protocol import READ_DIRECTORY, Answer, Call, Route

READ_ORGANIZATION = frozenset({"Organization.Read.All", "Organization.ReadWrite.All"}) | READ_DIRECTORY


def get_organization(call: Call) -> Answer:
    tenant = call.tenant
    item = {
        "id": tenant.id,
        "displayName": tenant.display_name,
        "countryLetterCode": tenant.country,
        "tenantType": "AAD",
        "verifiedDomains": [{"name": tenant.domain, "isDefault": True, "isInitial": True, "type": "Managed"}],
    }
    names = call.query["$select"].split(",") if "$select" in call.query else list(item)
    value = [{name: item.get(name) for name in names}]
    return Answer(body={"@odata.context": f"{call.base}/$metadata#organization", "value": value})


ROUTES = [Route("GET", "organization", get_organization, READ_ORGANIZATION)]
