"""What answers of sources change, and what they cannot."""

from __future__ import annotations

import pytest

from onetrip.discover.book import DiscoveryTerms, SourceBook
from onetrip.discover.sources import parse_source
from onetrip.model.discovery import Source
from onetrip.model.topology import Endpoint
from onetrip.release.terms import parse_allowed

APP: Source = parse_source("dns://app.internal:80")


def at(*hosts: str) -> list[Endpoint]:
    return [Endpoint(host, 80) for host in hosts]


def known(book: SourceBook) -> list[str]:
    return [each.host for each in book.endpoints(APP)]


def test_an_answer_replaces_the_one_before_and_tells_what_changed() -> None:
    book = SourceBook()
    change = book.take(APP, at("10.0.0.2", "10.0.0.1", "10.0.0.1"), DiscoveryTerms())
    assert (known(book), change.added, change.removed) == (
        ["10.0.0.1", "10.0.0.2"],
        tuple(at("10.0.0.1", "10.0.0.2")),
        (),
    )
    change = book.take(APP, at("10.0.0.2", "10.0.0.3"), DiscoveryTerms())
    assert str(change) == "2 instances: + 10.0.0.3:80, - 10.0.0.1:80"
    assert not book.take(APP, at("10.0.0.3", "10.0.0.2"), DiscoveryTerms()), (
        "the order of an answer means nothing"
    )


def test_too_many_addresses_leave_those_in_use_where_they_are() -> None:
    book, terms = SourceBook(), DiscoveryTerms(max_instances=2)
    book.take(APP, at("10.0.0.8", "10.0.0.9"), terms)
    change = book.take(APP, at("10.0.0.1", "10.0.0.2", "10.0.0.9"), terms)
    assert known(book) == ["10.0.0.1", "10.0.0.9"]
    assert change.left_out == 1
    assert "1 above discovery.max_instances" in str(change)


def test_addresses_outside_the_permitted_networks_are_refused() -> None:
    terms = DiscoveryTerms(allow=(parse_allowed("10.0.0.0/8:80", "allow"),))
    book = SourceBook()
    change = book.take(APP, [*at("10.0.0.1", "169.254.169.254"), Endpoint("10.0.0.2", 22)], terms)
    assert (known(book), change.refused) == (["10.0.0.1"], 2)


def test_an_answer_of_which_nothing_is_permitted_changes_nothing() -> None:
    terms = DiscoveryTerms(allow=(parse_allowed("10.0.0.0/8", "allow"),))
    book = SourceBook()
    book.take(APP, at("10.0.0.1"), terms)
    change = book.take(APP, at("192.0.2.1"), terms)
    assert (known(book), bool(change), change.refused) == (["10.0.0.1"], False, 1)


def test_a_failure_is_news_once_and_so_is_its_end() -> None:
    book = SourceBook()
    book.take(APP, at("10.0.0.1"), DiscoveryTerms())
    assert book.note_failure(APP, "silence")
    assert not book.note_failure(APP, "more silence")
    assert (known(book), book.failing) == (["10.0.0.1"], {APP: "more silence"})
    assert book.note_success(APP)
    assert not book.note_success(APP)


def test_what_is_followed_no_longer_is_forgotten() -> None:
    book = SourceBook()
    book.take(APP, at("10.0.0.1"), DiscoveryTerms())
    book.note_failure(APP, "silence")
    book.retain([])
    assert (known(book), book.failing) == ([], {})


@pytest.mark.parametrize("count", [1, 3, 4])
def test_many_addresses_are_told_by_their_number(count: int) -> None:
    change = SourceBook().take(APP, at(*(f"10.0.0.{n}" for n in range(count))), DiscoveryTerms())
    assert ("10.0.0.0:80" in str(change)) is (count <= 3)
