"""A Ray cluster of two nodes on this machine, as a process of its own.

    python tests/support/ray_nodes.py PORT

PORT is that of the Ray client server. It prints the cluster's address once both nodes run. The
first line that it reads kills the second node, the next one ends the cluster.
"""

from __future__ import annotations

import sys
from typing import Any

OBJECTS_BYTES = 80 << 20


def main(port: int) -> None:
    from ray.cluster_utils import Cluster

    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": OBJECTS_BYTES}
    first = {**small, "include_dashboard": False, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=first)
    second = cluster.add_node(**small)
    print(cluster.address, flush=True)
    if sys.stdin.readline():
        cluster.remove_node(second, allow_graceful=False)
        print("killed", flush=True)
        sys.stdin.readline()
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
