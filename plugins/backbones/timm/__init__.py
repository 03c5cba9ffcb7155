"""Every architecture and weights tag of timm, listed without importing it.

The facts come from a catalogue made for one version of timm. A name that the catalogue lacks is looked up in the timm
that is installed, when that is another version or has been imported already (you may have registered models of your
own).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from zoo_plugins.backbones.timm import catalogue

from zoo.catalog.hookspecs import hookimpl
from zoo.catalog.spec import Backbone, Weights


@hookimpl
def zoo_backbones() -> Iterator[Backbone]:
    return catalogue.read().backbones()


@hookimpl
def zoo_weights() -> Iterator[Weights]:
    return catalogue.read().weights()


@hookimpl
def zoo_find_backbone(name: str) -> Backbone | None:
    made_for = catalogue.read().timm
    if "timm" not in sys.modules and catalogue.installed() in (None, made_for):
        return None
    from zoo_plugins.backbones.timm import live

    return live.find(name, made_for)
