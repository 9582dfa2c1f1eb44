"""A job as plain KubeRay objects, for people who run no operator of ours."""

from raytrain.config.job import ClusterSpec, FineTuneJob
from raytrain.operator.admission import refusal
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.rayjob import ray_job
from raytrain.operator.render.supporting_objects import job_config_map
from raytrain.operator.render.yaml_text import yaml_text
from raytrain.operator.settings import Settings
from raytrain_core.errors import UsageError


def rendered(job: FineTuneJob, *, image: str | None = None, namespace: str | None = None) -> str:
    """The ConfigMap with the job and the RayJob, as YAML.

    UsageError if it cannot run in a cluster.
    """
    settings = Settings()
    if image:
        cluster = (job.spec.cluster or ClusterSpec()).model_copy(update={"image": image})
        job = job.model_copy(update={"spec": job.spec.model_copy(update={"cluster": cluster})})
    if refused := refusal(job, settings):
        raise UsageError(f"{refused.reason}: {refused.message}")
    attempt = Attempt(job, settings.runs, namespace=namespace or job.metadata.namespace)
    return yaml_text(job_config_map(attempt), ray_job(attempt))
