"""Alerts and the Grafana board: `make generate` writes the chart's files from this definition.

Runs report `ray_raytrain_...` through Ray, the operator `raytrain_...` by job (`operator.metrics`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from raytrain.operator.render.yaml_output import to_yaml


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule of Prometheus; `pending` is how long the expression has to hold."""

    name: str
    expression: str
    summary: str
    description: str
    pending: str = ""
    severity: Literal["warning", "critical"] = "warning"


@dataclass(frozen=True, slots=True)
class Panel:
    """A curve of the board for each run, or for each job, and for each value of the label `by`."""

    title: str
    description: str
    metric: str
    unit: str = "none"
    by: str = ""

    @property
    def of_operator(self) -> bool:
        """Whether the operator has the metric, by job, and not the run."""
        return self.metric.startswith("raytrain_")


ALERTS = (
    Alert(
        "RaytrainStalled",
        "max by (ray_train_run_name) (changes(ray_raytrain_step[15m])) == 0",
        "{{ $labels.ray_train_run_name }} has made no step for 20 minutes",
        "raytrain logs {{ $labels.ray_train_run_name }} -n NAMESPACE shows what its workers are waiting for.",
        pending="5m",
    ),
    Alert(
        "RaytrainLossNotFinite",
        (
            "(max by (ray_train_run_name) (changes(ray_raytrain_loss[15m])) == 0)\nand (max by "
            "(ray_train_run_name) (changes(ray_raytrain_step[15m])) >= 5)"
        ),
        "{{ $labels.ray_train_run_name }} makes steps without a finite loss",
        "Lower training.learningRate, set training.gradientClip, or use training.precision: fp32.",
        severity="critical",
    ),
    Alert(
        "RaytrainRestarts",
        (
            "count by (ray_train_run_name) (\n  count by (ray_train_run_name, ray_train_run_id) "
            "(last_over_time(ray_raytrain_step[1h]))\n) >= 3"
        ),
        "{{ $labels.ray_train_run_name }} was started {{ $value }} times within an hour",
        "The reasons are in .status.attempts: kubectl describe ftj {{ $labels.ray_train_run_name }}.",
    ),
    Alert(
        "RaytrainSlow",
        (
            "max by (ray_train_run_name) (avg_over_time(ray_raytrain_tokens_per_second[10m]))\n< 0.5 * max "
            "by (ray_train_run_name) (quantile_over_time(0.5, ray_raytrain_tokens_per_second[2h]))"
        ),
        "{{ $labels.ray_train_run_name }} trains at less than half its usual speed",
        "Compare the phases of a step in the dashboard to see which one has grown.",
        pending="10m",
    ),
    Alert(
        "RaytrainCheckpointStale",
        "max by (ray_train_run_name) (ray_raytrain_unsaved_intervals) > 2",
        "{{ $labels.ray_train_run_name }} is training, but its checkpoints do not reach the bucket",
        "raytrain logs {{ $labels.ray_train_run_name }} -n NAMESPACE says why (CheckpointStale).",
        pending="5m",
    ),
    Alert(
        "RaytrainEvaluationLagging",
        "max by (ray_train_run_name) (ray_raytrain_unscored_checkpoints) > 2",
        "{{ $labels.ray_train_run_name }} has checkpoints waiting to be scored",
        "Raise resources.evaluation.actors or evaluation.every, or lower evaluation.examplesPerTask.",
        pending="30m",
    ),
    Alert(
        "RaytrainReconcileErrors",
        "sum by (namespace, name) (increase(raytrain_reconcile_errors_total[15m])) > 0",
        "the operator cannot handle the FineTuneJob {{ $labels.name }} in {{ $labels.namespace }}",
        "A bug: please report the traceback in the operator's log. Other jobs are not affected.",
    ),
    Alert(
        "RaytrainWaiting",
        "sum by (namespace, name) (increase(raytrain_job_waiting_seconds_total[2h])) > 7000",
        "{{ $labels.namespace }}/{{ $labels.name }} has waited for two hours",
        "Its status.message says for what: a turn, room, quota, or its queue.",
    ),
    Alert(
        "RaytrainGpusWasted",
        "sum by (namespace, name) (increase(raytrain_job_gpu_seconds_wasted_total[6h])) > 3600",
        "{{ $labels.namespace }}/{{ $labels.name }} has lost more than a GPU-hour to retries within six hours",
        "Lower training.checkpointEvery; the reasons of its attempts are in .status.attempts.",
    ),
    Alert(
        "RaytrainNotificationsFailing",
        'sum by (channel) (increase(raytrain_notifications_total{outcome="failed"}[1h])) > 0',
        "notifications do not reach the channel {{ $labels.channel }}",
        "The event NotificationFailed of the job says why; check the Secret of notifications.secret.",
    ),
)

