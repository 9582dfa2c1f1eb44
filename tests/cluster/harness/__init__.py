"""A real Kubernetes with a real KubeRay on this machine, for tests and for `make cluster`.

Everything runs in its own network, mount and process namespaces, held by one process
(`machine.py`): when that process ends, the kernel ends all others and removes mounts, bridges,
routes and packet filter rules.
"""
