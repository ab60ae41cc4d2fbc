"""Client assertions: a JWT that the app's certificate signed, or one of another issuer that the app trusts.

Learn: Microsoft identity platform application authentication certificate credentials; Workload identity federation.
"""

import hmac
from datetime import datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from local.cloud import refusals
from local.cloud.apps import App, Certificate
from local.cloud.identity import ManagedIdentity
from local.cloud.refusals import SignInRefused

SKEW = 300
UNCHECKED: Any = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub")}


def check_assertion(app: App, assertion: str, audiences: set[str], identity: ManagedIdentity, now: datetime) -> None:
    """Return if the assertion proves that the caller is the app, else raise SignInRefused.

    `audiences` are the names of the token endpoint that a certificate's assertion may be meant for.
    """
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False} | UNCHECKED)
    except jwt.InvalidTokenError as error:
        raise refusals.malformed_assertion() from error
    if claims.get("iss") == app.app_id == claims.get("sub"):
        _check_certificate(app, assertion, header, now)
        if claims.get("aud") not in audiences:
            raise refusals.wrong_assertion_audience(str(claims.get("aud")))
    else:
        _check_federation(app, assertion, claims, identity)
    _check_time(claims, now)


def _check_certificate(app: App, assertion: str, header: dict[str, Any], now: datetime) -> None:
    sent = str(header.get("x5t#S256") or header.get("x5t") or header.get("kid") or "").rstrip("=")  # msal pads
    certificate = next((each for each in app.certificates if _is_named(each, sent)), None)
    if certificate is None:
        raise refusals.wrong_certificate("The key was not found.", sent)
    if not certificate.x509.not_valid_before_utc <= now < certificate.x509.not_valid_after_utc:
        raise refusals.wrong_certificate("The key used is expired.", sent)
    key = certificate.x509.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or not _is_signed(assertion, key):
        raise refusals.wrong_certificate(
            "The provided signature value did not match the expected signature value.", sent
        )


def _is_named(certificate: Certificate, thumbprint: str) -> bool:
    return any(
        hmac.compare_digest(certificate.thumbprint(algorithm).encode(), thumbprint.encode())
        for algorithm in (hashes.SHA256(), hashes.SHA1())
    )


def _is_signed(assertion: str, key: rsa.RSAPublicKey) -> bool:
    try:
        jwt.decode(assertion, key, algorithms=["PS256", "RS256"], options=UNCHECKED)
    except jwt.InvalidTokenError:
        return False
    return True


def _check_federation(app: App, assertion: str, claims: dict[str, Any], identity: ManagedIdentity) -> None:
    issuer, subject, audience = (str(claims.get(name)) for name in ("iss", "sub", "aud"))
    for trusted in app.federated_credentials:
        if (trusted.issuer, trusted.subject) == (issuer, subject) and audience in trusted.audiences:
            break
    else:
        raise refusals.no_federated_match(issuer, subject, audience)
    try:
        identity.claims(assertion, audience)
    except jwt.ExpiredSignatureError as error:
        raise refusals.assertion_out_of_time("past the end of the assertion") from error
    except jwt.InvalidTokenError as error:
        raise SignInRefused(50013, 400, "invalid_grant", "Assertion failed signature validation.") from error


def _check_time(claims: dict[str, Any], now: datetime) -> None:
    begins, ends = claims.get("nbf", claims.get("iat", 0)), claims.get("exp", 0)
    if not begins - SKEW <= now.timestamp() < ends + SKEW:
        raise refusals.assertion_out_of_time(now.strftime("%Y-%m-%dT%H:%M:%SZ"))
