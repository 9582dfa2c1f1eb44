"""A small page and a JSON interface to try a run's models on every task's wordings, before and after side by side."""

from raytrain.serving.playground import Asking, Reply
from raytrain.serving.web import application, serve

__all__ = ["Asking", "Reply", "application", "serve"]
