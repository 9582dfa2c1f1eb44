"""Names and labels of the operator's objects.

They depend on the job's name alone, so a restarted operator finds its objects again. KubeRay
accepts RayJob names of at most 47 characters: 40 for the job, a dash, and the attempt.
"""

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from raytrain import __version__
from raytrain.config.job import API_VERSION

GROUP, PLURAL = API_VERSION.split("/")[0], "finetunejobs"
MANAGER = "raytrain-operator"
JOB_LABEL, ATTEMPT_LABEL = "raytrain.dev/job", "raytrain.dev/attempt"
CANCEL_ANNOTATION = "raytrain.dev/cancel"
"""If "true", the job is ended for good; storage is kept."""
ESTIMATE_ANNOTATION = "raytrain.dev/estimate"
"""What `raytrain submit` estimated, as JSON; the operator writes what was used beside it."""

KUEUE = "kueue.x-k8s.io"
QUEUE_LABEL, PRIORITY_LABEL = f"{KUEUE}/queue-name", f"{KUEUE}/priority-class"
QUEUE_LABELS = {
    "kueue": QUEUE_LABEL,
    "volcano": "volcano.sh/queue-name",
    "yunikorn": "yunikorn.apache.org/queue",
}
"""By queue system; RayJobs get them too: one that is not passed on puts a job into no queue."""
GANG_LABEL, GANG_PRIORITY_LABEL = "ray.io/gang-scheduling-enabled", "ray.io/priority-class-name"
"""KubeRay's, for its batch scheduler: pods start together or not at all; Volcano's priority."""
TOPOLOGY_ANNOTATIONS = tuple(
    f"{KUEUE}/podset-{what}"
    for what in (
        *("required-topology", "preferred-topology", "unconstrained-topology"),
        *("slice-required-topology", "slice-size"),
    )
)
"""How near to each other Kueue places the pods of a group."""
_RESERVED = ("raytrain.dev", "ray.io", "helm.sh")
_RESERVED_ENDS = ("kubernetes.io", "k8s.io", ".argoproj.io", ".fluxcd.io")

_ATTEMPT = re.compile(r"-a(\d{2,})$")


def ray_job_name(job: str, attempt: int) -> str:
    """`support-assistant-a01`."""
    return f"{job}-a{attempt:02d}"


def attempt_of(ray_job: str) -> int | None:
    """Returns the attempt's number in a RayJob's name."""
    match = _ATTEMPT.search(ray_job)
    return int(match[1]) if match else None


def run_account(job: str) -> str:
    """Name of the ServiceAccount, Role and RoleBinding of the run's pods."""
    return f"{job}-raytrain"


def head_account(job: str) -> str:
    """Name of the head's ServiceAccount.

    KubeRay binds the autoscaler's Role to it, and truncates the name at 50 characters.
    """
    return f"{job}-rayhead"


def labels(job: str, attempt: int | None = None, component: str = "run") -> dict[str, str]:
    """Labels of every object that belongs to a job."""
    found = {
        "app.kubernetes.io/name": "raytrain",
        "app.kubernetes.io/instance": job,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "raytrain",
        "app.kubernetes.io/managed-by": MANAGER,
        "app.kubernetes.io/version": __version__,
        JOB_LABEL: job,
    }
    return found if attempt is None else found | {ATTEMPT_LABEL: str(attempt)}


def passed_on(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a FineTuneJob that its RayJobs and pods get too, e.g. team or cost-centre.

    Not those by which somebody finds the FineTuneJob itself: ours, those of recommended names, and
    those of tools that would then take our objects for theirs (Helm, Argo CD, Flux).
    """
    return {key: value for key, value in labels.items() if not is_reserved(key) and _prefix(key) != KUEUE}


def for_kueue(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a FineTuneJob that Kueue reads in its RayJobs: queue and priority class.

    Not for pods: Kueue would queue each of them as well. No others: with them a job could choose
    the Workload that Kueue counts for it.
    """
    return {key: value for key, value in labels.items() if key in (QUEUE_LABEL, PRIORITY_LABEL)}


def for_batch_scheduler(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that make KubeRay's batch scheduler start the pods of a RayJob together."""
    priority = labels.get(GANG_PRIORITY_LABEL)
    return {GANG_LABEL: "true"} | ({GANG_PRIORITY_LABEL: priority} if priority else {})


def annotations_passed_on(annotations: Mapping[str, str], allowed: Collection[str]) -> dict[str, str]:
    """The annotations of a FineTuneJob that its RayJobs and pods get too.

    Software acts on keys with a dot or a slash: those need a pattern in `policy.allowedAnnotations`
    as in `cluster.podTemplate`. Our own and those of other tools are never passed on.
    """
    return {key: value for key, value in annotations.items() if not is_kept_back(key, allowed)}


def is_kept_back(annotation: str, allowed: Collection[str]) -> bool:
    """Whether an annotation of a FineTuneJob stays there."""
    has_reader = "." in annotation or "/" in annotation
    return is_own(annotation) or (has_reader and not any(fnmatchcase(annotation, pattern) for pattern in allowed))


def is_own(annotation: str) -> bool:
    """Whether an annotation is for the FineTuneJob itself: ours, Kueue's, another tool's."""
    tools = ("zalando.org", "argoproj.io", "fluxcd.io")
    return is_reserved(annotation) or _prefix(annotation) == KUEUE or _prefix(annotation).endswith(tools)


def topology(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations by which Kueue places the pods of the group that trains."""
    return {key: value for key, value in annotations.items() if key in TOPOLOGY_ANNOTATIONS}


def is_reserved(label: str) -> bool:
    """Whether a label is one by which somebody finds objects of their own."""
    prefix = _prefix(label)
    return prefix in _RESERVED or (prefix != KUEUE and prefix.endswith(_RESERVED_ENDS))


def _prefix(label: str) -> str:
    return label.split("/", maxsplit=1)[0] if "/" in label else ""


def owner_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The owner reference: Kubernetes deletes an object together with its owner."""
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "name": body["metadata"]["name"],
        "uid": body["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_owned(child: Mapping[str, Any], uid: str) -> bool:
    """Whether the object belongs to the owner with this uid."""
    return any(owner.get("uid") == uid for owner in child["metadata"].get("ownerReferences", []))
