"""The certificate of the public port: read from two files, and read again when they change.

``read`` is asked by ``roost serve`` before anything starts and by each gateway worker; a worker looks in its sweep
whether the files have changed. It must never put another pair in place than one that fits, nor tell what is in a key.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from roost.domain.errors import InvalidSettings

Stamp = tuple[int, int, int]


def read(cert: str, key: str) -> ssl.SSLContext:
    """How the public port speaks TLS: 1.2 at least, HTTP/1.1.

    Raises ``InvalidSettings`` with what is wrong with which file.
    """
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise InvalidSettings(f"Cannot read {path} ({name}): {error.strerror}.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(context, cert, key)
    return context


class Certificate:
    """A pair in use. ``context`` stays when the pair changes: connections made from then on get the new one."""

    def __init__(self, cert: str, key: str) -> None:
        """Raises ``InvalidSettings``."""
        self._files = (cert, key)
        self._seen = self._stamps()
        self.context = read(cert, key)

    def look(self) -> str | None:
        """Take over a pair that has changed; why it could not be, once for each change. None: all is well.

        While only one of the two files is new, they do not fit: the old pair stays until they do.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return None
        self._seen = stamps
        try:
            read(*self._files)  # tried elsewhere first: a pair that fails half-way would be half in place
            _load(self.context, *self._files)
        except InvalidSettings as error:
            return error.message
        return None

    def _stamps(self) -> tuple[Stamp | None, Stamp | None]:
        cert, key = self._files
        return _stamp(cert), _stamp(key)


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        # Without a terminal nobody can be asked for a passphrase: an encrypted key is an error.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, ValueError, OSError) as error:
        reason = getattr(error, "reason", None) or ""
        if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise InvalidSettings(
                f"The key in {key} (tls_key) is not that of the certificate in {cert} (tls_cert)."
            ) from error
        raise InvalidSettings(
            f"{cert} (tls_cert) and {key} (tls_key) must hold a certificate with its chain and its private key, both "
            "in PEM, and the key without a passphrase."
        ) from error
