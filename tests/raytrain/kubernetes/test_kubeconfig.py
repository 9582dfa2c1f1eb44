import base64
import http.server
import json
import os
import ssl
import sys
import threading

import pytest

from raytrain.kubernetes import client, kubeconfig
from raytrain.kubernetes.client import ApiError, KubernetesApi
from raytrain.kubernetes.kubeconfig import find_access
from raytrain_core.errors import ClusterError
from tests.support.certificates import self_signed_server, write_certificate
from tests.support.connect_proxy import connect_proxy

JOBS = ("raytrain.dev/v1alpha1", "FineTuneJob")
V1 = "client.authentication.k8s.io/v1"


def answers(status):
    return {"apiVersion": V1, "command": "echo", "args": [json.dumps({"status": status})]}


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked, but for /absent, /login and /strict (the token 2 alone)."""

    def do_GET(self):
        there = not self.path.endswith("/absent")
        answer = {"path": self.path, "authorization": self.headers.get("Authorization")}
        if not there:
            answer = {"reason": "NotFound", "message": "no such job"}
        refused = self.path == "/strict" and self.headers.get("Authorization") != "Bearer 2"
        body = b"<html>log in</html>" if self.path == "/login" else json.dumps(answer).encode()
        self.send_response(401 if refused else 200 if there else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def config(path, cluster, user=None, **more):
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", **({"user": "u"} if user is not None else {})}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | more))
    return path


def authorization(path):
    return KubernetesApi.connect(kubeconfig=path).call("GET", "/version")["authorization"]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, None),
        ({"token": "abc"}, "Bearer abc"),
        ({"tokenFile": "token"}, "Bearer from a file"),
        ({"username": "a", "password": "b"}, "Basic YTpi"),
    ],
)
def test_logs_in(server, tmp_path, user, expected):
    (tmp_path / "token").write_text("from a file\n")
    assert authorization(config(tmp_path / "config", {"server": server + "/"}, user)) == expected


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_an_exec_plugin_runs_again_once_its_token_has_expired(server, tmp_path, version):
    program = tmp_path / "login"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, pathlib\n"
        "asked = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "count = pathlib.Path(os.environ['COUNT']); n = int(count.read_text()) + 1; count.write_text(str(n))\n"
        "ends = '2020-01-01T00:00:00Z' if n == 1 else '2120-01-01T00:00:00Z'\n"
        "where = asked['spec']['cluster']['server']\n"
        "print(json.dumps({**asked, 'status': {'token': f'{n} for {where}', 'expirationTimestamp': ends}}))\n"
    )
    program.chmod(0o755)
    count = tmp_path / "count"
    count.write_text("0")
    plugin = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "command": "./login",
        "env": [{"name": "COUNT", "value": str(count)}],
        "provideClusterInfo": True,
    }
    api = KubernetesApi.connect(kubeconfig=config(tmp_path / "config", {"server": server}, {"exec": plugin}))
    seen = [api.call("GET", "/")["authorization"] for _ in range(3)]
    assert seen == [f"Bearer 2 for {server}"] * 3


def test_files_of_kubeconfig_are_merged_and_the_first_wins(server, tmp_path, monkeypatch):
    one = config(tmp_path / "one" / "config", {"server": server}, clusters=[], users=[])
    two = config(
        tmp_path / "two" / "config", {"server": server}, {"tokenFile": "t"}, contexts=[], **{"current-context": "x"}
    )
    (tmp_path / "two" / "t").write_text("second")
    context = {"name": "here", "context": {"cluster": "c", "user": "u"}}
    one.write_text(json.dumps(json.loads(one.read_text()) | {"contexts": [context]}))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, [tmp_path / "none", one, two])))
    assert KubernetesApi.connect().call("GET", "/")["authorization"] == "Bearer second"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_verifies_the_server_with_the_authority_of_the_cluster(tmp_path):
    with self_signed_server(tmp_path, Server, []) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{running.server_port}"
        authority = base64.b64encode((tmp_path / "ca.pem").read_bytes()).decode()
        config(tmp_path / "good", {"server": url, "certificate-authority-data": authority}, {"token": "t"})
        config(tmp_path / "blind", {"server": url, "insecure-skip-tls-verify": True}, {"token": "t"})
        config(tmp_path / "strange", {"server": url}, {"token": "t"})
        assert authorization(tmp_path / "good") == authorization(tmp_path / "blind") == "Bearer t"
        with pytest.raises(ClusterError, match=r"does not answer.*CERTIFICATE_VERIFY_FAILED"):
            authorization(tmp_path / "strange")
        running.shutdown()


def test_an_answer_other_than_2xx_is_an_error_and_an_object_that_is_not_there_none(server, tmp_path):
    api = KubernetesApi.connect(kubeconfig=config(tmp_path / "config", {"server": server}))
    assert api.get(JOBS, "team", "absent") is None
    strange = api.get(JOBS, "team", "../../other/a?b")
    assert strange is not None
    assert strange["path"] == "/apis/raytrain.dev/v1alpha1/namespaces/team/finetunejobs/..%2F..%2Fother%2Fa%3Fb"
    with pytest.raises(ApiError, match="no such job"):
        api.call("GET", "/absent")
    assert api.call("GET", "/x", query={"labelSelector": "a=b,c"})["path"] == "/x?labelSelector=a%3Db%2Cc"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("[]", "is not a kubeconfig"),
        ("{}", "names no current-context"),
        ("{current-context: a}", "has no context 'a'"),
        ("{current-context: a, contexts: [{name: a, context: {cluster: b}}]}", "has no cluster 'b'"),
        ("{current-context: a, contexts: [a]}", "contexts is not a list of entries with name and context"),
        ("{current-context: a, contexts: {name: a}}", "contexts is not a list of entries with name and context"),
        ("{current-context: a, clusters: [{name: a, cluster: b}]}", "clusters is not a list .* name and cluster"),
        ("", "config names no current-context"),
        ("\xff", "is not YAML"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_said(tmp_path, text, message):
    (tmp_path / "config").write_text(text, encoding="latin-1")
    with pytest.raises(ClusterError, match=f"no Kubernetes cluster: .*{message}"):
        KubernetesApi.connect(kubeconfig=tmp_path / "config")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"auth-provider": {"name": "gcp"}}, "auth-provider is no longer supported"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}}, "apiVersion is .*v1alpha1"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-program"}}, "cannot be run"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}}, "exit code 1"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo"}}, "no ExecCredential"),
        ({"exec": "x"}, "exec is not a mapping"),
        ({"exec": {"apiVersion": V1, "command": "x", "args": "-a"}}, "args is not a list"),
        ({"exec": {"apiVersion": V1, "command": "x", "env": [{"name": "A"}]}}, "env is not a list .* name and value"),
        ({"exec": answers(None)}, "no ExecCredential"),
        ({"exec": answers({"token": "t", "expirationTimestamp": "soon"})}, "no ExecCredential"),
        ({"exec": answers({})}, "neither a token nor a certificate"),
        ({"exec": answers({"token": "t", "clientKeyData": "k"})}, "gave half of a certificate"),
        ({"exec": answers({"clientCertificateData": "c", "clientKeyData": "k"})}, "certificate .* cannot be used"),
        ({"exec": answers({"token": "t"}) | {"interactiveMode": "Sometimes"}}, "interactiveMode is Sometimes"),
        ({"exec": answers({"token": "t"}) | {"interactiveMode": "Always"}}, "echo asks questions .* not a terminal"),
        ({"client-certificate": "config"}, "one of client-certificate and client-key without the other"),
        ({"client-certificate": "config", "client-key": "config"}, "client certificate .* cannot be used"),
        ({"token": "t", "as": "someone"}, r"acts as another one \(as\)"),
        ({"token": "t", "as-groups": ["team"]}, r"acts as another one \(as-groups\)"),
        ({"client-certificate": "gone", "client-key": "gone"}, "No such file.*gone"),
        ({"client-certificate-data": 12, "client-key": "gone"}, "client-certificate-data is not base64"),
    ],
)
def test_a_login_that_cannot_be_used_is_said(server, tmp_path, user, message):
    path = config(tmp_path / "config", {"server": server}, user)
    with pytest.raises(ClusterError, match=message):
        KubernetesApi.connect(kubeconfig=path)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({}, "server of context here is None, not an http"),
        ({"server": "10.0.0.1:6443"}, "server of context here is '10.0.0.1:6443', not an http"),
        ({"server": "https://h", "certificate-authority": "config"}, "certificate-authority is not a certificate"),
        ({"server": "https://h", "certificate-authority": "empty"}, "certificate-authority is empty"),
        (
            {"server": "https://h", "certificate-authority": "config", "insecure-skip-tls-verify": True},
            "only one can be meant",
        ),
    ],
)
def test_a_cluster_that_cannot_be_used_is_said(tmp_path, cluster, message):
    (tmp_path / "empty").write_text("")
    with pytest.raises(ClusterError, match=message):
        KubernetesApi.connect(kubeconfig=config(tmp_path / "config", cluster, {"token": "t"}))


@pytest.mark.parametrize("token", ["one\ntwo", "schlüssel", " "])
def test_a_token_that_no_header_can_hold_is_said_without_showing_it(server, tmp_path, token):
    with pytest.raises(ClusterError, match="not one line of ASCII") as error:
        authorization(config(tmp_path / "config", {"server": server}, {"token": token}))
    assert token.strip() == "" or token not in str(error.value)


def test_a_token_file_that_is_gone_is_not_taken_for_a_server_that_does_not_answer(server, tmp_path):
    with pytest.raises(ClusterError, match=r"the token for the Kubernetes API cannot be read.*gone"):
        authorization(config(tmp_path / "config", {"server": server}, {"tokenFile": "gone"}))


def test_a_program_that_is_missing_is_hinted_at_as_the_kubeconfig_says(server, tmp_path):
    plugin = {"apiVersion": V1, "command": "no-such-program", "installHint": "brew install it\n"}
    with pytest.raises(ClusterError) as error:
        KubernetesApi.connect(kubeconfig=config(tmp_path / "config", {"server": server}, {"exec": plugin}))
    assert error.value.hint == "brew install it"


def test_a_key_with_a_password_is_refused_and_asked_for_by_nobody(server, tmp_path):
    write_certificate(tmp_path)
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    user = {"client-certificate": "ca.pem", "client-key": "key.pem"}
    with pytest.raises(ClusterError, match="client certificate for the Kubernetes API cannot be used") as error:
        KubernetesApi.connect(kubeconfig=config(tmp_path / "config", {"server": server}, user))
    assert "no password" in error.value.hint


def test_without_any_says_where_it_looked(tmp_path):
    with pytest.raises(ClusterError, match=r"there is no .*\.kube/config"):
        KubernetesApi.connect()


def test_a_plugin_logs_in_again_once_if_its_token_is_no_longer_taken(server, tmp_path):
    count = tmp_path / "count"
    count.write_text("")
    command = f"printf x >> {count}; echo '{{\"status\": {{\"token\": \"'$(wc -c < {count} | tr -d ' ')'\"}}}}'"
    plugin = {"apiVersion": V1, "command": "sh", "args": ["-c", command]}
    api = KubernetesApi.connect(kubeconfig=config(tmp_path / "config", {"server": server}, {"exec": plugin}))
    assert api.call("GET", "/")["authorization"] == "Bearer 1"
    assert api.call("GET", "/strict")["authorization"] == "Bearer 2"
    count.write_text("xxx")
    api = KubernetesApi.connect(kubeconfig=tmp_path / "config")
    with pytest.raises(ApiError) as error:
        api.call("GET", "/strict")
    assert error.value.status == 401
    assert count.read_text() == "xxxxx"


@pytest.mark.parametrize("proxy", ["socks5://localhost:1080", "localhost:8080"])
def test_a_proxy_that_cannot_be_used_is_said(tmp_path, proxy):
    path = config(tmp_path / "config", {"server": "https://example.org", "proxy-url": proxy})
    with pytest.raises(ClusterError, match="proxy of the Kubernetes API cannot be used"):
        KubernetesApi.connect(kubeconfig=path)


def test_an_answer_that_is_not_json_is_said(server, tmp_path):
    api = KubernetesApi.connect(kubeconfig=config(tmp_path / "config", {"server": server}))
    with pytest.raises(ClusterError, match=f"{server} answers, but not as the Kubernetes API does"):
        api.call("GET", "/login")


def test_a_plugin_beside_a_file_in_the_working_folder_is_not_looked_for_on_the_path(server, tmp_path, monkeypatch):
    for folder, token in ((tmp_path, "ours"), (tmp_path / "bin", "another")):
        folder.mkdir(exist_ok=True)
        (folder / "login").write_text(f'#!/bin/sh\necho \'{{"status": {{"token": "{token}"}}}}\'\n')
        (folder / "login").chmod(0o755)
    config(tmp_path / "config", {"server": server}, {"exec": {"apiVersion": V1, "command": "./login"}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", "config")
    assert KubernetesApi.connect().call("GET", "/")["authorization"] == "Bearer ours"


@pytest.mark.parametrize("mode", ["Never", "IfAvailable"])
def test_a_plugin_that_may_not_ask_does_not_read_the_standard_input(server, tmp_path, monkeypatch, mode):
    command = 'echo "{\\"status\\": {\\"token\\": \\"read: [$(cat)]\\"}}"'
    plugin = {"apiVersion": V1, "command": "sh", "args": ["-c", command], "interactiveMode": mode}
    path = config(tmp_path / "config", {"server": server}, {"exec": plugin})
    (tmp_path / "job").write_text("a job")
    with (tmp_path / "job").open() as file:
        before = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            assert authorization(path) == "Bearer read: []"
        finally:
            os.dup2(before, 0)
            os.close(before)


def test_data_of_an_authority_counts_more_than_its_file_and_needs_no_key_identifiers(tmp_path, monkeypatch):
    default = ssl.create_default_context

    def strict(**given):  # as Python 3.13 makes it
        tls = default(**given)
        tls.verify_flags |= ssl.VERIFY_X509_STRICT
        return tls

    monkeypatch.setattr(ssl, "create_default_context", strict)
    with self_signed_server(tmp_path, Server, []):
        data = base64.b64encode((tmp_path / "ca.pem").read_bytes()).decode()
    cluster = {"server": "https://h", "certificate-authority-data": data, "certificate-authority": "gone"}
    tls = find_access(kubeconfig=config(tmp_path / "config", cluster)).tls()
    assert len(tls.get_ca_certs()) == 1
    assert not tls.verify_flags & ssl.VERIFY_X509_STRICT
    assert tls.verify_mode == ssl.CERT_REQUIRED
    assert tls.check_hostname


def test_in_a_pod_the_token_is_read_for_each_request_and_a_missing_authority_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(kubeconfig, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    (tmp_path / "token").write_text("one\n")
    with pytest.raises(ClusterError, match=r"no Kubernetes cluster: .*ca\.crt"):
        find_access()
    with self_signed_server(tmp_path, Server, []):
        (tmp_path / "ca.pem").rename(tmp_path / "ca.crt")
    access = find_access()
    assert (access.server, access.authorization()) == ("https://[fd00::1]:443", "Bearer one")
    (tmp_path / "token").write_text("two\n")
    assert access.authorization() == "Bearer two"


def in_a_pod(tmp_path, monkeypatch):
    account = tmp_path / "account"
    with self_signed_server(tmp_path, Server, []):
        account.mkdir()
        (tmp_path / "ca.pem").rename(account / "ca.crt")
    (account / "token").write_text("of the pod")
    monkeypatch.setattr(kubeconfig, "ACCOUNT", account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")


def test_in_a_pod_a_kubeconfig_that_is_named_comes_first_and_that_of_the_home_last(server, tmp_path, monkeypatch):
    in_a_pod(tmp_path, monkeypatch)
    config(tmp_path / ".kube" / "config", {"server": "https://home"})
    assert find_access().server == "https://10.0.0.1:443"
    monkeypatch.setenv("KUBECONFIG", str(config(tmp_path / "named", {"server": server})))
    assert find_access().server == server
    monkeypatch.delenv("KUBECONFIG")
    assert find_access("here").server == "https://home"


def test_a_kubeconfig_may_come_through_a_pipe_beside_an_empty_file_and_a_folder_is_refused(
    server, tmp_path, monkeypatch
):
    path = config(tmp_path / "config", {"server": server}, {"token": "piped"})
    (tmp_path / "empty").write_text("")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_text(path.read_text()), daemon=True).start()
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, [tmp_path / "empty", pipe])))
    assert KubernetesApi.connect().call("GET", "/")["authorization"] == "Bearer piped"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, [tmp_path, path])))
    with pytest.raises(ClusterError, match=r"Is a directory: .*"):
        KubernetesApi.connect()


def test_a_plugin_is_told_all_of_the_cluster_that_it_asks_for(server, tmp_path):
    write_certificate(tmp_path)
    cluster = {
        "server": server,
        "certificate-authority": "ca.pem",
        "tls-server-name": "api",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "ours"}}],
    }
    command = 'printf %s "$KUBERNETES_EXEC_INFO" > told; echo "{\\"status\\": {\\"token\\": \\"t\\"}}"'
    plugin = {
        "apiVersion": V1,
        "command": "sh",
        "args": ["-c", f"cd {tmp_path}; {command}"],
        "provideClusterInfo": True,
    }
    assert authorization(config(tmp_path / "config", cluster, {"exec": plugin})) == "Bearer t"
    told = json.loads((tmp_path / "told").read_text())
    assert (told["apiVersion"], told["kind"], told["spec"]["interactive"]) == (V1, "ExecCredential", False)
    assert told["spec"]["cluster"] == {
        "server": server,
        "tls-server-name": "api",
        "certificate-authority-data": base64.b64encode((tmp_path / "ca.pem").read_bytes()).decode(),
        "config": {"audience": "ours"},
    }


class Greeter(http.server.BaseHTTPRequestHandler):
    """Answers with the name in the client's certificate; /expired is refused to the first."""

    protocol_version = "HTTP/1.1"  # connections stay

    def do_GET(self):
        name = dict(part[0] for part in self.connection.getpeercert()["subject"])["commonName"]
        body = json.dumps({"name": name}).encode()
        self.send_response(401 if (self.path, name) == ("/expired", "first") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_a_plugin_that_gives_another_certificate_is_followed_by_other_connections(tmp_path):
    clients = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        clients.append(write_certificate(tmp_path / name, name))
        status = {"clientCertificateData": clients[-1].read_text()}
        status["clientKeyData"] = (tmp_path / name / "key.pem").read_text()
        (tmp_path / f"{name}.json").write_text(json.dumps({"status": status}))
    command = "if [ -e asked ]; then cat second.json; else cat first.json; fi; touch asked"
    plugin = {"apiVersion": V1, "command": "sh", "args": ["-c", f"cd {tmp_path}; {command}"]}
    with self_signed_server(tmp_path, Greeter, [], clients) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        cluster = {"server": f"https://127.0.0.1:{running.server_port}", "certificate-authority": "ca.pem"}
        api = KubernetesApi.connect(kubeconfig=config(tmp_path / "config", cluster, {"exec": plugin}))
        seen = [api.call("GET", path)["name"] for path in ("/", "/", "/expired", "/")]
        running.shutdown()
    assert seen == ["first", "first", "second", "second"]


def test_a_server_behind_a_proxy_that_wants_a_login_is_verified_by_its_own_name(tmp_path):
    with self_signed_server(tmp_path, Server, []) as running, connect_proxy(running.server_port) as (address, asked):
        threading.Thread(target=running.serve_forever, daemon=True).start()
        cluster = {
            "server": "https://api.example:6443",
            "certificate-authority": "ca.pem",
            "tls-server-name": "127.0.0.1",
            "proxy-url": f"http://me:p%40ss@{address}",
        }
        assert authorization(config(tmp_path / "named", cluster, {"token": "t"})) == "Bearer t"
        assert asked == [("api.example:6443", "Basic " + base64.b64encode(b"me:p@ss").decode())]
        del cluster["tls-server-name"]
        with pytest.raises(ClusterError, match=r"Hostname mismatch|not valid for 'api\.example'"):
            authorization(config(tmp_path / "other", cluster, {"token": "t"}))
        running.shutdown()


@pytest.mark.parametrize(
    ("server", "no_proxy", "direct"),
    [
        ("https://127.0.0.1:6443", "", True),
        ("https://localhost:6443", "", True),
        ("https://[::1]:6443", "", True),
        ("https://10.1.2.3:6443", "", False),
        ("https://10.1.2.3:6443", "example.org, 10.0.0.0/8", True),
        ("https://11.1.2.3:6443", "10.0.0.0/8,11.1.2.4", False),
        ("https://api.example.org", ".example.org", True),
        ("https://api.example.com", ".example.org", False),
        ("https://10.1.2.3", "*", True),
    ],
)
def test_the_proxy_of_the_environment_is_for_other_machines_that_no_proxy_does_not_name(
    tmp_path, monkeypatch, server, no_proxy, direct
):
    for name, value in {"https_proxy": "http://proxy:3128", "no_proxy": no_proxy, "NO_PROXY": no_proxy}.items():
        monkeypatch.setenv(name, value)
    access = find_access(kubeconfig=config(tmp_path / "config", {"server": server}))
    assert client._proxy_of_environment(access) == (None if direct else "http://proxy:3128")
