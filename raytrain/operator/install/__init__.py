"""What is installed once per cluster: CRD, RBAC, deployment, manifests."""
