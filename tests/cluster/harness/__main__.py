"""Starts and stops a cluster by hand: `make cluster`, `make cluster-down`."""

import argparse
import json
import os
import sys

from tests.cluster.harness.cluster import down, up
from tests.cluster.harness.console import HarnessError, timed_echo
from tests.cluster.harness.image import chart_value
from tests.support.kubernetes_tools import kubernetes_tools


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.harness")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start a cluster, or show where the running one is")
    start.add_argument("--nodes", type=int, default=1)
    start.add_argument("--gpus", type=int, default=0, help="number of fake GPUs on each node")
    start.add_argument("--install", action="store_true", help="install missing Debian packages")
    start.add_argument(
        "--image", action="append", default=[], metavar="TARGET", help="image to put on the nodes: run or operator"
    )
    stop = commands.add_parser("down", help="stop the cluster and remove everything but the caches")
    for command in (start, stop):
        command.add_argument("--name", default="default")
    given = parser.parse_args()
    echo = timed_echo()
    try:
        if given.command == "down":
            down(given.name, echo)
            return 0
        if existing := os.environ.get("RAYTRAIN_TEST_KUBECONFIG"):
            echo(f"RAYTRAIN_TEST_KUBECONFIG is set: using {existing}, starting nothing")
            return 0
        cluster = up(given.name, echo, nodes=given.nodes, gpus=given.gpus, install=given.install)
        images = {target: cluster.publish(target, echo) for target in given.image}
        for target, reference in images.items():
            echo(f"image {target}: {reference}")
        if {"run", "operator"} <= images.keys():
            values = {"runImage": chart_value(images["run"]), "image": chart_value(images["operator"])}
            cluster.paths.images.write_text(json.dumps(values, indent=1) + "\n")
            print(f"\n# helm install raytrain helm/raytrain-operator ... -f {cluster.paths.images}")
        print(f"export KUBECONFIG={cluster.kubeconfig}")
        tools = kubernetes_tools().kubectl.parent
        print(f'export PATH="{tools}:$PATH"  # kubectl and helm of the versions that the tests use')
        print(f"# servers for pods listen on {cluster.host_address}")
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
