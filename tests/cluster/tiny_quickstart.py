"""The quickstart in miniature: its world with a few rows, its job with a few steps."""

from pathlib import Path
from typing import Any

import yaml

from data_prep.prepare import PrepLimits, prepare
from data_prep.text.tokenizer import Tokenizer
from examples.quickstart import world
from raytrain.config.job import FineTuneJob
from raytrain_core.storage import open_store

_JOB_FILE = Path(world.__file__).with_name("job.yaml")


def make_world(folder: Path) -> Path:
    """Rows of all six tasks and a base model that has learned next to nothing; 5 s."""
    world.build(folder, world.TINY, lambda text: None)
    return folder


def upload(folder: Path, uri: str) -> str:
    """Copy the world to an object store; its URI."""
    store = open_store(uri)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.upload(path.relative_to(folder).as_posix(), path)
    return uri


def job(name: str, world_uri: str, *, storage: str, steps: int = 6, **cluster: Any) -> dict[str, Any]:
    """The quickstart's job over a world that lies elsewhere, in `steps` steps with a checkpoint halfway.

    The driver has a pod of its own, others come as preparation, worker and actor ask for CPUs; what
    pods ask of the node is cut, as it may have two. `cluster` adds to spec.cluster.
    """
    found = _replaced(yaml.safe_load(_JOB_FILE.read_text()), "./world", world_uri)
    found["metadata"] = {"name": name}
    spec = found["spec"]
    spec["training"] |= {"steps": steps, "checkpointEvery": max(1, steps // 2), "warmupSteps": 1}
    spec["evaluation"] = {"every": max(1, steps // 2), "examplesPerTask": 4, "maxNewTokens": 8}
    spec["storage"] = {"uri": storage}
    spec["resources"] = {
        "training": {"workers": 1, "cpus": 1},
        "evaluation": {"actors": 1, "cpus": 1},
        "preparation": {"cpus": 1, "memory": "4Gi"},
    }
    little = {"name": "ray", "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}}}
    spec["cluster"] = {"secrets": ["bucket"], "podTemplate": {"spec": {"containers": [little]}}} | cluster
    return found


def shard_set_digest(content: dict[str, Any], world_folder: Path, store_folder: Path) -> str:
    """What preparation on this machine makes of the job."""
    job = FineTuneJob.model_validate(content)
    training = job.spec.training
    return prepare(
        job.spec.tasks,
        job.spec.mixture,
        store=open_store(str(store_folder)),
        tokenizer=Tokenizer.from_folder(world_folder / "model"),
        limits=PrepLimits(training.max_input_tokens, training.max_target_tokens),
        base_folder=world_folder.parent,
    ).digest


def _replaced(value: Any, old: str, new: str) -> Any:
    """The same, with the beginning of every text replaced."""
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return new + value.removeprefix(old) if isinstance(value, str) and value.startswith(old) else value
