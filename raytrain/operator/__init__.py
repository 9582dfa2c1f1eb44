"""The Kubernetes operator: turns a FineTuneJob into RayJobs, one per attempt.

`reconcile` is the heart, a pure function: (object, what is observed) → (objects to create, status,
events). `admission` checks what may run, `render` builds the objects, `install` holds CRD, RBAC and
manifests. `controller` asks it after each event: `memory` and `observer` know the cluster,
`effects` changes it. Only `handlers` imports kopf, and only
`raytrain.kubernetes.client` talks to the API server.
"""
