"""Print the facts of backbones as they are built: parameters, feature width, head, multiply-accumulates.

    python tools/facts.py alexnet "vgg*" resnet18

Nothing is allocated: networks are built and run on torch's `meta` device, where only shapes exist.
"""

from __future__ import annotations

import sys

from zoo.catalog.registry import Registry
from zoo.catalog.targets import load
from zoo.testing.facts import measure


def main(patterns: list[str]) -> None:
    registry = Registry()
    for pattern in patterns or ["*"]:
        for spec in registry.backbones(pattern):
            facts = measure(load(spec.build), spec.input_size, head=spec.head)
            print(f"{spec.full_name:40} {facts.params:>13,} {facts.num_features:>6} {facts.gmacs:>9} {facts.head}")


if __name__ == "__main__":
    main(sys.argv[1:])
