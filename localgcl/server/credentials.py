"""The one user of a server, and how clients authenticate as that user."""

from __future__ import annotations

import base64
import binascii
import hmac

USER = "localgcl.user"  # the key of the authenticated user in a scope


class Credentials:
    """`USER:PASSWORD`, in each form in which clients send it."""

    def __init__(self, text: str) -> None:
        self.user, _, password = text.partition(":")
        self._text = text.encode()
        # Prefect's client sends an API key as Bearer: the whole of it, or the password alone.
        self._keys = (self._text, password.encode())

    def admit(self, authorization: str | None) -> bool:
        """Whether the value of an Authorization header is right."""
        scheme, _, value = (authorization or "").partition(" ")
        sent = value.strip().encode("latin-1", "replace")
        if scheme.lower() == "bearer":
            return any(hmac.compare_digest(sent, key) for key in self._keys)
        if scheme.lower() != "basic":
            return False
        try:
            return hmac.compare_digest(base64.b64decode(sent, validate=True), self._text)
        except binascii.Error:
            return False

    def admit_token(self, token: str) -> bool:
        """Whether the token of a WebSocket's first message is right."""
        return hmac.compare_digest(token.encode(errors="replace"), self._text)
