"""Credentials, read from their files again for every connection, as they may have been renewed."""

import base64
import re
from pathlib import Path

import nats.errors
import nkeys

_seed = re.compile(rb"BEGIN USER NKEY SEED-+\s+(\S+)\s+-").search
_jwt = re.compile(rb"BEGIN NATS USER JWT-+\s+(\S+)\s+-").search


class KeyFile:
    """A credentials file, which has a token and a seed, or an nkey file, which has only the seed.

    nats-py reads the public key of an nkey file only once, and never stops reading a truncated
    credentials file. Here an invalid file makes one attempt fail, with an error that names it.
    """

    def __init__(self, path: str, *, with_token: bool) -> None:
        self._path = Path(path)
        self._with_token = with_token
        self.token = b""
        self.public_key = ""

    def sign(self, nonce: str) -> bytes:
        """Sign the server's challenge. Sets ``token`` and ``public_key`` from the same reading.

        Raises nats-py's Error, naming the file.
        """
        text = self._read()
        seed = text.strip()
        if self._with_token:
            self.token, seed = self._found(_jwt(text)), self._found(_seed(text))
        try:
            pair = nkeys.from_seed(bytearray(seed))
            self.public_key = pair.public_key.decode()
            signed = pair.sign(nonce.encode())
        except (nkeys.NkeysError, ValueError) as exc:
            raise nats.errors.Error(f"nats: {self._path} holds no valid seed: {exc!r}") from None
        pair.wipe()
        return base64.b64encode(signed)

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as exc:
            raise nats.errors.Error(f"nats: cannot read {self._path}: {exc.strerror}") from None

    def _found(self, match: re.Match[bytes] | None) -> bytes:
        if match is None:
            raise nats.errors.Error(f"nats: {self._path} is no credentials file, or not all of it")
        return match[1]
