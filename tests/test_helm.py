"""The chart in ``deploy/helm/leeway``: what it renders fits Kubernetes' schemas, and every part fits the others."""

import json
import re

import pytest
import yaml
from leeway_rl.common.keys import RUN_ID

from tests.helm import CHART, EVERY, ON, ROLES, container, helm, named, of, refusal, render, rendered_as, templates

CRDS = {
    "ScaledObject": {"scaleTargetRef", "triggers"},
    "TriggerAuthentication": {"secretTargetRef"},
    "PodMonitor": {"selector", "podMetricsEndpoints"},
}
"""Kinds of others, which Kubernetes' schemas do not have, and what of their spec we lean on."""


@pytest.fixture(params=EVERY)
def rendered(request):
    return rendered_as(request.param)


def component(template):
    return template["metadata"]["labels"]["app.kubernetes.io/component"]


# --- Kubernetes' schemas, and the values' own ------------------------------------------------------------------------


def test_helm_finds_nothing_to_say_of_the_chart():
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout


def test_every_manifest_fits_its_schema_and_no_key_is_unknown(rendered):
    from kubernetes_validate import validate

    assert {each["kind"] for each in rendered} >= {"StatefulSet", "Deployment", "Service", "ConfigMap"}
    for each in rendered:
        assert each["metadata"]["namespace"] == "training"
        if each["kind"] in CRDS:
            assert set(each["spec"]) >= CRDS[each["kind"]]
        else:
            validate(each, "1.37", strict=True)


def test_a_name_is_given_once(rendered):
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered]
    assert len(names) == len(set(names))
    assert all(len(name) <= 52 for _, name in names)  # a StatefulSet's pods have a label with a hash of ten beside it


REFUSED = [
    ({"run": {"id": "-no"}}, "/run/id': '-no' does not match pattern"),
    ({"rollout": {"gpu": 2}}, "invalid propertyName 'gpu'"),
    ({"rollout": {"replicas": "two"}}, "/rollout/replicas': got string, want integer"),
    ({"redis": {"memory": "lots"}}, "/redis/memory': 'lots' does not match"),
    ({"redis": {"address": "redis://host:1"}, "user": 0}, "/user': minimum: got 0, want 1"),
    ({"storage": 1}, "additional properties 'storage' not allowed"),
    ({"learner": {"nodes": 2}}, "learner.nodes = 2: all ranks write one folder .* it is ReadWriteOnce"),
    ({"weights": {"enabled": True, "accessMode": "ReadWriteOnce"}}, "ReadWriteMany is right"),
    ({"redis": {"enabled": False}}, "name the Secret .* in redis.secret"),
    (
        {"redis": {"enabled": False, "secret": "s"}, "rollout": {"autoscaling": ON}},
        "rollout.autoscaling .*redis.address",
    ),
    ({"rollout": {"autoscaling": {"enabled": True, "min": 5, "max": 4}}}, "min = 5 is more than max = 4"),
    ({"run": {"settings": ["broker.drain_s=10"]}}, "give it as run.drainSeconds"),
    ({"run": {"files": {"a": ""}, "filesConfigMap": "b"}}, "give one of them"),
    ({"sandbox": {"install": True}}, "set sandbox.enabled too"),
    ({"redis": {"memory": "8gb"}}, "redis.memory = 8gb is more than .*limits.memory = 4Gi: a full Redis"),
    ({"redis": {"memory": "500mb", "resources": {"limits": {"memory": "400M"}}}}, "500mb is more than .* 400M"),
]


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_values_that_cannot_be_are_refused_with_what_is_wrong(values, words):
    assert re.search(words, refusal(values).replace("\n", " "))


@pytest.mark.parametrize("release", ["7b", "my.run"])
def test_a_release_whose_name_no_service_may_have_is_refused_before_anything_is_installed(release):
    """Helm takes such names; a Service's begins with a letter and has no dot (RFC 1035)."""
    done = helm("template", release, CHART)
    assert (done.returncode, f'the release "{release}"' in done.stderr) == (1, True)


def test_a_redis_without_a_limit_or_with_enough_has_the_memory_that_is_named():
    for limits in ({"memory": None}, {"memory": "9Gi"}, {"memory": 10**10}, {"memory": "1e10"}):
        values = {"redis": {"memory": "8gb", "resources": {"limits": limits}}}
        assert "maxmemory 8gb" in of(render(values=values), "ConfigMap", "-redis")["data"]["redis.conf"]


