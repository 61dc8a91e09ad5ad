"""`sluice manifest`, `--annotations` and ConfigMaps: what Kubernetes' own client and a real YAML parser make of them."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import pod as pods

yaml = pytest.importorskip("yaml", reason="needs python3-yaml, to read what is printed")

SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": False,
    "runAsUser": 0,
    "runAsGroup": 0,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def sluice(*arguments, env=None, check=True, **options):
    done = subprocess.run([pods.sluice_binary(), *arguments], capture_output=True, text=True, env=env or {}, timeout=60,
                          check=False, **options)
    assert not check or done.returncode == 0, done.stderr
    return done


def container(*arguments):
    (only,) = yaml.safe_load(sluice("manifest", *arguments).stdout)["initContainers"]
    return only


def kubectl(*arguments, check=True, stdin=None):
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl, to apply the patches")
    # No configuration and no cluster: whatever needs one fails instead of finding somebody's.
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, timeout=60, check=False, input=stdin,
                          env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/dev/null"})
    assert not check or done.returncode == 0, done.stderr
    return done


def expanded(text):
    """What the kubelet makes of an argument in a container without variables: third_party/forked/golang/expansion."""
    return re.sub(r"\$\$|\$\([^)]*\)", lambda found: "$" if found[0] == "$$" else found[0] + "!expanded", text)


# ------------------------------------------------------------------------------------------- the stanza


def test_the_stanza_is_exactly_this():
    printed = sluice("manifest", "--preset", "istio", "--exclude-outbound-ports", "3306,5432", "--drop-invalid",
                     "--annotations", "/etc/podinfo/annotations", "--env-from", "sluice-defaults",
                     "--image", "registry.example:5000/sluice@sha256:abc", "--container-name", "mesh-init").stdout
    assert yaml.safe_load(printed) == {
        "initContainers": [{
            "name": "mesh-init",
            "image": "registry.example:5000/sluice@sha256:abc",
            "args": ["--preset=istio", "--exclude-outbound-ports=3306,5432", "--drop-invalid", "--annotations=/etc/podinfo/annotations"],
            "envFrom": [{"configMapRef": {"name": "sluice-defaults"}}],
            "securityContext": SECURITY,
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "sluice-podinfo", "mountPath": "/etc/podinfo", "readOnly": True}],
        }],
        "volumes": [{
            "name": "sluice-podinfo",
            "downwardAPI": {"items": [{"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}]},
        }],
    }


def test_without_options_there_are_no_arguments_and_the_image_is_this_version():
    plain = container()
    version = sluice("--version").stdout.split()[1]
    assert (plain["name"], plain["image"]) == ("sluice", f"sluice:{version}")
    assert {"args", "envFrom", "volumeMounts"}.isdisjoint(plain)


def test_yaml_and_json_say_the_same():
    arguments = ["manifest", "--preset", "kuma", "--netns", "a\nb: 'c'", "--annotations", "/a/b"]
    for patch in ("none", "strategic", "json", "json-append"):
        said = [sluice(*arguments, "--patch", patch, "--format", form).stdout for form in ("yaml", "json")]
        assert yaml.safe_load(said[0]) == json.loads(said[1])
        assert said[0] != said[1]


HOSTILE = [
    "a\nb", "- x", "x: y", '"', "'", "\\", '\\"', "#", "a #b", "{{ x }}", "$(HOME)", "$$(HOME)", "$$$", "${x}", "`x`", "%41", "&a *a !a",
    "|", "> ", "\t", "\r\n", "\x01\x7f", "\x85\u2028\u2029\ufeff", "é", "😀", "true", "null", "1e3", "0o7", "=", "--", "..", "\\u0041",
    '"\n      privileged: true\n      x: "', "a" * 5000,
]


def test_no_text_breaks_out_of_its_place():
    plain = container("--netns", "x")
    for text in HOSTILE:
        hostile = container(f"--netns=x{text}")
        (argument,) = hostile.pop("args")
        assert expanded(argument) == f"--netns=x{text}"
        assert hostile == {key: value for key, value in plain.items() if key != "args"}


def test_a_value_that_is_an_expression_of_kubernetes_stays_a_value():
    flags = ["--exclude-interfaces", "$(PATH),a$b,c'd,#e", "--proxy-uid=7", "--inbound-ports=", "--drop-invalid=false",
             "--exclude-outbound-ports-for-uids", "tcp:3306,5432:1000-1010", "--exclude-outbound-ports-for-uids", "53:0"]
    arguments = [expanded(argument) for argument in container(*flags)["args"]]
    assert sluice("plan", *arguments).stdout == sluice("plan", *flags).stdout


def test_a_file_of_options_is_written_down_as_flags(tmp_path):
    (tmp_path / "pod.toml").write_text('proxy-port = 4\ninbound-ports = [80, "8080-8090"]\nexclude-uids = "5"\ndns = "all"\n')
    written = container("--config", str(tmp_path / "pod.toml"), "--dns", "off")["args"]
    assert written == ["--proxy-port=4", "--inbound-ports=80", "--inbound-ports=8080-8090", "--exclude-uids=5", "--dns=off"]


def test_the_environment_is_not_written_down():
    done = sluice("manifest", env={"SLUICE_PROXY_PORT": "9", "SLUICE_DNS": "nonsense", "SLUICE_IMAGE": "own/sluice:1"})
    assert "args" not in yaml.safe_load(done.stdout)["initContainers"][0]
    assert yaml.safe_load(done.stdout)["initContainers"][0]["image"] == "own/sluice:1"
    for name in ("SLUICE_PROXY_PORT", "SLUICE_DNS"):
        assert f"warning: {name}: is not written down" in done.stderr


def test_a_name_that_the_container_cannot_look_up_is_a_warning():
    done = sluice("manifest", "--proxy-uid", "root,7")
    assert '"root" is no user in /etc/passwd' in done.stderr and "as sluice's image is one" in done.stderr
    assert sluice("manifest", "--proxy-uid", "7", "--dns", "resolv-conf").stderr == ""


WRONG = [
    (["--proxy-port", "0"], '--proxy-port: "0"'),
    (["--image", ""], '--image: ""'),
    (["--image", "a b"], '--image: "a b"'),
    (["--container-name", "Sluice"], '--container-name: "Sluice"'),
    (["--container-name", "a" * 64], "--container-name:"),
    (["--env-from", "a\nb"], r'--env-from: "a\x0ab"'),
    (["--patch", "merge"], '--patch: "merge" is not a choice; allowed: none, strategic, json, json-append'),
    (["--format", "nft"], '--format: "nft" is no format of sluice manifest; allowed: yaml, json'),
    (["--dry-run"], "--dry-run: would make a container that captures nothing"),
    (["--cleanup"], "--cleanup: contradicts the command manifest"),
    (["--diff"], "--diff: is an option of sluice plan, not of manifest"),
    (["--netns", b"\xff"], r'--netns: "\xff" is not UTF-8'),
    *[(["--annotations", path], f'--annotations: "{path}" is no place for a volume')
      for path in ("annotations", "/annotations", "/etc/", "/etc/../x", "/etc/podinfo/..x", "//x", "/a:b/c", "/a//b")],
    (["--probe"], "is an option of sluice verify"),
]


@pytest.mark.parametrize("arguments, told", WRONG, ids=lambda value: str(value)[:50])
def test_what_would_be_no_container_is_refused(arguments, told):
    done = sluice("manifest", *arguments, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_options_of_manifest_are_refused_elsewhere():
    done = sluice("plan", "--image", "x", check=False)
    assert done.returncode == 2 and "--image: is an option of sluice manifest, not of plan" in done.stderr


def test_manifest_opens_no_socket_and_needs_no_privilege(tmp_path):
    if not shutil.which("strace"):
        pytest.skip("needs strace, to see what is asked of the kernel")
    trace = tmp_path / "trace"
    tmp_path.chmod(0o777)
    subprocess.run(["strace", "-f", "-qq", "-e", "trace=network,%process,setns,unshare,capset", "-o", str(trace),
                    pods.sluice_binary(), "manifest", "--preset", "istio"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    calls = trace.read_text()
    assert calls.count("execve(") == 1
    assert not re.search(r"\b(socket|setns|unshare|clone|fork|capset)\(", calls)


# --------------------------------------------------------------------------------------------- patches

POD_SPEC = {"containers": [{"name": "app", "image": "app:1"}]}
BUSY_SPEC = {
    "initContainers": [{"name": "migrate", "image": "db:1"}, {"name": "seed", "image": "db:1"}],
    "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    "volumes": [{"name": "data", "emptyDir": {}}],
}


def workload(kind, spec):
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    selector = {} if kind == "Job" else {"selector": {"matchLabels": labels}}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": {**selector, "template": template}}


def patched(tmp_path, before, patch, kind, check=True):
    path = tmp_path / "workload.yaml"
    path.write_text(yaml.safe_dump(before))
    done = kubectl("patch", "--local", "-f", str(path), f"--type={kind}", "-p", patch, "-o", "json", check=check)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


FLAGS = ["--preset", "istio", "--annotations", "/etc/podinfo/annotations", "--netns", 'x"\n- y: $(Z)']


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job"])
def test_kubectl_takes_the_strategic_patch(tmp_path, kind, form):
    patch = sluice("manifest", *FLAGS, "--patch", "strategic", "--format", form).stdout
    (own,) = (stanza := yaml.safe_load(sluice("manifest", *FLAGS).stdout))["initContainers"]
    for spec in (POD_SPEC, BUSY_SPEC):
        before = workload(kind, spec)
        after = patched(tmp_path, before, patch, "strategic")
        found = after["spec"]["template"]["spec"]
        # Before those that are there, which stay as they are; and a second time changes nothing.
        assert found["initContainers"] == [own, *spec.get("initContainers", [])]
        assert found["containers"] == spec["containers"]
        assert sorted(volume["name"] for volume in found["volumes"]) == sorted(
            volume["name"] for volume in [*stanza["volumes"], *spec.get("volumes", [])])
        assert patched(tmp_path, after, patch, "strategic") == after


@pytest.mark.parametrize("patch_kind, fits, does_not", [("json", POD_SPEC, BUSY_SPEC), ("json-append", BUSY_SPEC, POD_SPEC)])
def test_kubectl_takes_the_json_patches_where_they_fit_and_loses_nothing_elsewhere(tmp_path, patch_kind, fits, does_not):
    patch = sluice("manifest", *FLAGS, "--patch", patch_kind).stdout
    stanza = yaml.safe_load(sluice("manifest", *FLAGS).stdout)
    found = patched(tmp_path, workload("Deployment", fits), patch, "json")["spec"]["template"]["spec"]
    assert found["initContainers"] == [*fits.get("initContainers", []), *stanza["initContainers"]]
    assert found["volumes"] == [*fits.get("volumes", []), *stanza["volumes"]]
    assert found["containers"] == fits["containers"]
    refused = patched(tmp_path, workload("Deployment", does_not), patch, "json", check=False)
    assert isinstance(refused, str) and "initContainers" in refused


# ------------------------------------------------------------------------------- ConfigMap and annotations


def variables_of_config_map(tmp_path, entries):
    """As the kubelet hands them to a container with envFrom, by way of the object that kubectl makes."""
    (tmp_path / "defaults.env").write_text("".join(f"{name}={value}\n" for name, value in entries.items()))
    made = kubectl("create", "configmap", "sluice-defaults", f"--from-env-file={tmp_path / 'defaults.env'}", "--dry-run=client",
                   "-o", "yaml").stdout
    return yaml.safe_load(made)["data"]


EVERYTHING = {
    "preset": "istio", "proxy-port": "15101", "inbound-port": "15106", "proxy-uid": "1338,2000-2010", "proxy-gid": "1338",
    "proxy-mark": "0x539/0xfff", "proxy-port-access": "capture", "hairpin": "inbound", "passthrough-source": "127.0.0.6,::6",
    "inbound-ports": "80,8000-8100", "exclude-inbound-ports": "8081", "exclude-inbound-cidrs": "192.0.2.0/24,2001:db8::/32",
    "tunnel-ports": "15008", "inbound-mode": "tproxy", "tproxy-mark": "7", "tproxy-table": "77", "outbound-cidrs": "10.0.0.0/8,fd00::/8",
    "exclude-outbound-cidrs": "10.1.0.0/16", "outbound-ports": "443", "exclude-outbound-ports": "3306",
    "exclude-outbound-ports-for-uids": "tcp:25,26:1000;udp:53:1001", "exclude-uids": "0", "exclude-gids": "5", "only-gids": "6",
    "exclude-interfaces": "net+", "virtual-interfaces": "tap0", "forwarded": "pass", "dns": "all", "dns-port": "15153",
    "udp": "reject:443", "drop-invalid": "true", "close-wait-timeout": "60", "ip-family": "ipv4", "other-family": "reject",
    "loopback-cidr": "127.0.0.1/32", "backend": "auto", "iptables-variant": "auto", "priority": "-110", "allow-host-network": "false",
    "netns": "/proc/self/ns/net", "lock-timeout": "1s", "probe-timeout": "1s", "log-format": "text", "log-level": "info",
}
ABOUT_A_RUN = {"annotations", "config", "dry-run", "cleanup", "diff", "format", "version"}


def quoted_as_go_does(text):
    return json.dumps(text)  # the same for ASCII


def own_annotations(tmp_path, options):
    path = tmp_path / "annotations"
    path.write_text("\n".join(f"sluice.dev/{name}={quoted_as_go_does(value)}" for name, value in sorted(options.items())))
    return str(path)


def test_all_options_come_as_flags_variables_of_a_config_map_annotations_and_a_file_alike(tmp_path):
    known = set(re.findall(r"^  --([a-z-]+)", sluice("--help").stdout, re.M))
    of_commands = {option for option in known - set(EVERYTHING)
                   if "is an option of sluice" in sluice("plan", f"--{option}=x", check=False).stderr}
    assert known == set(EVERYTHING) | ABOUT_A_RUN | of_commands
    by_flags = sluice("plan", *[f"--{name}={value}" for name, value in EVERYTHING.items()])
    assert "15153" in by_flags.stdout and "tproxy to :15106" in by_flags.stdout
    variables = variables_of_config_map(tmp_path, {"SLUICE_" + name.upper().replace("-", "_"): value for name, value in EVERYTHING.items()})
    assert sluice("plan", env=variables).stdout == by_flags.stdout
    config = tmp_path / "all.toml"
    config.write_text("".join(f'{name} = "{value}"\n' for name, value in EVERYTHING.items()))
    assert sluice("plan", "--config", str(config)).stdout == by_flags.stdout
    of_a_pod = {name: value for name, value in EVERYTHING.items() if name not in ("netns", "allow-host-network")}
    assert sluice("plan", "--annotations", own_annotations(tmp_path, of_a_pod)).stdout == by_flags.stdout


def port_of(done):
    return re.search(r"redirect to :(\d+) comment \"outbound\"", done.stdout)[1]


def test_flag_beats_annotation_beats_variable_beats_file_beats_preset(tmp_path):
    (tmp_path / "file.toml").write_text("proxy-port = 5\n")
    flags = ["--proxy-port", "2"]
    annotations = ["--annotations", own_annotations(tmp_path, {"proxy-port": "3"})]
    variable = {"SLUICE_PROXY_PORT": "4"}
    rest = ["--config", str(tmp_path / "file.toml"), "--preset", "linkerd"]
    assert port_of(sluice("plan", *flags, *annotations, *rest, env=variable)) == "2"
    assert port_of(sluice("plan", *annotations, *rest, env=variable)) == "3"
    assert port_of(sluice("plan", *rest, env=variable)) == "4"
    assert port_of(sluice("plan", *rest)) == "5"
    assert port_of(sluice("plan", *rest[2:])) == "4140"


def test_the_file_of_annotations_may_be_named_by_variable_and_by_file(tmp_path):
    path = own_annotations(tmp_path, {"proxy-port": "3"})
    (tmp_path / "file.toml").write_text(f'annotations = "{path}"\n')
    assert port_of(sluice("plan", env={"SLUICE_ANNOTATIONS": path})) == "3"
    assert port_of(sluice("plan", "--config", str(tmp_path / "file.toml"))) == "3"
    done = sluice("plan", "--annotations", "/no/such/file", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert '--annotations: "/no/such/file" cannot be read (No such file or directory)' in done.stderr


ISTIO = """kubernetes.io/config.source="api"
traffic.sidecar.istio.io/excludeInboundPorts="9000,9001"
traffic.sidecar.istio.io/excludeInterfaces="net1"
traffic.sidecar.istio.io/excludeOutboundIPRanges="10.255.0.0/16"
traffic.sidecar.istio.io/excludeOutboundPorts="3306"
traffic.sidecar.istio.io/includeInboundPorts="*"
traffic.sidecar.istio.io/includeOutboundIPRanges="10.0.0.0/8,fd00::/8"
traffic.sidecar.istio.io/includeOutboundPorts="443"
traffic.sidecar.istio.io/kubevirtInterfaces="tap0"
"""


def test_istios_annotations_program_the_kernel(pod, tmp_path):
    path = tmp_path / "annotations"
    path.write_text(ISTIO)
    done = pod.sluice("--preset", "istio", "--annotations", str(path))
    assert done.stderr == ""
    flags = ["--preset", "istio", "--exclude-inbound-ports", "9000,9001,15090,15021,15020", "--exclude-interfaces", "net1",
             "--exclude-outbound-cidrs", "10.255.0.0/16", "--exclude-outbound-ports", "3306", "--outbound-cidrs", "10.0.0.0/8,fd00::/8",
             "--outbound-ports", "443", "--virtual-interfaces", "tap0"]
    assert pod.sluice("verify", *flags).returncode == 0
    # The pod's own word goes before both: nothing is captured inbound.
    path.write_text(ISTIO.replace('includeInboundPorts="*"', 'includeInboundPorts=""') + 'sluice.dev/proxy-port="15009"')
    done = pod.sluice("--preset", "istio", "--annotations", str(path))
    assert "excludeInboundPorts: is ignored, as Istio ignores it" in done.stderr
    assert "redirect to :15009" in pod.listing() and 'comment "inbound"' not in pod.listing()


def test_an_annotation_that_is_wrong_touches_nothing(pod, tmp_path):
    path = tmp_path / "annotations"
    before = pod.generation(), pod.ruleset()
    for text, told in (
        ('sluice.dev/proxy-port="15001 -j ACCEPT"', 'annotation sluice.dev/proxy-port: "15001 -j ACCEPT" is not a port; allowed: 1 to 65535'),
        ('sluice.dev/proxy-prot="1"', "did you mean sluice.dev/proxy-port?"),
        ('sluice.dev/cleanup="true"', "annotation sluice.dev/cleanup: is not for a pod to say"),
        ('traffic.sidecar.istio.io/excludeOutboundIPRanges="*"', 'excludeOutboundIPRanges: "*" is not a network'),
        ("sluice.dev/proxy-port: 1", f'{path}:1: "sluice.dev/proxy-port: 1" is not an annotation as the kubelet writes it'),
    ):
        path.write_text(text)
        done = pod.sluice("--annotations", str(path), check=False)
        assert done.returncode == 2 and told in done.stderr, done.stderr
    assert (pod.generation(), pod.ruleset()) == before


# ------------------------------------------------------------------------------------------ the documents

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
MIGRATING = (DOCS / "migrating.md").read_text()
CONFIGURATION = (DOCS / "configuration.md").read_text()

# Every flag that those programs have, and every other name that their users write down.
PEERS = {
    "Istio": """-p --envoy-port -z --inbound-capture-port -e --inbound-tunnel-port -u --proxy-uid -g --proxy-gid
        -m --istio-inbound-interception-mode -b --istio-inbound-ports -d --istio-local-exclude-ports -c --istio-exclude-interfaces
        -i --istio-service-cidr -x --istio-service-exclude-cidr -q --istio-outbound-ports -o --istio-local-outbound-ports-exclude
        -k --kube-virt-interfaces -t --istio-inbound-tproxy-mark -r --istio-inbound-tproxy-route-table -n --dry-run --iptables-probe-port
        --probe-timeout --skip-rule-apply --run-validation --redirect-dns --drop-invalid --dual-stack --capture-all-dns
        --network-namespace --cni-mode --reconcile --cleanup-only --force-apply --native-nftables --force-iptables-binary
        ISTIO_META_DNS_CAPTURE INVALID_DROP ISTIO_DUAL_STACK ISTIO_OUTBOUND_OWNER_GROUPS ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE
        ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR ENVOY_USER DRY_RUN_FILE_PATH""",
    "Linkerd": """-p --incoming-proxy-port -o --outgoing-proxy-port -u --proxy-uid -g --proxy-gid -r --ports-to-redirect
        --inbound-ports-to-ignore --outbound-ports-to-ignore --subnets-to-ignore --simulate --netns -w --use-wait-flag
        --timeout-close-wait-secs --log-format --log-level --iptables-mode --ipv6 --firewall-bin-path --firewall-save-bin-path""",
    "Kuma": """--dry-run --verbose --ip-family-mode --redirect-outbound-port --redirect-inbound --redirect-inbound-port
        --exclude-inbound-ports --exclude-outbound-ports --kuma-dp-user --redirect-dns --redirect-all-dns-traffic --redirect-dns-port
        --store-firewalld --skip-dns-conntrack-zone-split --drop-invalid-packets --exclude-outbound-ports-for-uids --vnet --wait
        --wait-interval --max-retries --sleep-between-retries --iptables-logs --disable-comments --exclude-inbound-ips
        --exclude-outbound-ips --redirect-inbound-insert-instead-of-append --redirect-outbound-insert-instead-of-append
        --iptables-executables --config redirect.inbound.includePorts redirect.outbound.includePorts redirect.outbound.enabled
        redirect.dns.resolvConfigPath log.level cniMode""",
    "Consul": """-node-name -consul-dns-ip -consul-dns-port -proxy-uid -proxy-id -proxy-inbound-port -proxy-outbound-port
        -exclude-inbound-port -exclude-outbound-port -exclude-outbound-cidr -exclude-uid -netns -log-level -log-json ConsulDNSIP
        ConsulDNSPort ProxyUserID ProxyInboundPort ProxyOutboundPort ExcludeInboundPorts ExcludeOutboundPorts ExcludeOutboundCIDRs
        ExcludeUIDs NetNS""",
}


def rows(mesh):
    """The tables of a mesh's part, as (cells of theirs, cell of ours)."""
    (part,) = re.findall(rf"^## From {mesh}\n((?s:.*?))(?=^## |\Z)", MIGRATING, re.M)
    for line in re.findall(r"^\| (?!---)(.*) \|$", part, re.M):
        *theirs, ours = re.split(r"(?<=\s)\|(?=\s)", f" {line} ")
        yield " ".join(theirs), ours.strip()


