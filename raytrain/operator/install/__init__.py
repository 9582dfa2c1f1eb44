"""What is installed once per cluster: CRD, RBAC, deployment; and what verifies it."""
