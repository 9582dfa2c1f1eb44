"""Renders a job as plain KubeRay objects, for clusters without the raytrain operator."""

from raytrain.config.cluster import ClusterSpec
from raytrain.config.job import FineTuneJob
from raytrain.operator.admission import check_admission
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.rayjob import ray_job
from raytrain.operator.render.supporting_objects import job_config_map
from raytrain.operator.render.yaml_output import to_yaml
from raytrain.operator.settings import Settings
from raytrain_core.errors import UsageError


def render_standalone(job: FineTuneJob, *, image: str | None = None, namespace: str | None = None) -> str:
    """Returns the job's ConfigMap and its RayJob as YAML; UsageError if the job cannot run."""
    settings = Settings()
    if image:
        cluster = (job.spec.cluster or ClusterSpec()).model_copy(update={"image": image})
        job = job.model_copy(update={"spec": job.spec.model_copy(update={"cluster": cluster})})
    if refused := check_admission(job, settings):
        raise UsageError(f"{refused.reason}: {refused.message}")
    attempt = Attempt(job, settings.runs, namespace=namespace or job.metadata.namespace)
    return to_yaml(job_config_map(attempt), ray_job(attempt))
