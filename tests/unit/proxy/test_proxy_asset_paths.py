from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.model.edge import CacheControlRule
from onetrip.proxy.asset_paths import MAX_DEPTH, MAX_PATH, asset_path


@pytest.mark.parametrize(
    ("target", "prefix", "parts", "is_folder"),
    [
        (b"/", "/", (), True),
        (b"/a", "/", ("a",), False),
        (b"/a/", "/", ("a",), True),
        (b"/a/b.js?x=../..", "/", ("a", "b.js"), False),
        (b"/a%20b", "/", ("a b",), False),
        (b"/%252e%252e", "/", ("%2e%2e",), False),
        (b"/a..b/...", "/", None, False),
        (b"/a..b", "/", ("a..b",), False),
        (b"/.well-known/x", "/", (".well-known", "x"), False),
        (b"/a/.well-known/x", "/", None, False),
        (b"/static/a", "/static", ("a",), False),
        (b"/static/", "/static/", (), True),
        (b"/static", "/static", None, False),
        (b"/statica", "/static", None, False),
        (b"/other", "/static", None, False),
        (b"/static/../a", "/static", None, False),
    ],
)
def test_place_of_a_path(target, prefix, parts, is_folder):
    path = asset_path(target, prefix)
    assert (path and path.parts) == parts
    assert path is None or path.is_folder == is_folder


@pytest.mark.parametrize(
    "target",
    [
        *(b"/..", b"/../a", b"/a/..", b"/a/./b", b"/%2e%2e/a", b"/%2E./a", b"/.%2e/a"),
        *(b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/a%00", b"/a%0d", b"/a%7f"),
        *(b"//", b"//a", b"/a//b", b"/a//", b"/%", b"/%1", b"/%zz"),
        *(b"/%c0%ae%c0%ae/a", b"/%e0%80%ae/a", b"/%ff", b"/%ed%a0%80"),
        *(b"/.git/config", b"/a/.env", b"/%2egit", b"*", b"a"),
        b"/" + b"a" * MAX_PATH,
        b"/" + b"a/" * (MAX_DEPTH + 1),
        b"/" + b"a" * 256,
    ],
)
def test_path_names_nothing(target):
    assert asset_path(target, "/") is None


@given(st.binary(max_size=80))
def test_no_path_leads_out(tail):
    path = asset_path(b"/" + tail, "/")
    for number, part in enumerate(path.parts if path else ()):
        assert part not in ("", ".", "..")
        assert not set(part) & set("/\\\0")
        assert not part.startswith(".") or (number == 0 and part == ".well-known")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/assets/**", "assets/a/b.js", True),
        ("/assets/**", "other/a.js", False),
        ("/assets/*", "assets/a/b.js", False),
        ("/assets/*", "assets/b.js", True),
        ("*.js", "a/b/c.js", True),
        ("*.js", "a.jsx", False),
        ("*.?s", "a.ts", True),
        ("/**/*.css", "a.css", True),
        ("/**/*.css", "a/b/c.css", True),
        ("/a.b", "axb", False),
    ],
)
def test_glob(pattern, path, expected):
    found = CacheControlRule(pattern, b"").compile().fullmatch(path)
    assert (found is not None) is expected
