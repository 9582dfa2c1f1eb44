"""A real Kubernetes with real KubeRay on this machine, for tests and for people (`make cluster`).

Everything runs in network, mount and process namespaces of its own that one process holds
(`machine.py`): ending that process ends all the others and takes mounts, bridges, routes and packet
filter rules with it.
"""
