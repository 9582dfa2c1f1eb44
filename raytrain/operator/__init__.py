"""FineTuneJob → RayJob: pure functions on plain data, with thin edges to Kubernetes.

`mapping` is the heart: (object, what is observed) → (what is to be made, status, events). `rayjob`,
`pods` and `companions` render; `checks` says what cannot run; `crd` is the resource's definition.
Only `handlers` imports kopf, only `api` talks to the cluster.
"""
