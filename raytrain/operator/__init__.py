"""The Kubernetes operator: turns a FineTuneJob into RayJobs, one per attempt.

`reconcile` is the heart, a pure function: (object, what is observed) → (objects to create, status,
events). `admission` checks what may run, `render` builds the objects, `install` holds CRD, RBAC and
manifests. `controller` acts on decisions; only `handlers` imports kopf, and only
`raytrain.kubernetes.client` talks to the API server.
"""
