"""The Helm chart: values against their schema, templates rendered by Go's own template engine."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from onetrip.app.config import load_settings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "onetrip"
RENDERER = ROOT / "tests" / "support" / "helm" / "render.go"

Json = dict[str, Any]


def values(**more: Any) -> Json:
    """Return the chart's values, with some replaced; dotted names go deep, by "__"."""
    found: Json = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for name, value in more.items():
        *path, last = name.split("__")
        inner = found
        for key in path:
            inner = inner[key]
        inner[last] = value
    return found


def chart() -> Json:
    return dict(yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8")))


def schema() -> Json:
    return dict(json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))


def templates() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir()}


EVERYTHING: Json = {
    "ports__tls": 8443,
    "ports__forward": 9402,
    "image__tag": "1.2.3",
    "imagePullSecrets": [{"name": "registry"}],
    "secretFiles": [{"name": "web", "path": "/etc/onetrip-tls"}],
    "service__annotations": {"example.com/pool": "edge"},
    "persistence__enabled": True,
    "persistence__storageClassName": "fast",
    "podDisruptionBudget__enabled": True,
    "serviceMonitor__enabled": True,
    "serviceMonitor__labels": {"release": "prometheus"},
    "podAnnotations": {"example.com/note": "yes"},
    "discovery__namespaces": ["shop", "blog"],
    "nodeSelector": {"pool": "edge"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "priorityClassName": "system-cluster-critical",
}


def render(given: Json) -> dict[str, Json]:
    """Return the objects that the chart makes, by kind and name."""
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects(given)}


def rendered(given: Json, kind: str) -> list[Json]:
    """Return the objects of a kind, which may share a name in several namespaces."""
    return [each for each in objects(given) if each["kind"] == kind]


