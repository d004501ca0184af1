"""A Kubernetes cluster that fits in a test: an API server on a socket, a controller, a node."""

from __future__ import annotations

import threading

from tests.kubernetes.fake.access import Access
from tests.kubernetes.fake.containers import Images
from tests.kubernetes.fake.controller import Controller
from tests.kubernetes.fake.faults import Faults
from tests.kubernetes.fake.kubelet import Kubelet
from tests.kubernetes.fake.resources import RESOURCES
from tests.kubernetes.fake.server import Server
from tests.kubernetes.fake.store import Store


class FakeCluster:
    """Only what this package calls, as a real API server of 1.36 answers it.

    :ivar url: of the API server, without TLS
    :ivar admin_token: may do everything
    :ivar images: what its containers run
    :ivar faults: what the next requests meet
    :ivar calls: verb and resource of each request that was understood, in their order
    :ivar errors: what went wrong in the fake itself; nothing in a test that holds
    """

    def __init__(self) -> None:
        self.store, self.images, self.faults = Store(), Images(), Faults()
        self.access = Access(self.store)
        self.calls: list[tuple[str, str]] = []
        self.errors: list[str] = []
        self.stopped = threading.Event()
        self.kubelet = Kubelet(self.store, self.images)
        self._controller = Controller(self.store)
        self._server = Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="api server", daemon=True)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def admin_token(self) -> str:
        return self.access.admin_token

    def start(self) -> FakeCluster:
        self.add_namespace("default")
        self.kubelet.start()
        self._controller.start()
        self._thread.start()
        return self

    def add_namespace(self, name: str) -> None:
        content = {"metadata": {"name": name}, "status": {"phase": "Active"}}
        self.store.create(RESOURCES["", "namespaces"], "", content)

    def compact(self) -> None:
        """Make every watch that begins before now meet a 410."""
        self.store.compact()

    def stop(self) -> None:
        """End the pods' processes, the threads and the socket."""
        self.stopped.set()
        self.faults.clear()
        self._controller.stop()
        self.kubelet.stop()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._controller.join()
