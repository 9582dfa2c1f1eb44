"""A real S3 server for tests: SeaweedFS on free ports of this machine.

By hand: `python -m tests.support.s3_server [ADDRESS]` starts one, prints what to export, and stops
it at Ctrl-C.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY = "raytrain-test"
SECRET_KEY = "raytrain-test-secret"
_START_SECONDS = 90
_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port", "s3.port.grpc",
)  # fmt: skip


@dataclass(frozen=True)
class S3Server:
    """Address and credentials of a running server."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = "us-east-1"
    identities: Path | None = None
    pid: int | None = None

    def rotated(self, access_key: str, secret_key: str) -> "S3Server":
        """Replaces the server's keys; returns the server with the new ones."""
        assert self.identities is not None
        assert self.pid is not None
        content = json.loads(self.identities.read_text())
        content["identities"][0]["credentials"] = [{"accessKey": access_key, "secretKey": secret_key}]
        self.identities.write_text(json.dumps(content))
        os.kill(self.pid, signal.SIGHUP)
        new = replace(self, access_key=access_key, secret_key=secret_key)
        deadline = time.monotonic() + _START_SECONDS
        while _answers(self) or not _answers(new):
            if time.monotonic() > deadline:
                raise RuntimeError("the S3 server did not accept the new keys")
            time.sleep(0.1)
        return new

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for the server; they hide the machine's AWS configuration."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self) -> "S3Client":
        """Returns a plain boto3 client, to inspect the server without our own code."""
        return _client(self)

    def make_bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return name

    def remove_bucket(self, name: str) -> None:
        """Removes a bucket and its objects."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=name)
        for key in [entry["Key"] for page in pages for entry in page.get("Contents", [])]:
            self.client().delete_object(Bucket=name, Key=key)
        self.client().delete_bucket(Bucket=name)


@cache
def _client(server: S3Server) -> "S3Client":
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(s3={"addressing_style": "path"}),
    )


def _answers(server: S3Server) -> bool:
    """Whether the server accepts these keys."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        server.client().list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def _free_ports(count: int) -> list[int]:
    """Returns different free ports, reserved together until all are drawn."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _is_up(endpoint: str) -> bool:
    """Whether server and filer answer S3 requests (403: a signature is required)."""
    try:
        with urlopen(f"{endpoint}/no-such-bucket/no-such-key", timeout=5) as answer:
            return bool(answer.status == 200)
    except HTTPError as error:
        return error.code in (403, 404)
    except (URLError, OSError):
        return False


def _has_storage(server: S3Server) -> bool:
    """Whether a volume is writable; the volume server registers some time after the rest."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = server.client()
        with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket="is-it-up")
        client.put_object(Bucket="is-it-up", Key="x", Body=b"x")
        return client.get_object(Bucket="is-it-up", Key="x")["Body"].read() == b"x"
    except (BotoCoreError, ClientError):
        return False


def _dies_with_us() -> list[str]:
    """Returns a command prefix that ends the server even if this process is killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


@contextmanager
def s3_server(folder: Path, address: str = "127.0.0.1") -> Iterator[S3Server]:
    """Runs a server with its files in `folder`; kills it and its children at the end."""
    weed = Path(sys.executable).with_name("weed")
    identities = folder / "identities.json"
    identities.write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": "test",
                        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                    },
                    {
                        "name": "reader",
                        "credentials": [{"accessKey": "reader", "secretKey": "reader-secret"}],
                        "actions": ["Read", "List"],
                    },
                ]
            }
        )
    )
    # each bucket gets its own volumes: one instead of the default seven, which would use up the
    # limit during a test session
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    log = folder / "server.log"
    for last in (False, False, True):  # another process may take a port before the server starts
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        server = S3Server(f"http://{address}:{ports['s3.port']}")
        data = folder / f"data-{ports['s3.port']}"
        data.mkdir()
        command = [
            *_dies_with_us(), str(weed), "-logtostderr", "server",
            f"-dir={data}", f"-ip={address}", f"-ip.bind={address}",
            "-s3", f"-s3.config={identities}", "-s3.autoCreateBucket=false", "-s3.iam=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-master.volumeSizeLimitMB=64",
            "-volume.max=5000", "-volume.minFreeSpacePercent=0",
            *(f"-{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True, cwd=folder
            )
        try:
            deadline = time.monotonic() + _START_SECONDS
            up = False
            while not up and process.poll() is None and time.monotonic() < deadline:
                up = _is_up(server.endpoint) and _has_storage(server)
                if not up:
                    time.sleep(0.1)
            if up:
                yield replace(server, identities=identities, pid=process.pid)
                return
            if last:
                raise RuntimeError(f"the S3 server did not start:\n{log.read_text(errors='replace')[-3000:]}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # SIGTERM takes most of a minute
            process.wait()


def main() -> None:
    """Starts a server, prints how to use it, and waits for Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with tempfile.TemporaryDirectory(prefix="s3-server-") as folder, s3_server(Path(folder), *sys.argv[1:2]) as server:
        server.make_bucket("test")
        for name, value in server.environment.items():
            print(f"export {name}={value}")
        print("# bucket: s3://test    Ctrl-C stops the server", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
