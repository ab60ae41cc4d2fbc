"""Why Entra refuses a sign-in, as it words it (Learn: Microsoft Entra authentication and authorization error codes)."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class SignInRefused(Exception):
    number: int
    status: int
    error: str
    text: str
    extra: dict[str, Any] = field(default_factory=dict)


def unknown_tenant(tenant: str) -> SignInRefused:
    text = (
        f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct"
        " cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the"
        " tenant."
    )
    return SignInRefused(90002, 400, "invalid_request", text)


def malformed_tenant(tenant: str) -> SignInRefused:
    text = f"Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain."
    return SignInRefused(900023, 400, "invalid_request", text)


def missing_parameter(name: str) -> SignInRefused:
    return SignInRefused(
        900144, 400, "invalid_request", f"The request body must contain the following parameter: '{name}'."
    )


def unsupported_grant(grant: str) -> SignInRefused:
    text = f"The app requested an unsupported grant type '{grant}'."
    return SignInRefused(70003, 400, "unsupported_grant_type", text)


def unknown_app(app_id: str, tenant: str) -> SignInRefused:
    text = (
        f"Application with identifier '{app_id}' was not found in the directory '{tenant}'. This can happen if the"
        " application has not been installed by the administrator of the tenant or consented to by any user in the tenant."
        " You may have sent your authentication request to the wrong tenant."
    )
    return SignInRefused(700016, 400, "unauthorized_client", text)


def disabled_app(app_id: str, name: str) -> SignInRefused:
    return SignInRefused(7000112, 400, "unauthorized_client", f"Application '{app_id}'({name}) is disabled.")


def no_service_principal(app_id: str, tenant_id: str) -> SignInRefused:
    text = f"The client application {app_id} is missing service principal in the tenant {tenant_id}."
    return SignInRefused(7000229, 401, "invalid_client", text)


def wrong_secret(app_id: str) -> SignInRefused:
    text = (
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the"
        f" client secret ID, for a secret added to app '{app_id}'."
    )
    return SignInRefused(7000215, 401, "invalid_client", text)


def expired_secret(app_id: str) -> SignInRefused:
    text = (
        f"The provided client secret keys for app '{app_id}' are expired. Visit the Azure portal to create new keys for"
        " your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security:"
        " https://aka.ms/certCreds."
    )
    return SignInRefused(7000222, 401, "invalid_client", text)


def no_credential() -> SignInRefused:
    text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
    return SignInRefused(7000218, 401, "invalid_client", text)


def wrong_certificate(reason: str, thumbprint: str) -> SignInRefused:
    text = (
        "The certificate with identifier used to sign the client assertion is not registered on application."
        f" [Reason - {reason}, Thumbprint of key used by client: '{thumbprint}']"
    )
    return SignInRefused(700027, 401, "invalid_client", text)


def assertion_out_of_time(now: str) -> SignInRefused:
    text = f"Client assertion is not within its valid time range. Current time: {now}."
    return SignInRefused(700024, 401, "invalid_client", text)


def wrong_assertion_audience(audience: str) -> SignInRefused:
    text = f"Client assertion audience claim does not match Realm issuer. Provided audience: '{audience}'."
    return SignInRefused(700023, 401, "invalid_client", text)


def malformed_assertion() -> SignInRefused:
    return SignInRefused(50027, 400, "invalid_request", "JWT token is invalid or malformed.")


def no_federated_match(issuer: str, subject: str, audience: str) -> SignInRefused:
    text = (
        "No matching federated identity record found for presented assertion."
        f" Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'."
    )
    return SignInRefused(700213, 401, "invalid_client", text)


def blocked_by_policy(policy: str) -> SignInRefused:
    claims = '{"access_token":{"capolids":{"essential":true,"values":["' + policy + '"]}}}'
    text = "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance."
    return SignInRefused(53003, 400, "invalid_grant", text, {"suberror": "message_only", "claims": claims})


def unknown_resource(resource: str, tenant: str) -> SignInRefused:
    text = (
        f"The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the"
        " application has not been installed by the administrator of the tenant or consented to by any user in the tenant."
        " You might have sent your authentication request to the wrong tenant."
    )
    return SignInRefused(500011, 400, "invalid_resource", text)


def scope_without_default(scope: str) -> SignInRefused:
    text = (
        f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default"
        " suffixed to the resource identifier (application ID URI)."
    )
    return SignInRefused(1002012, 400, "invalid_scope", text)


def invalid_scope(scope: str) -> SignInRefused:
    text = (
        f"The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope'"
        f" is not valid. The scope {scope} is not valid."
    )
    return SignInRefused(70011, 400, "invalid_scope", text)
