"""EndpointSlices as Kubernetes tells them: pages, changes, bookmarks, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from onetrip.discover import slices
from onetrip.discover.book import DiscoveryError
from onetrip.discover.slices import ExpiredError, SliceBook
from onetrip.discover.sources import parse_source

HTTP = parse_source("kubernetes://shop/web:http")


def piece(
    name: str, *pods: str | dict[str, Any], version: str = "5", **more: Any
) -> dict[str, Any]:
    endpoints = [p if isinstance(p, dict) else {"addresses": [p]} for p in pods]
    return {
        "metadata": {"name": name, "resourceVersion": version},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9000}],
        **more,
    }


def page(*items: dict[str, Any], version: str = "5", following: str = "") -> bytes:
    metadata = {"resourceVersion": version, "continue": following}
    return json.dumps({"metadata": metadata, "items": list(items)}).encode()


def event(kind: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def listed(*items: dict[str, Any]) -> SliceBook:
    book = SliceBook()
    assert book.list_page(page(*items)) == ""
    return book


def places(book: SliceBook, source: str = "kubernetes://shop/web:http") -> list[str]:
    return sorted(map(str, book.endpoints(parse_source(source))))


def test_a_list_takes_effect_with_its_last_page() -> None:
    book = listed(piece("old", "10.0.0.9"))
    book.begin()
    assert book.list_page(page(piece("a", "10.0.0.1"), following="more")) == "more"
    assert places(book) == ["10.0.0.9:8080"]
    assert book.list_page(page(piece("b", "10.0.0.2"), version="7")) == ""
    assert places(book) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert book.version == "7"


def test_a_port_is_meant_by_its_name_or_its_number() -> None:
    book = listed(piece("a", "10.0.0.1"))
    assert places(book, "kubernetes://shop/web:admin") == ["10.0.0.1:9000"]
    assert places(book, "kubernetes://shop/web:8080") == ["10.0.0.1:8080"]
    assert places(book, "kubernetes://shop/web:other") == []
    headless = listed(piece("a", "10.0.0.1", ports=None))
    assert places(headless, "kubernetes://shop/web:7000") == ["10.0.0.1:7000"]
    assert places(headless) == []


def test_only_pods_that_are_ready_and_stay_count() -> None:
    pods = [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.2"], "conditions": {}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "serving": True}},
        {"addresses": ["10.0.0.4"], "conditions": {"ready": True, "terminating": True}},
        {"addresses": ["10.0.0.5", "10.0.0.6"]},
        {"addresses": ["host.example"]},
        {"addresses": []},
    ]
    assert places(listed(piece("a", *pods))) == [f"10.0.0.{n}:8080" for n in (1, 2, 5)]


def test_events_change_slices_whatever_pieces_they_arrive_in() -> None:
    sent = (
        event("ADDED", piece("b", "10.0.0.2", version="6"))
        + event("MODIFIED", piece("a", "10.0.0.3", version="7"))
        + event("DELETED", piece("b", version="8"))
        + event("BOOKMARK", {"metadata": {"resourceVersion": "20"}})
        + event("NEWER", piece("c", "10.0.0.9", version="21"))
        + b"\n"
    )
    for size in (1, 7, len(sent)):
        book = listed(piece("a", "10.0.0.1"))
        changes = [book.feed(sent[i : i + size]) for i in range(0, len(sent), size)]
        assert any(changes)
        assert places(book) == ["10.0.0.3:8080"]
        assert book.version == "21"


def test_bookmarks_change_nothing_but_the_version() -> None:
    book = listed(piece("a", "10.0.0.1"))
    assert not book.feed(event("BOOKMARK", {"metadata": {"resourceVersion": "99"}}))
    assert book.version == "99"


def test_a_version_that_is_too_old_means_to_list_again() -> None:
    book = listed(piece("a", "10.0.0.1"))
    with pytest.raises(ExpiredError):
        book.feed(event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))
    assert places(book) == ["10.0.0.1:8080"], "what is known stays until the list is there"
    with pytest.raises(DiscoveryError, match="500 oh"):
        book.feed(event("ERROR", {"kind": "Status", "code": 500, "message": "oh"}))


def test_a_watch_begins_without_what_was_half_read() -> None:
    book = listed(piece("a", "10.0.0.1"))
    book.feed(b'{"type": "ADD')
    book.begin()
    assert book.feed(event("ADDED", piece("b", "10.0.0.2")))


@pytest.mark.parametrize(
    "line",
    [
        b"junk\n",
        b"[]\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": {"endpoints": [{"addresses": [7]}]}}\n',
        b'{"type": "ADDED", "object": {"ports": [{"port": 70000}]}}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_what_is_no_event_is_a_typed_failure(line: bytes) -> None:
    with pytest.raises(DiscoveryError):
        SliceBook().feed(line)


def test_an_endless_event_and_endless_slices_are_refused() -> None:
    book = SliceBook()
    with pytest.raises(DiscoveryError, match="exceeds limit"):
        book.feed(b"x" * (slices.MAX_LINE + 1))
    book = SliceBook()
    for n in range(slices.MAX_SLICES):
        book.feed(event("ADDED", piece(f"s{n}")))
    with pytest.raises(DiscoveryError, match="slices"):
        book.feed(event("ADDED", piece("more")))
    with pytest.raises(DiscoveryError, match="slices"):
        SliceBook().list_page(page(*(piece(f"s{n}") for n in range(slices.MAX_SLICES + 1))))