def test_the_schema_has_every_value_and_takes_the_ids_that_a_run_may_have():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) == {*values, "global"}
    assert schema["properties"]["run"]["properties"]["id"]["pattern"] == f"^{RUN_ID.pattern}$"


# --- the chart itself -------------------------------------------------------------------------------------------------


GIVEN = {  # what an installation names, and brings itself
    "Secret": {"our-redis", "our-authority", "from-cert-manager", "registry"},
    "ConfigMap": set(),
    "PersistentVolumeClaim": {"models", "runs"},
}


def referred(template):
    """(kind, name, keys) of everything that a pod's volumes are made from."""
    for volume in template["spec"]["volumes"]:
        for source in volume.get("projected", {}).get("sources", [volume]):
            for kind, field, name in (
                ("Secret", "secret", "secretName"),
                ("ConfigMap", "configMap", "name"),
                ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ):
                if field in source:
                    found = source[field]
                    keys = [item["key"] for item in found.get("items", ())]
                    yield kind, found.get(name) or found["name"], keys


def test_whatever_a_pod_mounts_is_rendered_or_brought_and_has_the_keys(rendered):
    seen = 0
    for template in templates(rendered).values():
        for kind, name, keys in referred(template):
            seen += 1
            if name in GIVEN[kind]:
                continue
            there = named(rendered, kind)[name]
            assert set(keys) <= {*there.get("data", ()), *there.get("stringData", ())}
        volumes = {each["name"] for each in template["spec"]["volumes"]}
        if component(template) == "redis":
            volumes.add("data")  # of its claim template
        mounts = container(template)["volumeMounts"]
        assert {each["name"] for each in mounts} == volumes
        assert len({each["mountPath"] for each in mounts}) == len(mounts)
    assert seen > 4


def test_selectors_find_the_pods_that_they_are_meant_for_and_no_others(rendered):
    labels = {name: each["metadata"]["labels"] for name, each in templates(rendered).items()}

    def found(selector):
        return {name for name, has in labels.items() if selector.items() <= has.items()}

    for each in rendered:
        spec, own = each.get("spec", {}), each["metadata"]["labels"].get("app.kubernetes.io/component")
        if each["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "PodDisruptionBudget"):
            assert found(spec["selector"]["matchLabels"]) == {own}
        elif each["kind"] == "Service":
            assert found(spec["selector"]) == {own}
            ports = {port["name"] for port in container(templates(rendered)[own])["ports"]}
            assert {port.get("targetPort", port["name"]) for port in spec["ports"]} <= ports
        elif each["kind"] == "NetworkPolicy":
            assert found(spec["podSelector"]["matchLabels"]) == {own}
        elif each["kind"] == "ScaledObject":
            assert spec["scaleTargetRef"]["name"] in named(rendered, "Deployment")
            assert "replicas" not in named(rendered, "Deployment")[spec["scaleTargetRef"]["name"]]["spec"]
        if each["kind"] == "StatefulSet":
            assert spec["serviceName"] in named(rendered, "Service")


def test_no_pod_is_root_has_a_capability_or_a_token_and_no_password_is_in_an_environment(rendered):
    for name, template in templates(rendered).items():
        pod, own = template["spec"], container(template)["securityContext"]
        assert pod["automountServiceAccountToken"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        if name == "sandbox":  # it writes into a folder of the node's that is root's, and mounts no other
            assert [each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each] == [
                "/var/lib/kubelet/seccomp"
            ]
            continue
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert not any("hostPath" in each for each in pod["volumes"])
        text = json.dumps([container(template).get(key) for key in ("env", "args", "command")])
        assert not re.search(r"redis[s]?://|secretKeyRef", text)


def test_only_roles_reach_redis_and_the_scaler_where_there_is_one():
    policy = of(rendered_as("defaults"), "NetworkPolicy", "-redis")["spec"]
    (rule,) = policy["ingress"]
    assert [each["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in rule["from"]] == list(ROLES)
    assert policy["egress"] == []
    scaled = of(rendered_as("scaled"), "NetworkPolicy", "-redis")["spec"]["ingress"][0]["from"]
    assert scaled[3:] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]
