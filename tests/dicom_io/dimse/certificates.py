"""Certificates for TLS tests, made when they are needed."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pem:
    """The PEM files of a certificate."""

    certificate: Path
    key: Path

    @property
    def sha256(self) -> str:
        loaded = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return loaded.fingerprint(hashes.SHA256()).hex()


class Authority:
    """A certificate authority below a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key, 30).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = self._written(name, builder.sign(self._key, hashes.SHA256()), self._key)

    def issue(self, name: str, *, days: int = 1) -> Pem:
        """A certificate for 127.0.0.1; expired where `days` is negative."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = self._builder(subject, key, days).add_extension(names, critical=False)
        return self._written(name, builder.sign(self._key, hashes.SHA256()), key)

    def _builder(self, subject: x509.Name, key: rsa.RSAPrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 40 * DAY)
            .not_valid_after(now + days * DAY)
        )

    def _written(self, name: str, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> Pem:
        pem = Pem(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pem.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        return pem
