"""A company's own archive, as the README's adapter knows it: a server to delete from."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Vendor(ThreadingHTTPServer):
    """Holds ids until they are deleted."""

    daemon_threads = True

    def __init__(self, left: set[str]) -> None:
        super().__init__(("127.0.0.1", 0), VendorRequest)
        self.left = left

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class VendorRequest(BaseHTTPRequestHandler):
    """One request to it."""

    server: Vendor

    def do_GET(self) -> None:
        self._say({"ok": self.path == "/health"})

    def do_POST(self) -> None:
        ids = json.loads(self.rfile.read(int(self.headers["content-length"])))["ids"]
        said = {one: "deleted" if one in self.server.left else "unknown_id" for one in ids}
        self.server.left.difference_update(ids)
        self._say({"results": said})

    def _say(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def archived(*ids: str) -> Iterator[Vendor]:
    """An archive of these, served on a free port."""
    with Vendor(set(ids)) as vendor:
        thread = threading.Thread(target=vendor.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield vendor
        finally:
            vendor.shutdown()
            thread.join()
