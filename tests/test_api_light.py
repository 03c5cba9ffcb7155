"""`import zoo` and what can be asked without torch stay light: by module names and counts, in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "timm", "torchvision", "numpy", "scipy", "sklearn", "rich", "PIL", "accelerate", "huggingface_hub"}


def modules_after(program: str) -> set[str]:
    """Names of the modules that a process has beyond those of a bare one."""
    tail = "\nimport sys; print(*sys.modules, sep='\\n')"
    found = [
        set(
            subprocess.run(
                [sys.executable, "-c", text + tail], check=True, capture_output=True, text=True
            ).stdout.split()
        )
        for text in ("", program)
    ]
    return found[1] - found[0]


@pytest.mark.parametrize(
    ("program", "budget"),
    [
        ("import zoo", 8),
        ("import zoo; zoo.ZooError, zoo.UsageError", 9),
        ("import zoo; zoo.Backbone, zoo.hookimpl", 40),
        ("import zoo; assert len(zoo.list_backbones('resnet*')) > 10", 110),
        ("import zoo; zoo.list_strategies(), zoo.list_weights('resnet18*'), zoo.plugins(), zoo.show('alexnet')", 115),
        ("import zoo\nclass P:\n @zoo.hookimpl\n def zoo_backbones(self): return []\nzoo.register(P)", 110),
    ],
)
def test_what_is_imported(program: str, budget: int) -> None:
    new = modules_after(program)
    assert {name.partition(".")[0] for name in new} & HEAVY == set()
    assert len(new) <= budget, sorted(new)


def test_public_names() -> None:
    import zoo

    for name in zoo.__all__:
        if name not in ("compose", "load", "load_backbone", "register_weights"):  # they import torch
            assert getattr(zoo, name) is not None
    assert set(zoo.__all__) <= set(dir(zoo))
    with pytest.raises(AttributeError, match="no attribute 'lst_backbones'"):
        zoo.lst_backbones  # noqa: B018
