"""Time to parse one typical request head: onetrip, httptools and h11, side by side.

    python tests/benchmark/bench_http1_parser.py

"first" parses a head whose fields were not seen before on the connection; "repeated" one whose
fields equal the last ones, which is what a kept connection mostly carries. Every parser collects
the fields and learns method, target, Host, framing and keep-alive: what a proxy needs.
"""

from __future__ import annotations

import timeit

import h11
import httptools

from onetrip.wire.http1 import Limits
from onetrip.wire.http1_head import HeadReader

FIELDS = (
    b"Host: api.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"Connection: keep-alive\r\n"
    b"Cookie: session=%08d89abcdef0123456789abcdef; theme=dark\r\n"
    b"Cache-Control: max-age=0\r\n"
    b"X-Requested-With: XMLHttpRequest\r\n"
    b"Referer: https://example.com/\r\n\r\n"
)
HEADS = [b"GET /users/42/posts?page=2 HTTP/1.1\r\n" + FIELDS % i for i in range(2)]
COUNT = 20_000
ROUNDS = 7


class Collector:
    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.host = b""

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))
        if name.lower() == b"host":
            self.host = value


def by_httptools(head: bytes) -> None:
    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    parser.feed_data(head)
    parser.get_method()
    parser.should_keep_alive()


def by_h11(head: bytes) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    connection.next_event()


def main() -> None:
    reader = HeadReader(Limits())

    def by_onetrip(head: bytes) -> None:
        request = reader.request(head[: reader.find_end(head)])
        assert request.keeps_alive

    def repeated(parse):
        return lambda: parse(HEADS[0])

    def first(parse):
        heads = iter(HEADS * COUNT * ROUNDS)
        return lambda: parse(next(heads))

    cases = {
        "onetrip, first": first(by_onetrip),
        "onetrip, repeated": repeated(by_onetrip),
        "httptools": first(by_httptools),
        "h11": first(by_h11),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(ROUNDS):
        for name, case in cases.items():
            count = COUNT // 20 if name == "h11" else COUNT
            best[name] = min(best[name], timeit.timeit(case, number=count) / count)
    print(f"{len(FIELDS.splitlines()) - 1} fields, {len(HEADS[0])} bytes, best of {ROUNDS}")
    for name, time in best.items():
        ratio = best["httptools"] / time
        print(f"{name:<20}{time * 1e6:8.2f} us{ratio:8.2f} x httptools' speed")


if __name__ == "__main__":
    main()
