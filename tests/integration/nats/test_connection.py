"""Connecting: what fails fast, what is kept secret, what is taken up again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.worker.embedded import EmbeddedNats
from penstock.worker.errors import SourceUnavailable
from penstock.worker.nats.connection import connect, reads, revive
from penstock.worker.nats.options import NatsOptions
from penstock.worker.nats.wire import BatchParser
from tests.support.waiting import PATIENCE, until


@asynccontextmanager
async def eavesdropper() -> AsyncIterator[tuple[int, asyncio.Queue[bytes]]]:
    """A server that offers no TLS and writes down what it is told."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"X","version":"2.12.0","auth_required":true}\r\n')
        heard.put_nowait(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_no_password_is_sent_to_a_server_without_tls(scheme: str) -> None:
    async with eavesdropper() as (port, heard):
        options = NatsOptions(
            url=f"{scheme}://127.0.0.1:{port}", user="penstock", password="hunter2", tls_first=False
        )
        if scheme == "nats":
            options = NatsOptions(url=f"tls://penstock:hunter2@127.0.0.1:{port}")
        with pytest.raises(SourceUnavailable, match="TLS is required") as caught:
            await connect(options, name="test")
        assert "hunter2" not in str(caught.value)
        assert await asyncio.wait_for(heard.get(), PATIENCE) == b""


async def test_a_server_that_is_away_fails_at_once_naming_it_without_secrets() -> None:
    options = NatsOptions(url="nats://me:hunter2@127.0.0.1:1, 127.0.0.1:2")
    with pytest.raises(SourceUnavailable, match=r"nats://127\.0\.0\.1:1,") as caught:
        await asyncio.wait_for(connect(options, name="test"), 10)
    assert "hunter2" not in str(caught.value)


async def test_the_wrong_password_fails_at_once() -> None:
    config = 'authorization { user: "u", password: "right" }\n'
    async with EmbeddedNats(extra_config=config) as server:
        with pytest.raises(SourceUnavailable, match=r"(?i)authorization violation"):
            await connect(NatsOptions(url=server.url, user="u", password="wrong"), name="test")
        client = await connect(NatsOptions(url=server.url, user="u", password="right"), name="test")
        assert client.is_connected
        await client.close()


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "client"])
async def test_a_subject_that_is_not_permitted_is_named_as_it_was_published(
    caplog: pytest.LogCaptureFixture, *, fast: bool
) -> None:
    config = "authorization { users: [{user: u, password: p, permissions: {publish: [x]}}] }"
    async with EmbeddedNats(extra_config=config) as server:
        options = NatsOptions(url=server.url, user="u", password="p")
        client = await connect(options, name="test")
        if fast:
            BatchParser.of(client)
        await client.publish("agents.A-7.Seen", b"")
        await client.flush()
        await until(lambda: "nats_permission_denied" in caplog.text)
        assert client.is_connected
        await client.close()
    assert caplog.text.count("nats_permission_denied") == 1
    assert '"agents.A-7.Seen"' in caplog.text


async def test_a_list_of_servers_needs_one(nats_url: str) -> None:
    client = await connect(NatsOptions(url=f"nats://127.0.0.1:1,{nats_url}"), name="test")
    assert client.is_connected
    await client.close()


@pytest.mark.parametrize("first", [False, True])
async def test_tls_is_used_and_the_certificate_checked(certificate: Path, *, first: bool) -> None:
    files = f'cert_file: "{certificate}", key_file: "{certificate.with_name("key.pem")}"'
    # With a delay, a client that waits for the greeting still gets it: so does the fixture.
    early = ', handshake_first: "100ms"' if first else ""
    async with EmbeddedNats(extra_config=f"tls {{ {files}{early} }}\n") as server:
        options = NatsOptions(url=server.url, tls_ca=str(certificate), tls_first=first)
        client = await connect(options, name="test")
        transport: Any = client._transport
        assert transport._io_writer.get_extra_info("ssl_object") is not None
        assert await client.rtt() > 0
        await client.close()
        stranger = NatsOptions(url=server.url.replace("nats://", "tls://"), tls_first=first)
        with pytest.raises(SourceUnavailable, match="its certificate is not accepted: self-signed"):
            await connect(stranger, name="test")


async def test_a_missing_tls_file_is_named() -> None:
    with pytest.raises(SourceUnavailable, match="TLS files"):
        await connect(NatsOptions(url="nats://127.0.0.1:1", tls_ca="/nowhere.pem"), name="test")


async def test_an_end_that_the_server_makes_is_told() -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"X","version":"2.12.0","max_payload":1024}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n-ERR 'Parser Error'\r\n")
        await reader.read()
        writer.close()

    async def on_closed() -> None:
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await connect(NatsOptions(url=url), name="test", on_closed=on_closed)
        await asyncio.wait_for(ended.wait(), PATIENCE)


async def test_callbacks_tell_of_reconnects_and_not_of_our_own_end() -> None:
    told: list[str] = []
    reconnected = asyncio.Event()

    async def on_reconnected() -> None:
        told.append("reconnected")
        reconnected.set()

    async def on_closed() -> None:
        told.append("closed")

    async with EmbeddedNats() as server:
        client = await connect(
            NatsOptions(url=server.url),
            name="test",
            on_reconnected=on_reconnected,
            on_closed=on_closed,
        )
        server.kill()
        await server.restart()
        await asyncio.wait_for(reconnected.wait(), PATIENCE)
        await client.close()
    assert told == ["reconnected"]


async def test_a_dead_read_loop_and_dead_reconnecting_are_seen_and_revived(nats_url: str) -> None:
    client = await connect(NatsOptions(url=nats_url), name="test")
    assert client._reading_task is not None
    client._reading_task.cancel()
    await asyncio.wait({client._reading_task})
    assert client.is_connected
    assert not reads(client)
    await revive(client)
    assert client._reconnection_task is not None
    client._reconnection_task.cancel()
    await asyncio.wait({client._reconnection_task})
    await revive(client)
    await until(lambda: reads(client))
    assert await client.rtt() > 0
    await client.close()
