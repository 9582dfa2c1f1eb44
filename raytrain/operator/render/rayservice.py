"""Renders the serving of a run's model as a RayService (KubeRay, ray.io/v1).

The pods of the worker group hold a replica each, one of them the front too. Another run, image or
size changes the Ray cluster, so KubeRay starts a new one beside it, and sends requests there once
its application answers; the old one goes a minute later. Other settings change in place.
"""

from typing import Any

from raytrain.config.serving import ServingSpec
from raytrain.operator.render import names
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.rayjob import autoscaler
from raytrain.operator.render.serving_pods import COMPONENT, PORT, serving_head, serving_pod
from raytrain.operator.render.supporting_objects import from_anywhere
from raytrain.operator.render.yaml_output import to_yaml

API_VERSION, KIND = "ray.io/v1", "RayService"
PLACE = "raytrain-serving-pod"
"""Ray's name for a place in a pod of the group: the front goes there, not to the head."""
IMPORT_PATH = "raytrain.serving.ray_serve:build"
APPLICATION = "raytrain"
_PLACES = 1000
_DELETION_SECONDS = 60
"""How long an old Ray cluster goes on with what it has accepted, once a new one is asked."""


def ray_service(attempt: Attempt, serving: ServingSpec) -> dict[str, Any]:
    """Renders the RayService."""
    found = attempt.object(API_VERSION, KIND, attempt.job.metadata.name, lasting=True)
    found["metadata"]["labels"] |= names.labels(attempt.job.metadata.name, component=COMPONENT)
    return found | {
        "spec": {
            "excludeHeadPodFromServeSvc": True,
            "rayClusterDeletionDelaySeconds": _DELETION_SECONDS,
            "upgradeStrategy": {"type": "NewCluster"},
            "serveConfigV2": to_yaml(_serve_config(attempt, serving)),
            "rayClusterConfig": _ray_cluster(attempt, serving),
        }
    }


def service_url(job: str, namespace: str) -> str:
    """The address of the model inside the cluster."""
    return f"http://{job}-serve-svc.{namespace}:{PORT}"


def served_run(attempt: Attempt, serving: ServingSpec) -> str:
    """The run whose model is served."""
    return serving.run or attempt.job.metadata.name


def serving_policy(attempt: Attempt, serving: ServingSpec) -> dict[str, Any]:
    """Lets requests in: from anywhere if they have to show a token, else from the namespace."""
    name = attempt.job.metadata.name
    clients: dict[str, Any] = {"ports": [{"protocol": "TCP", "port": PORT}]}
    if serving.token_secret is None:
        clients["from"] = [{"podSelector": {}}]
    return attempt.object("networking.k8s.io/v1", "NetworkPolicy", f"{name}-serving", lasting=True) | {
        "spec": {
            "podSelector": {
                "matchLabels": {names.JOB_LABEL: name, "app.kubernetes.io/component": COMPONENT},
            },
            "policyTypes": ["Ingress"],
            "ingress": [clients, from_anywhere(attempt.runs.kuberay_selector, PORT)],
        }
    }


def _serve_config(attempt: Attempt, serving: ServingSpec) -> dict[str, Any]:
    location = attempt.job.spec.storage
    args: dict[str, Any] = {
        "run": served_run(attempt, serving),
        "storage": attempt.place,
        "endpoint": location.endpoint if location else None,
        "region": location.region if location else None,
        "min_replicas": serving.replicas.min,
        "max_replicas": serving.replicas.max,
        "target_queue": serving.target_queue,
        "cpus": serving.resources.cpus,
        "gpus": serving.resources.gpus,
        "place": PLACE,
        "max_queued": serving.max_queued,
        "max_batch": serving.max_batch,
        "max_input_tokens": serving.max_input_tokens,
        "max_new_tokens": serving.max_new_tokens,
        "precision": None if serving.precision == "fp32" else serving.precision,
        "token": serving.token_secret is not None,
    }
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": PORT, "keep_alive_timeout_s": 5},
        "applications": [
            {
                "name": APPLICATION,
                "import_path": IMPORT_PATH,
                "route_prefix": "/",
                "args": {key: value for key, value in args.items() if value is not None},
            }
        ],
    }


def _ray_cluster(attempt: Attempt, serving: ServingSpec) -> dict[str, Any]:
    least, most = serving.replicas.min, serving.replicas.max
    found: dict[str, Any] = {
        "rayVersion": attempt.runs.ray_version,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": serving_head(attempt, serving)},
        "workerGroupSpecs": [
            {
                "groupName": COMPONENT,
                "replicas": least,
                "minReplicas": least,
                "maxReplicas": most,
                "rayStartParams": {
                    "num-cpus": str(serving.resources.cpus),
                    "num-gpus": str(serving.resources.gpus),
                    "resources": f"'{{\"{PLACE}\":{_PLACES}}}'",  # KubeRay calls a shell
                },
                "template": serving_pod(attempt, serving),
            }
        ],
    }
    if most > least:
        found |= {"enableInTreeAutoscaling": True, "autoscalerOptions": autoscaler(attempt)}
    return found
