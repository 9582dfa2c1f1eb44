"""The application as deployments of Ray Serve: a front, and replicas of the model behind it.

The front is the application of `application.py`: it checks requests, counts the queue, and hands
token ids to the model's replicas, each of which decodes many requests at once. If a replica dies,
its requests are given to another one, once. KubeRay imports `build` by name.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError
from starlette.types import ASGIApp

from raytrain.config.run_layout import RunLayout
from raytrain.config.serving import ServingPrecision
from raytrain.serving.application import application
from raytrain.serving.errors import unavailable
from raytrain.serving.models import RunModels
from raytrain.serving.service import Service, ServiceLimits
from raytrain.serving.token import read_token
from raytrain.training.threads import worker_environment
from raytrain_core.errors import UsageError
from raytrain_core.storage import open_store
from raytrain_core.storage.location import StorageLocation

if TYPE_CHECKING:
    from data_prep.text.tokenizer import Ids
    from raytrain.serving.models import Which

_log = logging.getLogger("ray.serve")  # the one that Ray Serve writes to the replica's log
STUCK_SECONDS = 120.0
"""A step of the model that takes longer shows that it hangs."""
DRAIN_SECONDS = 60.0
_UPSCALE_SECONDS, _DOWNSCALE_SECONDS = 5.0, 120.0


class ServeArgs(BaseModel):
    """Arguments of `build`, as serveConfigV2 has them."""

    model_config = ConfigDict(extra="forbid")

    run: str
    storage: str
    endpoint: str | None = None
    region: str | None = None
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    target_queue: int = Field(default=16, ge=1)
    cpus: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)
    place: str | None = None
    """Ray's name for a resource of the pods that may hold the front."""
    max_queued: int = Field(default=256, ge=1)
    max_batch: int = Field(default=128, ge=1)
    max_input_tokens: int | None = None
    max_new_tokens: int | None = None
    precision: ServingPrecision = "fp32"
    token: bool = False
    """Whether the environment has to have a token."""

    def models(self) -> RunModels:
        """The run's models, none of them loaded; UsageError where there is no such run."""
        location = StorageLocation(uri=self.storage, endpoint=self.endpoint, region=self.region)
        return RunModels(open_store(location), RunLayout(self.run), precision=self.precision)


class Model:
    """One replica: the tuned model, decoding all its requests together."""

    def __init__(self, args: ServeArgs) -> None:
        models = args.models()
        self._batcher = models.live("after")
        [source] = models.tokenizer.encode_batch(["ready"], models.limits.max_input_tokens)
        self._batcher.submit(source, 1).result()  # a replica that runs has answered

    async def generate(self, source: "Ids", limit: int) -> list[int]:
        """Returns the generated ids, at most `limit`."""
        return await asyncio.wrap_future(self._batcher.submit(source, limit))

    def check_health(self) -> None:
        """Raises where the model's thread has ended or hangs: Ray Serve then replaces it."""
        if not self._batcher.is_alive or self._batcher.seconds_in_step() > STUCK_SECONDS:
            raise RuntimeError("the model does not answer any more")


class ReplicaBackend:
    """The model's replicas, through a handle of Ray Serve."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def generate(self, source: "Ids", limit: int) -> list[int]:
        """Returns the generated ids; a request whose replica dies is tried once more."""
        for last in (False, True):
            try:
                ids: list[int] = await self._handle.generate.remote(source, limit)
            except (RayActorError, DeploymentUnavailableError):
                if last:
                    break
            else:
                return ids
        raise unavailable("the model's replica has ended twice while it answered this request")

    def available(self) -> "list[Which]":
        """The tuned model alone is served by replicas."""
        return ["after"]

    async def backend(self, which: "Which") -> "ReplicaBackend":
        """Returns the replicas."""
        return self

    async def close(self) -> None:
        """Does nothing: Ray Serve waits for requests before it stops a replica."""


@serve.ingress()
class Front:
    """The application; reads tokenizer and tasks of the run, but no weights."""

    def __init__(self, args: ServeArgs, model: Any) -> None:
        token = read_token()
        if args.token and token is None:
            raise UsageError("there is no token in the environment, although one is required")
        limits = ServiceLimits(args.max_queued, args.max_batch, args.max_input_tokens, args.max_new_tokens)
        service = Service(args.models(), ReplicaBackend(model), run=args.run, limits=limits)
        if service.notice is not None:
            _log.warning("%s", service.notice)
        self._application = application(service, token=token, hosts=None, page=False, keep_alive=False)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._application


def build(args: ServeArgs) -> Any:
    """Returns the application for Ray Serve."""
    scaling = {
        "min_replicas": args.min_replicas,
        "max_replicas": args.max_replicas,
        "target_ongoing_requests": args.target_queue,
        "upscale_delay_s": _UPSCALE_SECONDS,
        "downscale_delay_s": _DOWNSCALE_SECONDS,
    }
    model = serve.deployment(
        autoscaling_config=scaling,
        max_ongoing_requests=max(64, 2 * args.target_queue),
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        ray_actor_options={
            "num_cpus": args.cpus,
            "num_gpus": args.gpus,
            "runtime_env": {} if args.gpus else {"env_vars": worker_environment()},
        },
    )(Model)
    front = serve.deployment(
        num_replicas=1,
        max_ongoing_requests=args.max_queued + 64,  # the front itself answers 429
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        ray_actor_options={"num_cpus": 0, "resources": {args.place: 0.001} if args.place else {}},
    )(Front)
    return front.bind(args, model.bind(args))
