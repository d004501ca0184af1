"""The socket: requests in, JSON out, with the faults that were asked for."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.kubernetes.fake.faults import Fault
from tests.kubernetes.fake.requests import Streamed, answer, parse
from tests.kubernetes.fake.resources import ApiError, JsonObject, bad_request

if TYPE_CHECKING:
    from tests.kubernetes.fake.cluster import FakeCluster


class CutError(Exception):
    """The connection ends here."""


class Server(ThreadingHTTPServer):
    """One thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cluster = cluster

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error; anything else fails the test that looks at ``errors``."""
        import sys

        err = sys.exc_info()[1]
        if not isinstance(err, ConnectionError | CutError | ValueError):
            self.cluster.errors.append(repr(err))


class Handler(BaseHTTPRequestHandler):
    """Requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at what the client was told."""

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cluster, fault = self.server.cluster, None
        try:
            url = urlsplit(self.path)
            request = parse(self.command, url.path, dict(parse_qsl(url.query, keep_blank_values=True)))
            user = cluster.access.user(self.headers.get("Authorization"))
            request = request.by(user, self._json(body), self.headers.get("Content-Type") or "")
            if request.resource:
                cluster.calls.append((request.verb, request.resource_path))
                fault = cluster.faults.take(request.verb, request.resource, request.sub)
            self._before(fault)
            result = answer(cluster, request)
        except ApiError as err:
            self._send(err.code, err.status, err.retry_after)
            return
        if fault and fault.kind == "cut_after":
            self._cut()
        if isinstance(result, Streamed):
            self._stream(result, fault)
        else:
            self._send(
                201 if self.command == "POST" else 200, result, cut=fault is not None and fault.kind == "cut_middle"
            )

    def _before(self, fault: Fault | None) -> None:
        if fault is None:
            return
        if fault.kind == "status":
            assert fault.error is not None
            raise fault.error
        if fault.kind == "cut_before":
            self._cut()
        if fault.kind == "hang":
            while not fault.release.wait(0.1) and not self._is_gone():
                continue
            self._cut()

    def _json(self, body: bytes) -> Any:
        if not body:
            return None
        try:
            return json.loads(body)
        except ValueError:
            raise bad_request("couldn't get version/kind; json parse error: invalid character") from None

    def _send(self, code: int, content: JsonObject, retry_after: int | None = None, *, cut: bool = False) -> None:
        payload = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(payload[: len(payload) // 2] if cut else payload)
        if cut:
            self._cut()

    def _stream(self, streamed: Streamed, fault: Fault | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", streamed.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in _heard(streamed.chunks(self._is_gone)):
            half = len(chunk) // 2
            sent = chunk[:half] if fault and fault.kind == "cut_middle" else chunk
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            self.wfile.flush()
            if sent is not chunk:
                self._cut()
        self.wfile.write(b"0\r\n\r\n")

    def _is_gone(self) -> bool:
        if self.server.cluster.stopped.is_set():
            return True
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        raise CutError


def _heard(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Without what is empty: an empty chunk ends the stream."""
    return (chunk for chunk in chunks if chunk)