PANELS = (
    Panel("Loss", "Cross entropy per target token of the last step.", "ray_raytrain_loss"),
    Panel(
        "Loss by task",
        "Cross entropy per target token of a task in the last step.",
        "ray_raytrain_task_loss",
        by="task",
    ),
    Panel("Steps", "Optimizer steps done.", "ray_raytrain_step"),
    Panel("Real tokens a second", "Source and target, padding not counted.", "ray_raytrain_tokens_per_second"),
    Panel("Examples a second", "", "ray_raytrain_examples_per_second"),
    Panel("Seconds of a step", "", "ray_raytrain_step_seconds", unit="s"),
    Panel(
        "Seconds of a step by part",
        "Which part grows when steps get slower?",
        "ray_raytrain_part_seconds",
        unit="s",
        by="part",
    ),
    Panel("Learning rate", "", "ray_raytrain_learning_rate"),
    Panel("Norm of the gradient", "Before clipping.", "ray_raytrain_gradient_norm"),
    Panel(
        "Most memory", "Of the GPU, else of the first worker's process.", "ray_raytrain_peak_memory_bytes", unit="bytes"
    ),
    Panel(
        "Model FLOPs utilisation",
        "Share of what the GPUs could compute at most that the step's arithmetic took; processors have none.",
        "ray_raytrain_mfu",
        unit="percentunit",
    ),
    Panel(
        "Steps not saved, in checkpoints",
        "Steps since the newest committed checkpoint, in units of training.checkpointEvery. Above 2: one is late.",
        "ray_raytrain_unsaved_intervals",
    ),
    Panel(
        "Checkpoints that wait to be scored",
        "Above 2: evaluation does not keep up with training.",
        "ray_raytrain_unscored_checkpoints",
    ),
    Panel("Phase of jobs", "1 for the phase that a job is in.", "raytrain_job_phase", by="phase"),
    Panel("Attempts of jobs", "By how they ended.", "raytrain_job_attempts", by="outcome"),
    Panel("GPUs of jobs", "Of their ready pods.", "raytrain_job_gpus"),
    Panel("GPU-seconds used", "", "raytrain_job_gpu_seconds_total", unit="s"),
    Panel(
        "GPU-seconds lost to retries", "Since the last checkpoint.", "raytrain_job_gpu_seconds_wasted_total", unit="s"
    ),
    Panel("Seconds waited", "For a turn, room or quota.", "raytrain_job_waiting_seconds_total", unit="s"),
    Panel("Age of the newest checkpoint", "While training.", "raytrain_job_checkpoint_age_seconds", unit="s"),
)
_WIDTH, _HEIGHT, _IN_A_ROW = 12, 8, 2
_SOURCE = {"type": "prometheus", "uid": "$datasource"}


def alerts() -> str:
    """The groups of a PrometheusRule."""
    return to_yaml({"groups": [{"name": "raytrain", "rules": [_rule(alert) for alert in ALERTS]}]})


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        **({"for": alert.pending} if alert.pending else {}),
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.description},
    }


def dashboard() -> str:
    """The Grafana board as JSON."""
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        _variable("run", "Run", "label_values(ray_raytrain_step, ray_train_run_name)"),
        _variable("job", "Job", "label_values(raytrain_job_phase, name)"),
    ]
    board = {
        "title": "raytrain: training",
        "uid": "raytrain-training",
        "schemaVersion": 39,
        "tags": ["raytrain"],
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "multi": True,
        "includeAll": True,
        "refresh": 2,
        "datasource": dict(_SOURCE),
        "query": {"query": query, "refId": f"{name}s"},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    chosen, legend = 'ray_train_run_name=~"$run"', "{{ray_train_run_name}}"
    if panel.of_operator:
        chosen, legend = 'name=~"$job"', "{{namespace}}/{{name}}"
    by = f" {{{{{panel.by}}}}}" if panel.by else ""
    row, column = divmod(number, _IN_A_ROW)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": dict(_SOURCE),
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": column * _WIDTH, "y": row * _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [{"refId": "A", "expr": f"{panel.metric}{{{chosen}}}", "legendFormat": f"{legend}{by}"}],
    }
