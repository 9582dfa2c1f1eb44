"""The quickstart in miniature: its world with a few rows, its job with a few steps."""

from pathlib import Path
from typing import Any

import yaml

from examples.quickstart import world
from raytrain_core.storage import open_store

_JOB_FILE = Path(world.__file__).with_name("job.yaml")


def make_world(folder: Path) -> Path:
    """Creates rows of all six tasks and a barely trained base model; takes 5 s."""
    world.build(folder, world.TINY, lambda text: None)
    return folder


def upload(folder: Path, uri: str) -> str:
    """Copies the world to an object store; returns its URI."""
    store = open_store(uri)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.upload(path.relative_to(folder).as_posix(), path)
    return uri


def job(name: str, world_uri: str, *, storage: str, steps: int = 6, **cluster: Any) -> dict[str, Any]:
    """Returns the quickstart's job on another world, for `steps` steps with a checkpoint halfway.

    The driver has its own pod; further pods start as preparation, worker and actor request CPUs.
    Pods request container, as the node may have two CPUs. `cluster` is merged into spec.cluster.
    """
    content: dict[str, Any] = _replaced(yaml.safe_load(_JOB_FILE.read_text()), "./world", world_uri)
    content["metadata"] = {"name": name}
    spec = content["spec"]
    spec["training"] |= {"steps": steps, "checkpointEvery": max(1, steps // 2), "warmupSteps": 1}
    spec["evaluation"] = {"every": max(1, steps // 2), "examplesPerTask": 4, "maxNewTokens": 8}
    spec["storage"] = {"uri": storage}
    spec["resources"] = {
        "training": {"workers": 1, "cpus": 1},
        "evaluation": {"actors": 1, "cpus": 1},
        "preparation": {"cpus": 1, "memory": "4Gi"},
    }
    container = {"name": "ray", "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}}}
    spec["cluster"] = {"secrets": ["bucket"], "podTemplate": {"spec": {"containers": [container]}}} | cluster
    return content


def _replaced(value: Any, old: str, new: str) -> Any:
    """Returns the value with the prefix `old` of every string replaced."""
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return new + value.removeprefix(old) if isinstance(value, str) and value.startswith(old) else value
