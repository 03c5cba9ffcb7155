"""The verbs that only read the catalogue start fast: no heavy library is imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "torchvision", "numpy", "scipy", "sklearn", "PIL", "accelerate", "huggingface_hub")
PROBE = """
import sys
from zoo.cli.app import run
code = run(sys.argv[1:])
sys.stdout.flush()
import json
names = sorted(set(name.partition('.')[0] for name in sys.modules))
print(json.dumps([code, names, len(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("args", "budget"),
    [
        (["--help"], 215),
        (["list"], 240),
        (["list", "--json"], 240),
        (["plugins"], 240),
        (["plugins", "--json"], 240),
        (["strategies", "--json"], 240),
        (["show", "resnet18", "--json"], 240),
    ],
)
def test_no_heavy_import(args: list[str], budget: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, check=True)
    code, modules, count = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert not set(HEAVY) & set(modules)
    assert "rich" not in modules
    assert count < budget