@pytest.mark.parametrize("mesh", PEERS)
def test_every_flag_of_another_mesh_has_a_row_that_says_what_becomes_of_it(mesh):
    named = {name for theirs, _ in rows(mesh) for name in re.findall(r"`([^`]+)`", theirs)}
    assert set(PEERS[mesh].split()) <= named
    for theirs, ours in rows(mesh):
        assert re.search(r"`(--[a-z]|sluice)|not needed: |not there: |^(annotation of )?sluice$", ours), (theirs, ours)


def test_what_migrating_and_configuration_name_exists():
    known = set(re.findall(r"^  --([a-z-]+)", sluice("--help").stdout, re.M)) | {"help"}
    annotations = {name for name in known if "is not for a pod to say" not in refused_annotation(name)}
    ours = [ours for mesh in PEERS for _, ours in rows(mesh)]
    for option in re.findall(r"`(?:sluice )?(?:[a-z]+ )?--([a-z-]+)", "\n".join(ours) + CONFIGURATION):
        assert option in known | {"type"}, option
    for name in re.findall(r"sluice\.dev/([a-z-]+)", MIGRATING + CONFIGURATION):
        assert name in annotations, name


@pytest.mark.parametrize("mesh", PEERS)
def test_the_presets_set_what_the_tables_say(mesh):
    by_preset = sluice("plan", "--preset", mesh.lower()).stdout
    told = re.findall(r"\*preset\* \(([0-9][0-9.,/]*)[^)]*\), `--([a-z-]+)`", "\n".join(ours for _, ours in rows(mesh)))
    assert len(told) >= 4
    for value, option in told:
        assert sluice("plan", "--preset", mesh.lower(), f"--{option}={value.rstrip(',')}").stdout == by_preset, option


def refused_annotation(name):
    return sluice("plan", "--annotations", "/dev/stdin", check=False, input=f'sluice.dev/{name}="1"').stderr
