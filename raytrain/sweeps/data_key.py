"""Which runs share their prepared data."""

import hashlib
import json

from raytrain.config.identity import LEFT_OUT
from raytrain.config.job import FineTuneJob


def data_key(job: FineTuneJob) -> str:
    """Returns a digest of the part of a job that decides its shards: equal keys, equal shards.

    Rates are no part of it: they decide how often an example is drawn, not what it is.
    """
    spec, training = job.spec, job.spec.training
    tasks = spec.model_dump(mode="json", by_alias=True, include={"tasks"}, exclude={"tasks": LEFT_OUT["tasks"]})
    parts = [tasks, spec.model, training.max_input_tokens, training.max_target_tokens, spec.mixture.seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
