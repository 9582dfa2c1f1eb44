"""`python -m raytrain.operator`: runs the operator, in a pod or with a kubeconfig."""

import argparse
import logging
import sys

from raytrain_core.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Reads the settings and runs until stopped; exit codes as for every command."""
    parser = argparse.ArgumentParser(prog="python -m raytrain.operator", description=__doc__)
    parser.add_argument("--namespace", action="append", default=[], help="watch only this namespace; may be repeated")
    parser.add_argument(
        "--liveness", metavar="URL", help="serve liveness probes there, e.g. http://0.0.0.0:8080/healthz"
    )
    parser.add_argument("--metrics", metavar="PORT", type=int, help="serve metrics for Prometheus on this port")
    parser.add_argument("--verbose", action="store_true", help="log every action")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("kubernetes", "urllib3", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not options.verbose:  # a line for each event of each object
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    from raytrain.operator.handlers import serve
    from raytrain.operator.metrics import serve_metrics
    from raytrain.operator.settings import read_settings

    try:
        if options.metrics is not None:
            serve_metrics(options.metrics)
        serve(read_settings(), namespaces=options.namespace, liveness=options.liveness)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
