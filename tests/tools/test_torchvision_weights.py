"""torchvision's entries of the registry file are what the installed torchvision says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def test_the_registry_file_is_up_to_date(tool: Callable[[str], ModuleType]) -> None:
    program = tool("torchvision_weights")
    text = program.PATH.read_text(encoding="utf-8")
    assert program.merged(text) == text


def test_entries_are_replaced_added_and_taken_out(tool: Callable[[str], ModuleType]) -> None:
    program = tool("torchvision_weights")
    text = program.PATH.read_text(encoding="utf-8")
    blocks = dict(program.blocks())
    changed = text.replace(blocks["resnet50.torchvision_v2"] + "\n", "")
    changed = changed.replace("top1 = 69.02 ", "top1 = 1.0 ")
    changed += '\n[weights."vgg11.torchvision_v9"]\nbackbone = "vgg11"\n'
    changed += 'source = "https://download.pytorch.org/models/vgg11-00000000.pth"\n'
    assert changed != text
    assert program.merged(changed) == text
