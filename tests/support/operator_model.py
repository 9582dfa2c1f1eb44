"""A small world of an API server, KubeRay and kubelets, in which the real controller acts.

Every step of it is one move: an effect is refused or its answer lost, KubeRay reacts, a person asks
for something, the operator restarts, time passes. Events of deletions are lost.
"""

from __future__ import annotations

import asyncio
import builtins
import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from raytrain.kubernetes.client import JOBS, RAY_JOBS, ApiError
from raytrain.operator.capacity import NODES, QUOTAS
from raytrain.operator.controller import Controller
from raytrain.operator.pods_seen import PODS, RAY_CLUSTERS
from raytrain.operator.settings import Settings
from raytrain_core.errors import ClusterError
from tests.support.finetunejob_objects import finetunejob

KEY = ("team", "assistant")
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
REFUSALS = (403, 409, 422, 429, 500)
_REASONS = {403: "Forbidden", 409: "Conflict", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError"}
LOST_ANSWER, NO_ANSWER = "answer lost", "no answer"


class World:
    """What is in etcd, what kubelets run, and one operator with its memory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.job: dict[str, Any] = finetunejob(cluster={"retries": 1})
        self.ray_jobs: dict[str, dict[str, Any]] = {}
        self.clusters: dict[str, str] = {}
        """RayCluster by the RayJob that owns it."""
        self.pods: dict[str, str] = {}
        """State (running, leaving) of the pods by RayJob: one stands for all."""
        self.others: set[tuple[str, str]] = set()
        self.fault: tuple[str, object] | None = None
        self.calls = 0
        self.version = 1
        self.now = START
        self.wake: float | None = None
        self.violations: list[str] = []
        self.restart()

    def restart(self) -> None:
        """A new operator, that remembers nothing."""
        self.controller: Controller = Controller(
            self,  # type: ignore[arg-type]
            self.settings,
            lambda body, event: None,
            now=lambda: self.now,
        )
        self.controller._observer._kuberay_until = float("inf")

    def copy(self) -> World:
        """The same world, operator's memory included."""
        twin = World(self.settings)
        for name, value in vars(self).items():
            if name not in ("controller", "settings"):
                setattr(twin, name, copy.deepcopy(value))
        for name in ("jobs", "ray_jobs"):
            memory, twins = self.controller._memory, twin.controller._memory
            getattr(twins, name).update(copy.deepcopy(dict(getattr(memory, name))))
        return twin

    # what the controller calls: the API server

    def _called(self, verb: str, kind: str) -> bool:
        """Raises what the caller sees; True if the effect happens, and its answer is then lost."""
        self.calls += 1
        if self.fault is None or self.fault[0] != f"{verb} {kind}":
            return False
        _, fault = self.fault
        self.fault = None
        if isinstance(fault, int):
            raise ApiError(fault, _REASONS[fault], f"refused with {fault}")
        if fault == NO_ANSWER:
            raise ClusterError("the Kubernetes API does not answer")
        return True

    def serves(self, kind: tuple[str, str]) -> bool:
        return kind == RAY_JOBS

    def get(self, kind: tuple[str, str], namespace: str, name: str) -> dict[str, Any] | None:
        self._called("get", kind[1])
        return copy.deepcopy(self.job if kind == JOBS else self.ray_jobs.get(name))

    def list(
        self, kind: tuple[str, str], namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> list[dict[str, Any]]:
        if kind in (NODES, QUOTAS):
            return []
        self._called("list", kind[1])
        if kind == JOBS:
            return [copy.deepcopy(self.job)]
        if kind == RAY_CLUSTERS:
            return [{"metadata": {"name": name}} for name in self.clusters.values()]
        assert kind == PODS
        return [
            {
                "metadata": {"name": f"{name}-pod", "uid": name}
                | ({"deletionTimestamp": "2026-11-23T12:00:00Z", "deletionGracePeriodSeconds": 60} if leaving else {}),
                "status": {"phase": "Running"},
            }
            for name, state in self.pods.items()
            for leaving in [state == "leaving"]
        ]

    def create(self, body: dict[str, Any], *, manager: str) -> dict[str, Any] | None:
        lost = self._called("create", body["kind"])
        name = body["metadata"]["name"]
        exists = name in self.ray_jobs if body["kind"] == "RayJob" else (body["kind"], name) in self.others
        if not exists and body["kind"] == "RayJob":
            self.version += 1
            metadata = {**copy.deepcopy(body["metadata"]), "uid": f"{name}-{self.version}"}
            self.ray_jobs[name] = {**copy.deepcopy(body), "metadata": metadata}
            self._attempt_begins(name)
        elif not exists:
            self.others.add((body["kind"], name))
        if lost:
            raise ClusterError("the Kubernetes API does not answer")
        return None if exists else body

    def apply(self, body: dict[str, Any], *, manager: str) -> dict[str, Any]:
        self._called("apply", body["kind"])
        return body

    def patch(
        self, kind: tuple[str, str], namespace: str, name: str, body: dict[str, Any], *, manager: str, status: bool
    ) -> dict[str, Any]:
        lost = self._called("patch", "status")
        self.version += 1
        old = self.job.get("status", {})
        self._check_history(old.get("attempts", []), body["status"].get("attempts"))
        merged = {key: value for key, value in {**old, **copy.deepcopy(body["status"])}.items() if value is not None}
        self.job = {**self.job, "status": merged}
        self.job["metadata"] = {**self.job["metadata"], "resourceVersion": str(self.version)}
        if lost:
            raise ClusterError("the Kubernetes API does not answer")
        return copy.deepcopy(self.job)

    def delete(self, kind: tuple[str, str], namespace: str, name: str) -> bool:
        lost = self._called("delete", kind[1])
        assert kind == RAY_JOBS, "only RayJobs are deleted"
        found = self.ray_jobs.get(name)
        if found is not None:
            found["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
        if lost:
            raise ClusterError("the Kubernetes API does not answer")
        return found is not None

    # invariants

    def _attempt_begins(self, name: str) -> None:
        if others := {*self.pods, *self.clusters, *self.ray_jobs} - {name}:
            self.violations.append(f"{name} begins while {sorted(others)} is left")
        if name in self.pods or name in self.clusters:
            self.violations.append(f"{name} begins again while its own pods are left")
        if self.job.get("status", {}).get("phase") in ("Complete", "Failed", "Cancelled"):
            self.violations.append(f"{name} begins after the end")

    def _check_history(self, old: builtins.list[dict[str, Any]], new: builtins.list[dict[str, Any]] | None) -> None:
        if new is None:
            return
        numbers = [attempt["number"] for attempt in new]
        if not {a["number"] for a in old} <= set(numbers):
            self.violations.append("an attempt was lost")
        for attempt in new:
            if attempt["outcome"] != "Running" and not (attempt.get("reason") and attempt.get("message")):
                self.violations.append(f"attempt {attempt['number']} ended without a cause")

    @property
    def phase(self) -> str:
        return str(self.job.get("status", {}).get("phase", ""))

    @property
    def running(self) -> str | None:
        """RayJob of the attempt that the status calls Running."""
        attempts = self.job.get("status", {}).get("attempts", [])
        return attempts[-1]["rayJob"] if attempts and attempts[-1]["outcome"] == "Running" else None

    # moves

    def operator(self, *, resync: bool = False) -> None:
        """Events are delivered, timers have run out: the operator looks."""

        async def act() -> None:
            for ray_job in [*self.ray_jobs.values()]:
                await self.controller.on_ray_job_event(copy.deepcopy(ray_job), deleted=False)
            await self.controller.on_job_event(copy.deepcopy(self.job), deleted=False)
            if resync:
                await self.controller.reconcile(KEY, verify=True)
            timer = self.controller._timers._timers.pop(KEY, None)
            loop = asyncio.get_running_loop()
            self.wake = timer.when() - loop.time() if timer is not None else None
            if timer is not None:
                timer.cancel()

        before, fault, self.calls = self.phase, self.fault, 0
        with asyncio.Runner() as runner:
            runner.run(act())
        wants = self.job["spec"]["cluster"].get("suspend")
        if wants and fault == self.fault and self.phase == "Suspended" and (self.pods or self.clusters):
            self.violations.append("Suspended, with pods")
        if before in ("Complete", "Failed", "Cancelled") and self.phase != before:
            self.violations.append(f"{before} became {self.phase}")
        if self.calls > 60:
            self.violations.append(f"a hot loop: {self.calls} calls")
        self.now += timedelta(seconds=1)

    def moves(self) -> builtins.list[str]:
        """What may happen next."""
        found = ["operator", "restart", "time"]
        suspended = self.job["spec"]["cluster"].get("suspend")
        found.append("resume" if suspended else "suspend")
        if self.fault is None:
            found += [
                f"fault {effect} {what}"
                for effect in ("create RayJob", "delete RayJob", "patch status")
                for what in ("refused", LOST_ANSWER)
            ]
        for name, ray_job in self.ray_jobs.items():
            leaving = "deletionTimestamp" in ray_job["metadata"]
            state = ray_job.get("status", {}).get("jobDeploymentStatus", "")
            if leaving:
                found.append(f"kuberay lets {name} go")
            elif not state:
                found.append(f"kuberay starts {name}")
            elif state == "Running":
                found += [f"crash {name}", f"interrupted {name}", f"done {name}", f"kuberay forgets {name}"]
        found += [f"kubelet stops {name}" for name, state in self.pods.items() if state == "leaving"]
        found += [f"collect {name}" for name in self.clusters if name not in self.ray_jobs]
        return found

    def make(self, move: str, code: int = 403) -> None:
        verb, _, rest = move.partition(" ")
        name = rest.split()[-2] if rest.endswith(" go") else rest.split()[-1] if rest else ""
        match verb:
            case "operator":
                self.operator()
            case "restart":
                self.restart()
            case "time":
                self.now += timedelta(seconds=700)
            case "suspend" | "resume":
                self.job["spec"]["cluster"]["suspend"] = verb == "suspend"
                self.job["metadata"]["generation"] += 1
            case "fault":
                verb, kind, what = rest.split(" ", 2)
                self.fault = (f"{verb} {kind}", code if what == "refused" else what)
            case _:
                self._react(verb, rest, name)
        self.violations += [f"two attempts' pods: {sorted(self.pods)}"] if len(self.pods) > 1 else []

    def _react(self, verb: str, rest: str, name: str) -> None:
        """KubeRay, the run, the garbage collector or a kubelet does something."""
        match verb:
            case "kuberay" if rest.startswith("starts"):
                self.clusters[name], self.pods[name] = f"{name}-c", "running"
                self._says(name, "Running", "RUNNING")
            case "kuberay" if rest.startswith("forgets"):
                self.ray_jobs[name]["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
            case "kuberay":
                del self.ray_jobs[name]
            case "crash":
                self._says(name, "Failed", "FAILED", reason="AppFailed", message="the head is gone")
            case "interrupted" | "done":
                self._result(name, 130 if verb == "interrupted" else 0)
                ok = verb == "done"
                self._says(name, "Complete" if ok else "Failed", "SUCCEEDED" if ok else "FAILED")
            case "collect":
                del self.clusters[name]
                if name in self.pods:
                    self.pods[name] = "leaving"
            case "kubelet":
                del self.pods[name]

    def _says(self, name: str, deployment: str, job: str, **more: str) -> None:
        status = {"jobDeploymentStatus": deployment, "jobStatus": job, "rayClusterName": f"{name}-c", **more}
        self.ray_jobs[name]["status"] = status

    def _result(self, name: str, code: int) -> None:
        result = {
            "attempt": int(name[-2:]),
            "exitCode": code,
            "reason": "Interrupted" if code else "Complete",
            "message": "so",
        }
        self.job.setdefault("status", {})["result"] = result

    def settle(self) -> None:
        """Everything goes well from now on; nothing fails any more."""
        self.fault = None
        for _ in range(40):
            for name in [n for n, r in self.ray_jobs.items() if "deletionTimestamp" in r["metadata"]]:
                del self.ray_jobs[name]
            for name in [n for n in self.clusters if n not in self.ray_jobs]:
                self.make(f"collect {name}")
            self.pods = {name: state for name, state in self.pods.items() if state != "leaving"}
            before = json.dumps(self.job.get("status"), sort_keys=True)
            self.operator(resync=True)
            if self.wake is not None:
                self.now += timedelta(seconds=self.wake + 1)
            if self.wake is None and before == json.dumps(self.job.get("status"), sort_keys=True):
                return

    def state(self) -> str:
        """What tells two worlds apart, without versions and times."""
        status = self.job.get("status", {})
        attempts = [(a["number"], a["outcome"]) for a in status.get("attempts", [])]
        jobs = [(n, r.get("status"), "deletionTimestamp" in r["metadata"]) for n, r in sorted(self.ray_jobs.items())]
        memory = sorted((n, str(r.get("status"))) for n, r in self.controller._memory.ray_jobs[KEY].items())
        late = int((self.now - START).total_seconds()) // 700
        seen = (attempts, status.get("phase"), jobs, sorted(self.clusters), sorted(self.pods.items()), memory)
        return json.dumps([seen, self.fault, self.job["spec"]["cluster"], status.get("result"), late], default=str)
