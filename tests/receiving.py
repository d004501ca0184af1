"""A mail server and a webhook that keep what they are sent."""

from __future__ import annotations

import email
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer
from typing import Any


@dataclass
class Received:
    """:param mails: with their envelope's recipients
    :param posts: path and body
    """

    port: int = 0
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@contextmanager
def mail_server() -> Iterator[Received]:
    """A server that speaks as much of SMTP (RFC 5321) as a client needs to hand over a message."""
    received = Received()

    class Session(StreamRequestHandler):
        def handle(self) -> None:
            people: list[str] = []
            self.say("220 ready")
            for line in iter(self.rfile.readline, b""):
                verb, _, rest = line.decode().strip().partition(" ")
                if verb.upper() == "QUIT":
                    return self.say("221 bye")
                if verb.upper() == "RCPT":
                    people.append(rest.partition(":")[2].strip(" <>"))
                if verb.upper() == "DATA":
                    self.say("354 go on")
                    received.mails.append((people, self.message()))
                    people = []
                self.say("250 fine")
            return None

        def message(self) -> EmailMessage:
            lines = [line.removeprefix(b".") for line in iter(self.rfile.readline, b".\r\n")]
            return email.message_from_bytes(b"".join(lines), policy=email.policy.default)

        def say(self, answer: str) -> None:
            self.wfile.write(f"{answer}\r\n".encode())

    with listening(ThreadingTCPServer(("127.0.0.1", 0), Session)) as received.port:
        yield received


@contextmanager
def webhook(status: int = 200) -> Iterator[Received]:
    """A server that takes JSON, as Slack's incoming webhooks do.

    :param status: of its answers
    """
    received = Received()

    class Session(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.posts.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"ok" if status == 200 else b"no_service")

        def log_message(self, format: str, *args: Any) -> None:
            """Not to the terminal."""

    with listening(ThreadingHTTPServer(("127.0.0.1", 0), Session)) as received.port:
        yield received


@contextmanager
def listening(server: TCPServer) -> Iterator[int]:
    """Serve in a thread; gives the port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
