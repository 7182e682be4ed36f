"""Calls of a language model that allows so many requests and so many tokens a minute.

A call asks for one request and for the tokens that it may need, in one grant. Once the answer is
there, `adjust` gives back the tokens that it did not need, or takes those it needed beyond. The
server here, on the loopback interface, counts as the real ones do, and answers 429 to what is too
much. Its minute lasts a second.

    $ python examples/llm_calls.py
    24 answers, none of them 429
    the server saw at most 8 requests in its minute, of 8 allowed
    the server saw at most ... tokens in its minute, of 4000 allowed
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from localgcl import Limiter

MINUTE = 1.0
REQUESTS, TOKENS = 8, 4000
CALLS, RESERVED = 24, 900


class Model(BaseHTTPRequestHandler):
    """A fake model: an answer costs as many tokens as the prompt says."""

    seen: list[tuple[float, int]]
    lock = threading.Lock()

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        now = time.monotonic()
        with self.lock:
            recent = [tokens for at, tokens in self.seen if at > now - MINUTE]
            fits = len(recent) < REQUESTS and sum(recent) + wanted["tokens"] <= TOKENS
            if fits:
                self.seen.append((now, wanted["tokens"]))
        body = json.dumps({"usage": wanted["tokens"]}).encode()
        self.send_response(200 if fits else 429)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def model() -> Iterator[int]:
    Model.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(limiter: Limiter, port: int, number: int) -> int:
    limiter.rate_limit({"model-requests": 1, "model-tokens": RESERVED}, strict=True)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        prompt = json.dumps({"tokens": 200 + 25 * number})
        connection.request("POST", "/", prompt)
        answer = connection.getresponse()
        used = json.load(answer)["usage"]
    finally:
        connection.close()
    limiter.adjust("model-tokens", used - RESERVED)
    return answer.status


def most(seen: list[tuple[float, int]]) -> tuple[int, int]:
    """Return the most requests and the most tokens in any minute."""
    within = [[tokens for at, tokens in seen if end - MINUTE < at <= end] for end, _ in seen]
    return max(map(len, within)), max(map(sum, within))


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        Limiter(os.path.join(folder, "limits.db")) as limiter,
        model() as port,
    ):
        # A little longer than the minute of the server, which sees each request a moment later.
        limiter.create("model-requests", REQUESTS, window_seconds=MINUTE * 1.1)
        limiter.create("model-tokens", TOKENS, window_seconds=MINUTE * 1.1)
        with ThreadPoolExecutor(6) as pool:
            statuses = list(pool.map(lambda number: ask(limiter, port, number), range(CALLS)))
        requests, tokens = most(Model.seen)

    refused = statuses.count(429)
    print(f"{CALLS} answers, {refused or 'none'} of them 429")
    print(f"the server saw at most {requests} requests in its minute, of {REQUESTS} allowed")
    print(f"the server saw at most {tokens} tokens in its minute, of {TOKENS} allowed")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
