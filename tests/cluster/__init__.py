"""Tests in a real Kubernetes."""
