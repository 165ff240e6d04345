"""What RFC 9110 and RFC 9112 demand of an intermediary and a recipient, and the tests that show it.

The words are ours; the sections are the RFCs'. Tests are named from `tests/` on. Left out are
demands on origin servers, user agents and caches, which onetrip is not.
"""

from __future__ import annotations

from dataclasses import dataclass

CASE = "conformance/test_http1_cases.py::test_case"
MESSAGES = "integration/proxy/test_proxy_messages.py"
STREAMS = "integration/proxy/test_proxy_streams.py"
FAULTS = "integration/proxy/test_proxy_faults.py"
SMUGGLING = "conformance/test_smuggling.py::test_nothing_is_smuggled"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One demand.

    Attributes:
        section: RFC and section.
        level: MUST, MUST NOT, or SHOULD where onetrip keeps it.
        text: what is demanded.
        tests: what shows it; `file::test`, with `[case]` where the test has cases.
    """

    section: str
    level: str
    text: str
    tests: tuple[str, ...]


def _case(*names: str) -> tuple[str, ...]:
    return tuple(f"{CASE}[{name}]" for name in names)


REQUIREMENTS = (
    Requirement(
        "9112 2.2",
        "MUST NOT",
        "treat a bare CR as a line end; refuse it or make it a space",
        (*_case("bare CR for a line end", "bare CR in a value"), SMUGGLING),
    ),
    Requirement(
        "9112 2.2",
        "SHOULD",
        "ignore an empty line before a request line",
        _case("one empty line first"),
    ),
    Requirement(
        "9112 2.2",
        "MUST",
        "refuse white space between the start line and the first field, or drop those lines",
        _case("white space line before the fields"),
    ),
    Requirement(
        "9112 2.3",
        "MUST",
        "send its own HTTP version in what it forwards",
        (
            *_case("HTTP/1.0 goes on as 1.1"),
            f"{MESSAGES}::TestFraming::test_response_until_close_becomes_chunked",
        ),
    ),
    Requirement(
        "9112 3",
        "SHOULD",
        "answer 414 to a target longer than it parses, and take at least 8,000 bytes",
        _case("long target", "too long a target"),
    ),
    Requirement(
        "9112 3.2",
        "MUST",
        "answer 400 to HTTP/1.1 without Host, with several, or with an invalid one",
        _case(
            "no Host",
            "two Hosts",
            "the same Host twice",
            "empty Host",
            "Host with a user",
            "Host with a path",
            "list of Hosts",
        ),
    ),
    Requirement(
        "9112 3.2.2",
        "MUST",
        "accept the absolute form, and write Host anew from it when forwarding",
        _case("absolute form", "absolute form of another host"),
    ),
    Requirement(
        "9112 3.2.4",
        "MUST",
        "forward OPTIONS for the whole server as `*`",
        _case("asterisk form"),
    ),
    Requirement(
        "9112 5.1",
        "MUST",
        "refuse white space between a field name and its colon with 400 (in requests)",
        (*_case("space before a colon"), SMUGGLING),
    ),
    Requirement(
        "9112 5.2",
        "MUST",
        "refuse an obsolete fold in a request, or make it spaces",
        (*_case("obsolete fold"), SMUGGLING),
    ),
    Requirement(
        "9112 5.2",
        "MUST",
        "discard a response with an obsolete fold as 502, or make it spaces",
        (f"{FAULTS}::TestBrokenUpstreams::test_garbage_is_502_and_is_not_passed_on",),
    ),
    Requirement(
        "9112 6.1",
        "MUST",
        "answer 400 or close when Transfer-Encoding and Content-Length come together",
        (*_case("length and coding"), SMUGGLING),
    ),
    Requirement(
        "9112 6.1",
        "MUST NOT",
        "apply chunked twice, or send it to an HTTP/1.0 recipient",
        (f"{MESSAGES}::TestFraming::test_http10_client_gets_no_chunks",),
    ),
    Requirement(
        "9112 6.1",
        "MUST",
        "treat Transfer-Encoding in HTTP/1.0 as faulty framing",
        (*_case("coding in HTTP/1.0"), SMUGGLING),
    ),
    Requirement(
        "9112 6.3",
        "MUST",
        "answer 400 and close when a request's Transfer-Encoding does not end with chunked",
        _case("coding that does not end chunked", "unknown coding"),
    ),
    Requirement(
        "9112 6.3",
        "MUST",
        "refuse an invalid Content-Length with 400 and close",
        (
            *_case(
                "two lengths",
                "list of lengths",
                "length of letters",
                "length with a sign",
                "negative length",
                "empty length",
                "huge length",
            ),
            SMUGGLING,
        ),
    ),
    Requirement(
        "9112 6.3",
        "MUST",
        "close, discard and answer 502 to a response with an invalid length",
        (f"{FAULTS}::TestBrokenUpstreams::test_garbage_is_502_and_is_not_passed_on",),
    ),
    Requirement(
        "9112 6.3",
        "MUST NOT",
        "take a body for responses to HEAD, 1xx, 204 and 304",
        (
            f"{MESSAGES}::TestFraming::test_bodiless_response_leaves_the_connection_usable",
            f"{MESSAGES}::TestFraming::test_body_that_must_not_be_there_is_not_passed_on",
        ),
    ),
    Requirement(
        "9112 7.1",
        "MUST",
        "parse the chunked coding, and guard against sizes that overflow",
        (*_case("chunks", "chunk size in capitals", "chunk size overflow"), SMUGGLING),
    ),
    Requirement(
        "9112 7.1.1",
        "MUST",
        "ignore chunk extensions it does not know, and bound their size",
        _case("chunk extension", "endless chunk extension"),
    ),
    Requirement(
        "9110 6.5.1",
        "MUST NOT",
        "merge trailers that frame, route or authorise into the fields",
        _case("trailer that routes", "trailer that authorises", "trailer that frames"),
    ),
    Requirement(
        "9112 8",
        "MUST",
        "not take a message for complete that ended early",
        (
            *_case("body cut short", "no last chunk"),
            f"{FAULTS}::TestBrokenUpstreams::test_truncated_body_never_looks_complete",
        ),
    ),
    Requirement(
        "9112 9.3",
        "MUST",
        "read a request's whole body or close the connection after its answer",
        (
            f"{STREAMS}::TestBothDirections::test_early_refusal_reaches_a_client_that_goes_on_sending",
            SMUGGLING,
        ),
    ),
    Requirement(
        "9112 9.3.1",
        "MUST NOT",
        "repeat a request that is not idempotent on its own",
        ("integration/proxy/test_proxy_regions.py::TestRetries::test_post_is_never_sent_twice",),
    ),
    Requirement(
        "9112 9.3.2",
        "MUST",
        "answer pipelined requests in their order",
        (f"{MESSAGES}::TestConnections::test_pipelined_requests_are_answered_in_order",),
    ),
    Requirement(
        "9112 9.6",
        "MUST",
        "close after an answer to `Connection: close`, and say so",
        (f"{MESSAGES}::TestConnections::test_client_that_asks_for_close_gets_it",),
    ),
    Requirement(
        "9110 5.3",
        "MUST NOT",
        "change the order of field lines with the same name",
        _case("order of equal names"),
    ),
    Requirement(
        "9110 5.5",
        "MUST",
        "refuse CR, LF and NUL within a value, or make them spaces",
        (*_case("NUL in a value", "controls in a value"), SMUGGLING),
    ),
    Requirement(
        "9110 7.6",
        "MUST NOT",
        "change the path and query of a request it forwards",
        _case("target is not normalised", "escaped line end stays escaped"),
    ),
    Requirement(
        "9110 7.6.1",
        "MUST",
        "remove Connection and the fields it names before forwarding",
        (
            *_case("hop-by-hop fields end"),
            f"{MESSAGES}::TestFields::test_hop_by_hop_fields_end_here",
        ),
    ),
    Requirement(
        "9110 7.6.2",
        "MUST",
        "lower Max-Forwards of OPTIONS and TRACE, and answer by itself when it is zero",
        _case("Max-Forwards is lowered", "Max-Forwards of zero", "TRACE that ends here"),
    ),
    Requirement(
        "9110 7.6.3",
        "MUST",
        "add itself to Via in requests",
        (*_case("Via is added"), f"{MESSAGES}::TestFields::test_response_fields"),
    ),
    Requirement(
        "9110 7.8",
        "MUST",
        "ignore Upgrade in HTTP/1.0, and treat it as hop-by-hop",
        _case("upgrade in HTTP/1.0", "upgrade without Connection"),
    ),
    Requirement(
        "9110 8.6",
        "MUST NOT",
        "forward a message whose Content-Length is known to be wrong",
        (
            *_case("body cut short", "two lengths"),
            f"{FAULTS}::TestBrokenUpstreams::test_truncated_body_never_looks_complete",
        ),
    ),
    Requirement(
        "9110 9.1",
        "MUST",
        "treat methods as case-sensitive and pass on those it does not know",
        _case("method is case-sensitive", "unknown method"),
    ),
    Requirement(
        "9110 10.1.1",
        "MUST",
        "forward `Expect: 100-continue`, but not from HTTP/1.0",
        _case("Expect in HTTP/1.1", "Expect in HTTP/1.0"),
    ),
    Requirement(
        "9110 15.2",
        "MUST",
        "forward 1xx responses, but not to HTTP/1.0 clients",
        (f"{STREAMS}::TestInterimResponses::test_early_hints_are_relayed_but_not_to_http10",),
    ),
    Requirement(
        "9110 7.3.1",
        "SHOULD",
        "find loops instead of forwarding for ever",
        (f"{FAULTS}::test_refused_request_gets_its_status_and_the_connection_ends[508]",),
    ),
)
