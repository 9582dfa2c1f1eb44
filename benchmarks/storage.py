"""Compares our stores with other clients of S3, GCS and Azure, on servers of this machine.

    python -m benchmarks.storage --out benchmarks/results/storage.json

needs obstore, gcsfs and adlfs beside the extras gcs and azure, and Go and npm for the first start
of the emulators. Each way runs in a process of its own; what a result file has already is not
measured again. Ours verify what they wrote, by reading it back where the server tells no checksum;
the other clients do not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from benchmarks.output import emit, processor

LARGE, SMALL, OBJECTS, ROUNDS = 64 << 20, 4096, 200, 5
WAYS = {
    "s3": ("raytrain (boto3)", "obstore"),
    "gcs": ("raytrain (google-cloud-storage)", "gcsfs", "obstore"),
    "azure": ("raytrain (azure-storage-blob)", "adlfs", "obstore"),
}
MEASURES = ("large_up", "large_down", "small_up", "small_down")


class Client(NamedTuple):
    """What is timed; `create` puts only if absent and raises if there is something."""

    upload: Callable[[str, Path], object]
    download: Callable[[str, Path], object]
    put: Callable[[str, bytes], object]
    get: Callable[[str], bytes]
    create: Callable[[str, bytes], object]


def ours(uri: str) -> Client:
    from raytrain_core.storage import open_store

    store = open_store(uri)
    return Client(
        store.upload, store.download, store.put, store.get, lambda key, data: store.put(key, data, if_absent=True)
    )


def by_obstore(cloud: str) -> Client:
    import obstore
    from obstore.store import AzureStore, GCSStore, S3Store

    http: Any = {"allow_http": True}
    if cloud == "s3":
        store: Any = S3Store(
            "test",
            endpoint=os.environ["AWS_ENDPOINT_URL"],
            region="us-east-1",
            access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            client_options=http,
        )
    elif cloud == "gcs":
        key = {"gcs_base_url": f"http://{os.environ['STORAGE_EMULATOR_HOST']}", "disable_oauth": True}
        key |= {"client_email": "", "private_key": "", "private_key_id": ""}
        store = GCSStore("test", service_account_key=json.dumps(key), client_options=http)
    else:
        store = AzureStore(
            "test",
            account_name=os.environ["AZURE_STORAGE_ACCOUNT_NAME"],
            account_key=os.environ["AZURE_STORAGE_ACCOUNT_KEY"],
            endpoint=os.environ["AZURE_STORAGE_ENDPOINT"],
            client_options=http,
        )

    def download(key: str, path: Path) -> None:
        with path.open("wb") as file:
            for chunk in obstore.get(store, key).stream():
                file.write(chunk)

    return Client(
        lambda key, path: obstore.put(store, key, path),
        download,
        lambda key, data: obstore.put(store, key, data),
        lambda key: bytes(obstore.get(store, key).bytes()),
        lambda key, data: obstore.put(store, key, data, mode="create"),
    )


def by_fsspec(cloud: str) -> Client:
    import fsspec

    if cloud == "gcs":
        os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # else it asks by gRPC, which no emulator answers
        fs = fsspec.filesystem("gs", token="anon", endpoint_url=f"http://{os.environ['STORAGE_EMULATOR_HOST']}")
    else:
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": os.environ["AZURE_STORAGE_ACCOUNT_NAME"],
            "AccountKey": os.environ["AZURE_STORAGE_ACCOUNT_KEY"],
            "BlobEndpoint": os.environ["AZURE_STORAGE_ENDPOINT"],
        }
        fs = fsspec.filesystem("abfs", connection_string=";".join(f"{name}={value}" for name, value in parts.items()))
    return Client(
        lambda key, path: fs.put_file(str(path), f"test/{key}"),
        lambda key, path: fs.get_file(f"test/{key}", str(path)),
        lambda key, data: fs.pipe_file(f"test/{key}", data),
        lambda key: bytes(fs.cat_file(f"test/{key}")),
        lambda key, data: fs.pipe_file(f"test/{key}", data, mode="create"),
    )


def client_of(cloud: str, way: str) -> Client:
    if way.startswith("raytrain"):
        return ours({"s3": "s3://test", "gcs": "gs://test", "azure": "az://test"}[cloud])
    return by_obstore(cloud) if way == "obstore" else by_fsspec(cloud)


def measure(cloud: str, way: str) -> dict[str, Any]:
    """Seconds of each measure (several rounds), MiB of memory at most, and what conditions do."""
    client = client_of(cloud, way)
    with tempfile.TemporaryDirectory() as name:
        large, back = Path(name, "large"), Path(name, "back")
        large.write_bytes(os.urandom(LARGE))
        small = os.urandom(SMALL)
        client.put("warm", small)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rounds: dict[str, list[float]] = {measure: [] for measure in MEASURES}
        for number in range(ROUNDS):
            keys = [f"small/{number}/{one}" for one in range(OBJECTS)]
            rounds["large_up"].append(_seconds(partial(client.upload, f"large/{number}", large)))
            rounds["large_down"].append(_seconds(partial(client.download, f"large/{number}", back)))
            rounds["small_up"].append(_seconds(partial(_each, client.put, keys, small)))
            rounds["small_down"].append(_seconds(partial(_each, client.get, keys)))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
        same = back.read_bytes() == large.read_bytes()
    return {"seconds": rounds, "grown_mib": grown, "equal": same, "put_if_absent": _condition(client)}


def _condition(client: Client) -> str:
    key = f"condition-{uuid4().hex}"
    try:
        client.create(key, b"1")
    except Exception as error:
        return f"fails: {type(error).__name__}"
    try:
        client.create(key, b"2")
    except Exception as error:
        return f"refused: {type(error).__name__}" if client.get(key) == b"1" else "refused, yet written"
    return "ignored: the second writer replaced the first"


def _each(call: Callable[..., object], keys: Sequence[str], *arguments: object) -> None:
    for key in keys:
        call(key, *arguments)


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return round(time.perf_counter() - begun, 4)


def _in_a_process(cloud: str, way: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.storage", "--way", f"{cloud}/{way}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line[:1].strip() and "Error" in line]
        return {"failed": (lines or ["no reason given"])[0][:300]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_all(out: Path | None) -> None:
    from tests.support.cloud_emulators import azurite, fake_gcs
    from tests.support.s3_server import s3_server

    found: dict[str, Any] = json.loads(out.read_text()) if out and out.exists() else {"figures": {}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers: tuple[Any, ...] = (s3_server(folder), fake_gcs(folder), azurite(folder))
        for server in servers:
            running = stack.enter_context(server)
            running.make_bucket("test")
            os.environ.update(running.environment)
        for cloud, ways in WAYS.items():
            for way in ways:
                if f"{cloud}: {way}" not in found["figures"]:
                    found["figures"][f"{cloud}: {way}"] = _summary(_in_a_process(cloud, way))
                    emit({"machine": _machine(), "ratios": {}, "figures": found["figures"]}, out)


def _machine() -> dict[str, Any]:
    return {"processor": processor(), "cores": os.cpu_count()}


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """The median of each measure as MiB/s or objects/s."""
    if "failed" in found:
        return found
    median = {name: sorted(values)[len(values) // 2] for name, values in found.pop("seconds").items()}
    return {
        "large_up_mib_per_second": round((LARGE >> 20) / median["large_up"]),
        "large_down_mib_per_second": round((LARGE >> 20) / median["large_down"]),
        "small_up_per_second": round(OBJECTS / median["small_up"]),
        "small_down_per_second": round(OBJECTS / median["small_down"]),
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", help="measure one way only, e.g. gcs/gcsfs, on servers that the environment names")
    chosen = parser.parse_args()
    if chosen.way:
        print(json.dumps(measure(*chosen.way.split("/", 1))))
    else:
        measure_all(chosen.out)


if __name__ == "__main__":
    main()
