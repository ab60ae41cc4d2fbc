"""The key that signs every token of the simulated cloud: Entra's access tokens and managed identities' tokens alike."""

import base64
import hashlib
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

Claims = dict[str, Any]


class SigningKey:
    """One RSA key with its JWKS form."""

    def __init__(self) -> None:
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public = self._private.public_key()
        numbers = self.public.public_numbers()
        self._n, self._e = _base64url(numbers.n), _base64url(numbers.e)
        self.kid = hashlib.sha256(self._n.encode()).hexdigest()[:27]

    def sign(self, claims: Claims) -> str:
        """A compact RS256 JWT of `claims`."""
        return jwt.encode(claims, self._private, algorithm="RS256", headers={"kid": self.kid, "x5t": self.kid})

    def verify(self, token: str) -> Claims:
        """The claims of a token that this key signed, times and audience unchecked; jwt.InvalidTokenError if it did not."""
        only_signature = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
        claims: Claims = jwt.decode(token, self.public, algorithms=["RS256"], options=only_signature)  # type: ignore[arg-type] # its TypedDict is not a plain dict
        return claims

    def jwks(self) -> dict[str, Any]:
        """The key set document that OpenID configurations point to."""
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "x5t": self.kid, "n": self._n, "e": self._e}
        return {"keys": [key]}


def _base64url(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
