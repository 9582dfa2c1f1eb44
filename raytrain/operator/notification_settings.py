"""Whom the operator tells about jobs, without their secrets."""

from typing import Literal

from pydantic import Field

from raytrain_core.config.base import SpecModel

FOLDER_VARIABLE = "RAYTRAIN_OPERATOR_NOTIFICATIONS"
"""Environment variable with the folder of the mounted Secret: NAME.url, and NAME.token."""
Kind = Literal["started", "finished", "failed", "stalled"]


class Channel(SpecModel):
    """A receiver of notifications; its URL and token are in a Secret, under its name."""

    name: str = Field(
        pattern="^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$",
        description="Name; the Secret has its URL under NAME.url, and may have a bearer token under NAME.token.",
    )
    format: Literal["slack", "webhook", "cloudevents"] = Field(
        default="webhook",
        description=(
            "slack: {text}, which Slack, Mattermost and others take; webhook: a JSON object; cloudevents: CloudEvents "
            "1.0 in structured mode."
        ),
    )
    events: list[Kind] = Field(
        default=["started", "finished", "failed", "stalled"],
        min_length=1,
        description="What is told: the first start, the end, a failure (or refusal), and a run without progress.",
    )
    namespaces: list[str] = Field(
        default=["*"], min_length=1, description="Patterns of the namespaces whose jobs are told."
    )


class Notifications(SpecModel):
    """Notifications about jobs."""

    channels: list[Channel] = Field(default_factory=list, max_length=50, description="The receivers.")
    stalled_seconds: int = Field(
        default=1800,
        ge=60,
        description="A run that reports nothing new for so long is told as stalled, within another ten minutes.",
    )
