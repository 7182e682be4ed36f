"""A client that keeps to the rate of an API, and is never told 429 Too Many Requests.

The API, a small server in a thread here, allows ten requests in any second. A limit of n slots that
decay at r a second admits at most n + r * T requests in any T seconds: two slots and six a second
make eight, which leaves room for one that was slow on its way.

    $ python examples/api_client.py
    without rate_limit: 5 of 15 requests were answered 429
    with rate_limit: 0 of 15 requests were answered 429
"""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

from localgcl import Limiter, rate_limit

REQUESTS = 15
ALLOWED_PER_SECOND = 10


@contextlib.contextmanager
def api() -> Iterator[int]:
    """Serve on a free port, which is yielded, and count the requests of each second."""
    answered: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            now = time.monotonic()
            if sum(moment > now - 1 for moment in answered) < ALLOWED_PER_SECOND:
                answered.append(now)
                self.send_response(HTTPStatus.NO_CONTENT)
            else:
                self.send_response(HTTPStatus.TOO_MANY_REQUESTS)
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass  # standard error is for errors

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def get(port: int) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().status


def refused(limit: str | None) -> int:
    """Make the requests, each when `limit` allows it; return how many were too many."""
    statuses = []
    with api() as port:
        for _ in range(REQUESTS):
            rate_limit(limit, strict=True)
            statuses.append(get(port))
    return statuses.count(HTTPStatus.TOO_MANY_REQUESTS)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOCALGCL_DB"] = os.path.join(folder, "limits.db")
        with Limiter() as limiter:
            limiter.create("api", 2, slot_decay_per_second=6)
            without, within = refused(None), refused("api")

    print(f"without rate_limit: {without} of {REQUESTS} requests were answered 429")
    print(f"with rate_limit: {within} of {REQUESTS} requests were answered 429")
    return 0 if without > 0 and within == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