def objects(given: Json) -> list[Json]:
    """Return the objects that the chart makes."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    about = {"Name": chart()["name"], "Version": "0.1.0", "AppVersion": chart()["appVersion"]}
    release = {"Name": "edge", "Namespace": "web", "Service": "Helm"}
    data = {"Values": given, "Release": release, "Chart": about}
    result = subprocess.run(
        [go, "run", str(RENDERER)],
        input=json.dumps({"Files": templates(), "Data": data}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [
        each
        for path, text in json.loads(result.stdout).items()
        if path.endswith(".yaml")
        for each in yaml.safe_load_all(text)
        if each is not None
    ]


class TestValues:
    def test_defaults_and_everything_satisfy_the_schema(self) -> None:
        jsonschema.Draft7Validator.check_schema(schema())
        jsonschema.validate(values(), schema())
        jsonschema.validate(values(**EVERYTHING), schema())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("region", "Den"),
            ("replicas", 2),
            ("ports__admin", 0),
            ("image__digest", "x"),
            ("config__admin", {"listen": "0.0.0.0:9400"}),
            ("persistence__size", "big"),
            ("service__type", "ExternalName"),
            ("kind", "StatefulSet"),
            ("kind", "DaemonSet"),  # on every machine of the cluster
            ("discovery__namespaces", ["../shop"]),
            ("config__mode", "watch"),
        ],
    )
    def test_wrong_values_are_refused(self, name: str, value: Any) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(values(**{name: value}), schema())

    def test_daemon_set_runs_where_it_is_told_to(self) -> None:
        given = values(kind="DaemonSet", nodeSelector={"onetrip/edge": "den"})
        jsonschema.validate(given, schema())

    def test_schema_and_templates_know_the_same_values(self) -> None:
        assert set(schema()["properties"]) - {"global"} == set(values())
        used = set()
        for text in templates().values():
            for path in re.findall(r"\.Values\.([\w.]+)", text):
                inner = values()
                for key in path.split("."):
                    assert key in inner, path
                    inner = inner[key]
                used.add(path.partition(".")[0])
        assert used == set(values())

    def test_node_takes_the_configuration(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ONETRIP_CLUSTER_SECRET", "sixteen bytes or more")
        monkeypatch.setenv("ONETRIP_ADMIN_TOKEN", "a token of some length")
        given = values()
        file = tmp_path / "onetrip.yaml"
        file.write_text(yaml.safe_dump(given["config"]))
        for region in given["config"]["regions"]:
            settings = load_settings(file, region)
            assert settings.listen.port == given["ports"]["clients"]
            assert settings.admin.port == given["ports"]["admin"]
            assert settings.peer_listen is not None
            assert settings.peer_listen.port == given["ports"]["peers"]
            assert given["terminationGracePeriodSeconds"] > settings.drain_timeout

    def test_versions_are_those_of_the_package(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert chart()["appVersion"] == chart()["version"] == project["version"]


class TestObjects:
    def test_defaults_make_a_node_and_its_services(self) -> None:
        made = render(values())
        assert set(made) == {
            "ConfigMap/edge-den",
            "Deployment/edge-den",
            "Service/edge-den",
            "Service/edge-den-admin",
        }
        told = made["ConfigMap/edge-den"]["data"]["onetrip.yaml"]
        assert yaml.safe_load(told) == values()["config"]
        assert made["Deployment/edge-den"]["spec"]["strategy"]["type"] == "RollingUpdate"

    @pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["defaults", "everything"])
    def test_names_and_labels_fit_together(self, more: Json) -> None:
        made = render(values(**more))
        deployment = made["Deployment/edge-den"]["spec"]
        pod = deployment["template"]
        labels, (container,) = pod["metadata"]["labels"], pod["spec"]["containers"]
        assert deployment["selector"]["matchLabels"].items() <= labels.items()
        ports = {port["name"] for port in container["ports"]}
        for name in ("Service/edge-den", "Service/edge-den-admin"):
            service = made[name]["spec"]
            assert service["selector"].items() <= labels.items()
            assert {port["targetPort"] for port in service["ports"]} <= ports
        assert "admin" not in {p["name"] for p in made["Service/edge-den"]["spec"]["ports"]}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            (way,) = container[probe].keys() & {"httpGet", "tcpSocket"}
            assert container[probe][way]["port"] in ports

    def test_container_has_no_rights(self) -> None:
        pod = render(values())["Deployment/edge-den"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        sources = {each["valueFrom"]["secretKeyRef"]["name"] for each in container["env"]}
        assert sources == {values()["secretName"]}

    def test_options_take_effect(self) -> None:
        made = render(values(**EVERYTHING))
        deployment = made["Deployment/edge-den"]["spec"]
        pod = deployment["template"]["spec"]
        claim = made["PersistentVolumeClaim/edge-den"]["spec"]
        assert claim["storageClassName"] == "fast"
        assert deployment["strategy"] == {"type": "Recreate"}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "edge-den"}
        assert volumes["secret-0"]["secret"] == {"secretName": "web"}
        assert pod["containers"][0]["image"] == "onetrip:1.2.3"
        assert pod["tolerations"] == EVERYTHING["tolerations"]
        monitor = made["ServiceMonitor/edge-den"]
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        admin = made["Service/edge-den-admin"]["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= admin.items()
        budget = made["PodDisruptionBudget/edge-den"]["spec"]
        assert budget["selector"] == deployment["selector"]

    @pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["defaults", "everything"])
    def test_daemon_set_is_the_same_pod_on_the_machine_that_is_picked(self, more: Json) -> None:
        picked = {**more, "kind": "DaemonSet", "nodeSelector": {"onetrip/edge": "den"}}
        made, other = render(values(**picked)), render(values(**{**picked, "kind": "Deployment"}))
        assert "Deployment/edge-den" not in made
        daemons = made["DaemonSet/edge-den"]["spec"]
        assert daemons.keys() == {"selector", "template", "updateStrategy"}
        assert daemons["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        assert daemons["template"] == other["Deployment/edge-den"]["spec"]["template"]
        assert daemons["template"]["spec"]["nodeSelector"] == {"onetrip/edge": "den"}

    def test_host_network_gives_the_ports_of_one_machine_to_one_pod_at_a_time(self) -> None:
        deployment = render(values(hostNetwork=True))["Deployment/edge-den"]["spec"]
        pod = deployment["template"]["spec"]
        assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
        assert deployment["strategy"] == {"type": "Recreate"}

    def test_services_may_be_followed_in_the_namespaces_that_are_named_and_nowhere_else(
        self,
    ) -> None:
        made = render(values(discovery__namespaces=["shop", "blog"]))
        pod = made["Deployment/edge-den"]["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == made["ServiceAccount/edge-den"]["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is True
        roles = rendered(values(discovery__namespaces=["shop", "blog"]), "Role")
        assert {role["metadata"]["namespace"] for role in roles} == {"shop", "blog"}
        for role in roles:
            assert role["rules"] == [
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                }
            ]
        for bound in rendered(values(discovery__namespaces=["shop", "blog"]), "RoleBinding"):
            (subject,) = bound["subjects"]
            assert subject == {"kind": "ServiceAccount", "name": "edge-den", "namespace": "web"}
            assert bound["roleRef"]["name"] in {role["metadata"]["name"] for role in roles}

    def test_without_sources_a_pod_has_no_account_to_show(self) -> None:
        pod = render(values())["Deployment/edge-den"]["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert "serviceAccountName" not in pod

    def test_a_node_that_advises_has_no_ports_for_clients_and_is_ready_all_the_same(self) -> None:
        made = render(values(config__mode="advise", ports__tls=8443, ports__forward=9402))
        pod = made["Deployment/edge-den"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert {port["name"] for port in container["ports"]} == {"admin", "peers"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}
        assert [p["name"] for p in made["Service/edge-den"]["spec"]["ports"]] == ["peers"]

    def test_changed_configuration_starts_another_pod(self) -> None:
        other = copy.deepcopy(values())
        other["config"]["score_interval"] = 1
        sums = [
            render(each)["Deployment/edge-den"]["spec"]["template"]["metadata"]["annotations"]
            for each in (values(), values(), other)
        ]
        assert sums[0] == sums[1] != sums[2]
