"""A backbone's code comes without torch's compiler, which works all the same where it is wanted."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import torch
import zoo
from zoo.models.put_off import compiler_put_off

network = zoo.load_backbone("mobilenetv2_100", weights=None, accelerator="cpu")
heavy = [name for name in ("torch._dynamo", "sympy", "sklearn", "scipy", "accelerate") if name in sys.modules]
assert not heavy, heavy

disable = torch.compiler.disable
calls = []
with compiler_put_off():
    @torch.compiler.disable
    def plain(x):
        calls.append(type(x))
        return x + 1

    @torch.compiler.disable(recursive=False)
    def shallow(x):
        return x + 2

assert torch.compiler.disable is disable
assert plain(1) == 2
assert shallow(1) == 3

import torchvision.ops

boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
assert torchvision.ops.roi_align(torch.ones(1, 3, 8, 8), boxes, 2).shape == (1, 3, 2, 2)
assert "torch._dynamo" not in sys.modules

compiled = torch.compile(lambda x: shallow(plain(x * 2)) * 3, backend="eager")
assert compiled(torch.ones(2)).tolist() == [15, 15]
assert calls[1:] == [torch.Tensor]

from torch._dynamo.utils import counters, is_compile_supported

assert is_compile_supported.__module__ == "torch._dynamo.utils"
with compiler_put_off():
    assert torch.compiler.disable is disable
"""

ASKS_FOR_MORE = """
import sys
import torch
from zoo.models.put_off import compiler_put_off

with compiler_put_off():
    from torch._dynamo.utils import counters
assert type(sys.modules["torch._dynamo.utils"]).__name__ == "module"
import torch._dynamo.utils as utils
assert utils.counters is counters
"""


def test_nothing_is_compiled_so_no_compiler_is_imported() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_whoever_wants_the_compiler_gets_it() -> None:
    subprocess.run([sys.executable, "-c", ASKS_FOR_MORE], check=True)


FIT = """
import sys
import numpy as np
import zoo

x = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
zoo.compose("tiny", "linear-probe", weights=None).fit((x, np.arange(20) % 2)).predict(x)
heavy = {"torch._dynamo", "torch._inductor", "sympy", "sklearn", "scipy", "accelerate", "torchvision", "timm"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


@pytest.mark.usefixtures("tiny_plugin")
def test_a_whole_probe_needs_none_of_the_heavy_libraries() -> None:
    subprocess.run([sys.executable, "-c", FIT], check=True)
