"""Sources of instances in the configuration: what is accepted, and what is refused by which key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import Settings, load_settings
from onetrip.discover.book import KubernetesAccess
from onetrip.errors import ConfigError
from onetrip.model.topology import HttpProtocol
from onetrip.release.catalog import base_digest


def load(tmp_path: Path, instances: list[str], **more: Any) -> Settings:
    """Return the settings of a file; keys of `more` replace those at the top."""
    environment = {"hosts": ["shop.test"], "instances": {"den": instances}}
    environment |= more.pop("environment", {})
    data = {
        "regions": {"den": {}},
        "projects": {"shop": {"environments": {"production": environment}}},
        **more,
    }
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_settings(path)


def environment_of(settings: Settings) -> Any:
    return settings.catalog.projects["shop"].environments["production"]


def test_addresses_and_sources_stand_in_one_list(tmp_path: Path) -> None:
    kubernetes = {"api": "https://127.0.0.1:6443"}
    found = environment_of(
        load(
            tmp_path,
            ["10.0.0.1:80", "dns://app.internal:80", "kubernetes://shop/web:http"],
            discovery={"kubernetes": kubernetes},
        )
    )
    assert [str(i.endpoint) for i in found.instances] == ["10.0.0.1:80"]
    assert [str(s.source) for s in found.sources] == [
        "dns://app.internal:80",
        "kubernetes://shop/web:http",
    ]
    assert {s.region for s in found.sources} == {"den"}


@pytest.mark.parametrize(
    ("protocol", "source", "spoken"),
    [
        ("h2", "dns://app.internal:80", HttpProtocol.H2),
        ("auto", "dns://app.internal:80", HttpProtocol.HTTP1),
        ("auto", "dns+https://app.internal", HttpProtocol.AUTO),
    ],
)
def test_what_is_found_is_spoken_to_as_the_environment_says(
    tmp_path: Path, protocol: str, source: str, spoken: HttpProtocol
) -> None:
    found = environment_of(load(tmp_path, [source], environment={"protocol": protocol}))
    assert found.sources[0].protocol is spoken


def test_another_source_is_another_release(tmp_path: Path) -> None:
    digests = {
        base_digest(environment_of(load(tmp_path, [source])))
        for source in ("dns://a.internal:80", "dns://b.internal:80", "10.0.0.1:80")
    }
    assert len(digests) == 3
    assert "" not in digests


def test_bounds_and_networks_become_terms(tmp_path: Path) -> None:
    discovery = {
        "least_interval": 2,
        "most_interval": 9,
        "max_instances": 5,
        "allow": ["10.0.0.0/8"],
        "dns_servers": ["10.0.0.53", "[::1]:5353"],
    }
    found = load(tmp_path, ["10.0.0.1:80"], discovery=discovery).discovery
    assert found is not None
    terms = found.terms
    assert (terms.least, terms.most, terms.max_instances) == (2, 9, 5)
    assert terms.servers == (("10.0.0.53", 53), ("::1", 5353))


@pytest.mark.parametrize(
    ("instances", "discovery", "message"),
    [
        (["dns://app.internal"], {}, r"instances\.den\[0\]: .*is not host:port"),
        (["dns+udp://a:1"], {}, r"instances\.den\[0\]: .*starts with none of dns://"),
        (["10.0.0.1:80"], {"least_interval": 40}, r"discovery\.least_interval: 40 is above"),
        (["10.0.0.1:80"], {"dns_servers": ["dns"]}, r"discovery\.dns_servers\[0\]: 'dns'"),
        (["10.0.0.1:80"], {"allow": ["a b"]}, r"discovery\.allow\[0\]"),
        (["10.0.0.1:80"], {"nameservers": []}, r"discovery.nameservers|unknown key"),
        (["10.0.0.1:80"], {"kubernetes": {"api": "http://10.0.0.1"}}, "only https"),
        (["10.0.0.1:80"], {"kubernetes": {"api": "https://10.0.0.1/x"}}, "HOST:PORT"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key(
    tmp_path: Path, instances: list[str], discovery: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, instances, discovery=discovery)


def access(tmp_path: Path, instances: list[str]) -> KubernetesAccess:
    found = load(tmp_path, instances).discovery
    assert found is not None
    return found.kubernetes


def test_without_sources_nothing_of_it_is_built(tmp_path: Path) -> None:
    assert load(tmp_path, ["10.0.0.1:80"]).discovery is None


def test_a_pod_knows_its_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ["dns://app.internal:80"]
    assert access(tmp_path, source).url == ""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert access(tmp_path, source).url == "https://10.96.0.1:6443"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert access(tmp_path, source).url == "https://[fd00::1]:6443"


def test_a_kubernetes_source_needs_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=r"discovery\.kubernetes\.api: .*needed"):
        load(tmp_path, ["kubernetes://shop/web:http"])
