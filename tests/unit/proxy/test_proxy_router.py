"""Hosts, prefixes, rules and automatic route classes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onetrip.errors import ConfigError
from onetrip.model.catalog import Catalog, Environment, EnvironmentId, Policy, Project, RouteRule
from onetrip.model.measure import MethodClass
from onetrip.proxy.router import MAX_CACHED, MAX_CLASSES, OTHER, Routing, normalise, template


def environment(project: str, *hosts: str, prefix: str = "/", rules=()) -> Environment:
    return Environment(
        EnvironmentId(project, "production"), hosts, (), {}, tuple(rules), path_prefix=prefix
    )


def routing(*environments: Environment) -> Routing:
    projects = {
        e.id.project: Project(e.id.project, Policy(), {e.id.environment: e}) for e in environments
    }
    return Routing.build(Catalog(projects))


def owner(table: Routing, host: bytes, path: bytes = b"/") -> str | None:
    match = table.match(b"GET", host, path)
    return match.environment.id.project if match else None


class TestHosts:
    table = routing(
        environment("shop", "shop.test", "::1"),
        environment("wild", "*.wild.test"),
        environment("exact", "a.wild.test"),
    )

    @pytest.mark.parametrize(
        ("host", "project"),
        [
            (b"shop.test", "shop"),
            (b"SHOP.test:8080", "shop"),
            (b"shop.test.", "shop"),
            (b"shop.test.:80", "shop"),
            (b"shop.test:", "shop"),
            (b"[::1]", "shop"),
            (b"[::1]:80", "shop"),
            (b"b.wild.test", "wild"),
            (b"a.wild.test", "exact"),
            (b"wild.test", None),
            (b"a.b.wild.test", None),
            (b"other.test", None),
            (b"xshop.test", None),
            (b"", None),
        ],
    )
    def test_host_chooses_the_environment(self, host, project):
        assert owner(self.table, host) == project

    def test_longest_prefix_wins_and_ends_at_a_segment(self):
        table = routing(
            environment("root", "x"),
            environment("api", "x", prefix="/api"),
            environment("v2", "x", prefix="/api/v2/"),
        )
        paths = [b"/", b"/api", b"/api/", b"/api/v2", b"/api/v2/users", b"/apix", b"/a"]
        assert [owner(table, b"x", p) for p in paths] == [
            "root",
            "api",
            "api",
            "v2",
            "v2",
            "root",
            "root",
        ]

    @pytest.mark.parametrize("path", [b"/api/../admin", b"/api/%2e%2e/admin", b"/api/..%2fadmin"])
    def test_dots_cannot_stay_inside_a_prefix(self, path):
        table = routing(environment("root", "x"), environment("api", "x", prefix="/api"))
        assert owner(table, b"x", path) == "root"

    def test_same_host_and_prefix_twice_names_both_owners(self):
        with pytest.raises(ConfigError, match=r"'x' .* both one/production and two/production"):
            routing(environment("one", "x"), environment("two", "x"))


class TestRules:
    table = routing(
        environment(
            "shop",
            "x",
            rules=[
                RouteRule("/**"),
                RouteRule("/users/*"),
                RouteRule("/users/me"),
                RouteRule("/static/**", is_local=True),
            ],
        )
    )

    def route(self, path: bytes) -> str:
        match = self.table.match(b"GET", b"x", path)
        assert match is not None
        return match.key.route

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            (b"/users/me", "/users/me"),
            (b"/users/7", "/users/*"),
            (b"/users/7/posts", "/**"),
            (b"/users/", "/**"),
            (b"/users/%6de", "/users/me"),
            (b"/static", "/static/**"),
            (b"/static/a/b.png?v=1", "/static/**"),
            (b"/", "/**"),
        ],
    )
    def test_most_specific_rule_matches(self, path, route):
        assert self.route(path) == route

    @pytest.mark.parametrize(
        "path",
        [
            b"/static/../users/7",
            b"/static/%2e%2e/users/7",
            b"/static/..%2Fusers/7",
            b"/static/..%5Cusers/7",
            b"/static\\..\\users",
            b"/static//x",
            b"/static/./x",
            b"//static/x",
            b"/static/x;/../../users",
        ],
    )
    def test_ambiguous_path_never_counts_as_local(self, path):
        match = self.table.match(b"GET", b"x", path)
        assert match is not None
        assert match.rule is None or not match.rule.is_local

    def test_pattern_without_slash_is_refused(self):
        with pytest.raises(ConfigError, match="'users'"):
            routing(environment("shop", "x", rules=[RouteRule("users")]))


class TestClasses:
    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/", "/"),
            ("/users", "/users"),
            ("/users/", "/users"),
            ("/users/42/posts/7", "/users/{id}/posts/{id}"),
            ("/o/0b7e5f2c-3a51-4be1-9d0c-5a7f0e2b9c11", "/o/{id}"),
            ("/c/deadbeefdeadbeef", "/c/{id}"),
            ("/t/eyJhbGciOiJIUzI1", "/t/{id}"),
            ("/t/a1b2c3d4e", "/t/{id}"),
            ("/v1/about-us", "/v1/about-us"),
            ("/app.js", "/app.js"),
            ("/" + "a" * 70, "/{id}"),
            ("/a\x01b", "/{id}"),
            ("/a/b/c/d/e/f/g/h/i/j/k/l/m/n", "/a/b/c/d/e/f/g/h/i/j/k/l/..."),
        ],
    )
    def test_identifiers_become_one_class(self, path, route):
        assert template(path) == route

    def test_method_and_query_do_not_make_classes_of_their_own(self):
        table = routing(environment("shop", "x"))
        one = table.match(b"GET", b"x", b"/a?b=1")
        two = table.match(b"HEAD", b"x", b"/a?b=2")
        three = table.match(b"POST", b"x", b"/a")
        assert one.key == two.key
        assert (one.key.method, three.key.method) == (MethodClass.READ, MethodClass.WRITE)

    def test_classes_are_bounded(self):
        table = routing(environment("shop", "x"))
        keys = set()
        for i in range(3 * MAX_CLASSES):
            match = table.match(b"GET", b"x", b"/p" + b"x" * (i % 50) + b"y" * (i // 50))
            keys.add(table.settle(match, 200).route)
        assert len(keys) <= MAX_CLASSES + 1
        assert OTHER in keys

    def test_paths_that_do_not_exist_use_up_no_class(self):
        table = routing(environment("shop", "x"))
        for i in range(3 * MAX_CLASSES):
            match = table.match(b"GET", b"x", b"/scan" + b"x" * (i % 50) + b"y" * (i // 50))
            assert table.settle(match, 404).route == OTHER
        real = table.match(b"GET", b"x", b"/real")
        assert table.settle(real, 200).route == "/real"
        assert not table.match(b"GET", b"x", b"/real").is_tentative

    def test_established_classes_survive_a_reload(self):
        old, new = routing(environment("shop", "x")), routing(environment("shop", "x", "y"))
        old.settle(old.match(b"GET", b"x", b"/a"), 200)
        new.adopt(old)
        assert not new.match(b"GET", b"y", b"/a").is_tentative

    def test_cache_of_paths_is_bounded(self):
        table = routing(environment("shop", "x", rules=[RouteRule("/**")]))
        for i in range(MAX_CACHED + 10):
            table.match(b"GET", b"x", b"/%d" % i)
        assert len(table._cache) <= MAX_CACHED
        table.match(b"GET", b"x", b"/" + b"a" * 5000)
        assert all(len(path) < 5000 for _, path in table._cache)


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        (b"/a/b", "/a/b"),
        (b"/a/./b/../c", "/a/c"),
        (b"/../..", "/"),
        (b"/a/..", "/"),
        (b"/a/b/..", "/a/"),
        (b"//a///b/", "/a/b/"),
        (b"/a%2fb", "/a/b"),
        (b"/a\\b", "/a/b"),
        (b"/caf%C3%A9", "/café"),
        (b"/%ff", "/�"),
        (b"/%252e%252e/a", "/%2e%2e/a"),
        (b"*", "*"),
    ],
)
def test_normal_form(path, clean):
    assert normalise(path) == clean


class TestRollout:
    """Two deployments of one environment: who gets which."""

    @staticmethod
    def match(share: float):
        candidate = replace(environment("shop"), variant="new", hosts=())
        current = replace(
            environment("shop", "shop.test"), candidate=candidate, candidate_share=share
        )
        found = routing(current).match(b"GET", b"shop.test", b"/orders")
        assert found is not None
        return found

    def versions(self, share: float, clients: int = 2000) -> list[bool]:
        match = self.match(share)
        return [match.split(f"10.0.{n // 250}.{n % 250}", None).is_trial for n in range(clients)]

    @pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
    def test_share_of_the_clients_gets_the_candidate(self, share):
        found = sum(self.versions(share)) / 2000
        assert abs(found - share) < 5 * (share * (1 - share) / 2000) ** 0.5

    def test_growing_share_takes_nobody_away(self):
        before, after = self.versions(0.2), self.versions(0.6)
        assert all(late for early, late in zip(before, after, strict=True) if early)

    def test_candidate_is_the_same_route_elsewhere(self):
        match = self.match(1.0).split("10.0.0.1", None)
        assert (match.is_trial, match.environment.variant) == (True, "new")
        assert match.key == self.match(1.0).key
        assert match.environment.site != self.match(1.0).environment.site

    @pytest.mark.parametrize(
        ("variant", "is_trial"), [("new", True), ("", False), ("other", False)]
    )
    def test_node_that_is_forwarded_to_does_as_the_edge_has_chosen(self, variant, is_trial):
        assert self.match(0.5).split("10.0.0.1", variant).is_trial is is_trial
