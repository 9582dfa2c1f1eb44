"""Prepared data as the command line looks at it: resolve, preview, mixture plan, diff, verify."""
