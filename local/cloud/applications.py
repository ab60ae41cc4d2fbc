"""GET /applications and one application (Learn: List applications, Get application)."""

from cryptography.hazmat.primitives import hashes

from local.cloud.apps import App, Certificate, Secret
from local.cloud.clock import rfc3339
from local.cloud.objects import Properties
from local.cloud.odata import Filter
from local.cloud.protocol import READ_DIRECTORY, Answer, Call, Refused, Route

READ_APPLICATIONS = frozenset({"Application.Read.All", "Application.ReadWrite.All"}) | READ_DIRECTORY


def get_application(call: Call, app_id: str) -> Answer:
    app = call.tenant.app(app_id)
    if app is None:
        raise Refused(404, "Request_ResourceNotFound", f"Resource '{app_id}' does not exist.")
    body = {"@odata.context": f"{call.base}/$metadata#applications/$entity"}
    return Answer(body=body | _chosen(call, application(app)))


def list_applications(call: Call) -> Answer:
    clause = call.query.get("$filter")
    test = Filter(clause, frozenset({"appId", "displayName"})).test if clause else None
    every = map(application, call.tenant.apps)
    found = [app for app in every if test is None or test(app)]
    context = f"{call.base}/$metadata#applications"
    return Answer(body={"@odata.context": context, "value": [_chosen(call, app) for app in found]})


def application(app: App) -> Properties:
    """The registration as Graph shows it: hints and dates of credentials, never their values."""
    return {
        "id": app.object_id,
        "appId": app.app_id,
        "displayName": app.display_name,
        "signInAudience": "AzureADMyOrg",
        "passwordCredentials": [_password(secret) for secret in app.secrets],
        "keyCredentials": [_key(certificate) for certificate in app.certificates],
    }


def _password(secret: Secret) -> Properties:
    return {
        "customKeyIdentifier": None,
        "displayName": secret.display_name,
        "endDateTime": rfc3339(secret.end_date_time),
        "hint": secret.value[:3],
        "keyId": secret.key_id,
        "secretText": None,
        "startDateTime": rfc3339(secret.start_date_time),
    }


def _key(certificate: Certificate) -> Properties:
    return {
        "customKeyIdentifier": certificate.thumbprint(hashes.SHA1()),
        "displayName": certificate.display_name,
        "endDateTime": rfc3339(certificate.x509.not_valid_after_utc),
        "key": None,
        "keyId": certificate.key_id,
        "startDateTime": rfc3339(certificate.x509.not_valid_before_utc),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    }


def _chosen(call: Call, properties: Properties) -> Properties:
    if "$select" not in call.query:
        return properties
    return {name: properties.get(name) for name in call.query["$select"].split(",")}


ROUTES = [
    Route("GET", "applications(appId='{app_id}')", get_application, READ_APPLICATIONS),
    Route("GET", "applications", list_applications, READ_APPLICATIONS),
]
