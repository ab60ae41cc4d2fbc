"""Entra's sign-in errors as plain causes and remedies (Learn: Microsoft Entra authentication and authorization error codes)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NUMBER = re.compile(r"AADSTS(\d{4,9})\b")


@dataclass(frozen=True)
class Refusal:
    """Why Entra refused: a stable `code`, the cause and remedy in plain words, and whether the credential has expired."""

    code: str
    aadsts: int | None
    cause: str
    remedy: str
    expired: bool = False


_CHECK_TENANT = "Compare the connection's tenant with Tenant ID in the Entra admin center, Overview, and its cloud with the tenant's."
_CHECK_APP = (
    "Compare the connection's client id with Application (client) ID of the app registration, "
    "and let an admin of this tenant grant the app consent."
)
_NEW_CERTIFICATE = (
    "Upload the certificate of this connection to the app registration, Certificates & secrets, or replace it."
)
_FEDERATE = (
    "Add a federated credential to the app registration, Certificates & secrets, with the issuer, subject and audience "
    "(api://AzureADTokenExchange) of the managed identity that this app runs as."
)
_REPORT = "Report this with its code: the product sent a request that Entra does not accept."

_KNOWN: Mapping[int, tuple[str, str]] = {
    90002: ("The tenant does not exist in this cloud.", _CHECK_TENANT),
    900023: ("The tenant is neither an id nor a domain name.", _CHECK_TENANT),
    700016: ("The tenant does not know the app: the client id is wrong, or nobody consented to it there.", _CHECK_APP),
    7000215: (
        "The client secret is wrong.",
        "Enter the secret's value, not its id. Entra shows the value once only: if it is lost, create a new secret.",
    ),
    7000222: (
        "The client secret has expired.",
        "Create a new client secret in the app registration, Certificates & secrets, and enter its value here.",
    ),
    7000229: ("The app has no service principal in the tenant: nobody consented to it there.", _CHECK_APP),
    500011: (
        "Microsoft Graph is not known in the tenant.",
        "Check that the connection's cloud is the one that the tenant is in.",
    ),
    1002012: ("The requested scope is not a resource's default scope.", _REPORT),
    70011: ("The requested scope is not valid.", _REPORT),
    65001: ("Nobody consented to the app in the tenant.", _CHECK_APP),
    700027: ("The certificate is not registered for the app, or its signature does not fit.", _NEW_CERTIFICATE),
    700024: (
        "The signed assertion is outside of its validity time.",
        "Check the clock of the machine that runs this app, and try again.",
    ),
    700213: ("No federated credential of the app matches the managed identity.", _FEDERATE),
    700236: (
        "Entra takes a managed identity only for an app that is registered in the identity's own tenant.",
        "Register one multitenant app in the vendor's tenant and consent to it in this one, or use another credential.",
    ),
    70021: ("No federated credential of the app matches the managed identity.", _FEDERATE),
    53003: (
        "A Conditional Access policy for workload identities blocks the app.",
        "Exclude the app from the policy, or allow the addresses that this app signs in from.",
    ),
    7000112: (
        "The app is disabled in the tenant.",
        "Enable it: Entra admin center, Enterprise applications, the app, Properties, Enabled for users to sign-in.",
    ),
    7000218: (
        "No credential reached Entra.",
        "Enter the client secret's value, or another credential, for this connection again.",
    ),
}

_BY_ERROR: Mapping[str, tuple[str, str]] = {
    "invalid_client": (
        "Entra does not accept the credential.",
        "Enter the client secret's value, or another credential, for this connection again.",
    ),
    "unauthorized_client": ("The app may not sign in to the tenant.", _CHECK_APP),
    "invalid_tenant": _KNOWN[90002],
    "invalid_scope": _KNOWN[70011],
    "invalid_resource": _KNOWN[500011],
    "invalid_grant": ("The tenant does not let the app sign in.", _CHECK_APP),
    "interaction_required": _KNOWN[53003],
}
_UNKNOWN = (
    "Entra refused the sign-in.",
    "Look the code up in Microsoft's list of Entra error codes, or try again later.",
)
_EXPIRED_CERTIFICATE = (
    "The certificate has expired.",
    "Create a new certificate, upload it to the app registration, Certificates & secrets, and give it to this connection.",
)


def explain(error: Mapping[str, Any]) -> Refusal:
    """The cause of an error answer of the token or discovery endpoint, by its AADSTS number, else by its `error`."""
    number = _number(error)
    if number == 700027 and "expired" in str(error.get("error_description")):
        return Refusal("aadsts-700027", number, *_EXPIRED_CERTIFICATE, expired=True)
    by_error = _BY_ERROR.get(str(error.get("error")), _UNKNOWN)
    if number is None:
        return Refusal("sign-in-failed", None, *by_error)
    return Refusal(f"aadsts-{number}", number, *_KNOWN.get(number, by_error), expired=number == 7000222)


def _number(error: Mapping[str, Any]) -> int | None:
    """The first of `error_codes`; the description's own number where they are missing."""
    codes = error.get("error_codes")
    if isinstance(codes, list) and codes and isinstance(codes[0], int):
        return codes[0]
    found = _NUMBER.search(str(error.get("error_description")))
    return int(found[1]) if found else None
