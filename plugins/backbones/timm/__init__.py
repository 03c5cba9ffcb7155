"""Every architecture and weights tag of timm, listed without importing it.

The facts come from a catalogue made for one version of timm. A name that the catalogue lacks is looked up in the timm
that is installed, when that is another version or has been imported already (you may have registered models of your
own).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from zoo_plugins.backbones.timm import catalogue

import zoo


@zoo.hookimpl
def zoo_backbones() -> Iterator[zoo.Backbone]:
    return catalogue.read().backbones()


@zoo.hookimpl
def zoo_weights() -> Iterator[zoo.Weights]:
    return catalogue.read().weights()


@zoo.hookimpl
def zoo_find_backbone(name: str) -> zoo.Backbone | None:
    made_for = catalogue.read().timm
    if "timm" not in sys.modules and catalogue.installed() in (None, made_for):
        return None
    from zoo_plugins.backbones.timm import live

    return live.find(name, made_for)
