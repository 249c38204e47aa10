"""Redis behind TLS: certificates are checked, the host's name too, and plain bytes are never sent."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.embedded import Embedded, free_port
from app.errors import StoreUnavailable
from app.settings import Settings
from app.store.wire import open_wire
from tests.servers import command, wait_until
from tests.service import Api, Process, environment

Pair = tuple[x509.Certificate, EllipticCurvePrivateKey]


def certificate(name: str, issuer: Pair | None, address: str | None = None) -> Pair:
    """For a day, signed by `issuer` or by itself; `address` is the host it is good for."""
    key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(authority, critical=False)
    if address is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign((issuer or (None, key))[1], SHA256()), key


class Terminator:
    """A TLS server on loopback that passes on what it decrypts; it notes every connection that failed."""

    def __init__(self, folder: Path, to: int, own: Pair) -> None:
        (folder / "cert.pem").write_bytes(own[0].public_bytes(Encoding.PEM))
        private = own[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key.pem").write_bytes(private)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.port, self._to, self._loop = free_port(), to, asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Terminator:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)
        server = await asyncio.start_server(self._pass, "127.0.0.1", self.port, ssl=self._context)
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._to)
        ways = [asyncio.create_task(_copy(reader, forth)), asyncio.create_task(_copy(back, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, forth):
                end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass


@contextmanager
def terminated(server: Embedded, folder: Path, address: str = "127.0.0.1") -> Iterator[str]:
    """The `rediss://` address of a server, with the authority that its certificate is from."""
    authority = certificate("authority", None)
    (folder / "ca.pem").write_bytes(authority[0].public_bytes(Encoding.PEM))
    with Terminator(folder, server.port, certificate("redis", authority, address)) as tls:
        yield f"rediss://127.0.0.1:{tls.port}/0?ssl_ca_certs={folder / 'ca.pem'}"


@pytest.mark.slow
def test_api_and_worker_run_over_tls(own_server: Embedded, tmp_path: Path) -> None:
    command(own_server, "ACL", "SETUSER", "hj", "on", ">a/b c", "~*", "&*", "+@all")
    with terminated(own_server, tmp_path) as url:
        login = url.replace("://", "://hj:a%2Fb%20c@")
        api, worker = Api(login), Process("worker.main", environment(login))
        try:
            backend = api.tenant()
            backend.call("PATCH", "/v1/admin/config", json={"idle_timeout": "5s"})
            made = backend.create()
            assert backend.verify(made["access_token"])["valid"]
            with api.http.stream(
                "GET", "/v1/events", headers={"Authorization": f"Bearer {backend.key}", "Accept": "text/event-stream"}
            ) as stream:
                lines = stream.iter_lines()
                next(lines)
                backend.call("DELETE", f"/v1/sessions/{made['session']['id']}")
                assert next(line for line in lines if line == "event: session.revoked")
            wait_until(lambda: command(own_server, "EXISTS", "hj:arq:health-check") == 1, "the worker", 15)
        finally:
            worker.stop()
            api.stop()


@pytest.mark.parametrize(
    ("address", "scheme", "trusting"),
    [("127.0.0.1", "rediss", False), ("192.0.2.1", "rediss", True), ("127.0.0.1", "redis", False)],
    ids=["an unknown authority", "another host's certificate", "no TLS"],
)
async def test_who_cannot_prove_to_be_the_store_is_told_nothing(
    own_server: Embedded, tmp_path: Path, address: str, scheme: str, trusting: bool
) -> None:
    with terminated(own_server, tmp_path, address) as url:
        wrong = (url if trusting else url.partition("?")[0]).replace("rediss", scheme)
        env = environment(wrong, HELLOJOHN_ISSUER="https://s.example")
        wire = await open_wire(Settings.from_env(env).redis_url, 1_000)
        with pytest.raises(StoreUnavailable):
            await wire.call("hj:x", "GET", "hj:x")
        await wire.close()
