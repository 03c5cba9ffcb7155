"""The grammar of names, and near names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zoo.catalog import names, targets
from zoo.catalog.near import did_you_mean, nearest
from zoo.catalog.registry import Registry
from zoo.errors import PluginError, UsageError, ZooError


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        ("resnet18", names.Name("resnet18")),
        ("resnet18.tv_in1k", names.Name("resnet18", "tv_in1k")),
        ("vit.v1.0-x", names.Name("vit", "v1.0-x")),
        ("timm/resnet18", names.Name("resnet18", plugin="timm")),
        ("timm/resnet18.a1", names.Name("resnet18", "a1", "timm")),
    ],
)
def test_parse(written: str, parsed: names.Name) -> None:
    assert names.parse(written) == parsed
    assert str(parsed) == written


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "a b",
        "a/b/c",
        "/a",
        "a/",
        "a.",
        ".a",
        "a..b",
        "-a",
        "ä",
        "a\n",
        "a\0",
        "x.safetensors",
        "~/x",
        "a*",
        "a" * 129,
    ],
)
def test_parse_refuses(written: str) -> None:
    with pytest.raises(UsageError):
        names.parse(written)


def test_parse_refuses_what_is_no_string() -> None:
    with pytest.raises(UsageError, match="string"):
        names.parse(3)  # type: ignore[arg-type]


@given(st.text())
@example("a.b.c")
def test_any_string_parses_or_is_refused(written: str) -> None:
    try:
        parsed = names.parse(written)
    except ZooError:
        return
    assert str(parsed) == written
    assert names.parse(str(parsed)) == parsed


@given(
    plugin=st.none() | st.from_regex(names.NAME, fullmatch=True),
    arch=st.from_regex(names.NAME, fullmatch=True),
    tag=st.none() | st.from_regex(names.TAG, fullmatch=True).filter(lambda tag: not tag.endswith("safetensors")),
)
def test_whatever_is_put_together_comes_apart(plugin: str | None, arch: str, tag: str | None) -> None:
    name = names.Name(arch, tag, plugin)
    assert names.parse(str(name)) == name


@pytest.mark.parametrize("path", ["m.safetensors", "./m", "/m", "~/m", "../m", "a/b.safetensors"])
def test_paths(path: str) -> None:
    assert names.is_path(path)


@pytest.mark.parametrize("name", ["resnet18", "resnet18.tv_in1k", "timm/resnet18"])
def test_names_are_not_paths(name: str) -> None:
    assert not names.is_path(name)


def test_natural_order() -> None:
    assert sorted(["resnet101", "resnet18", "a10b2", "a10b1", "resnet"], key=names.natural) == [
        "a10b1", "a10b2", "resnet", "resnet18", "resnet101",
    ]  # fmt: skip


@given(st.lists(st.text(alphabet="ab01²٣_"), max_size=6))
def test_natural_order_is_an_order_of_any_names(words: list[str]) -> None:
    assert sorted(sorted(words, key=names.natural)) == sorted(words)


def test_nearest() -> None:
    words = ["resnet18", "resnet101", "vgg16", "linear-probe", "fine-tune"]
    assert nearest("resnt18", words)[0] == "resnet18"
    assert nearest("linear_prob", words) == ["linear-probe"]
    assert nearest("RESNET18", words)[0] == "resnet18"
    assert nearest("resn", words) == ["resnet18", "resnet101"]
    assert nearest("zzzz", words) == []
    assert nearest("", words) == []
    assert nearest("resnet", words, n=1) == ["resnet18"]


def test_did_you_mean() -> None:
    assert did_you_mean("vgg61", ["vgg16"]) == "Did you mean vgg16?"
    assert did_you_mean("vgg1", ["vgg11", "alex"]) == "Did you mean vgg11?"
    assert did_you_mean("linear", ["linear_a", "linear_bc"]) == "Did you mean linear_a or linear_bc?"
    assert did_you_mean("q", ["vgg16"]) is None


def test_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_targets_here.py").write_text(
        "class Outer:\n    @staticmethod\n    def inner(): return 7\n"
        "def __getattr__(name):\n    if name == 'lazy': return lambda: 8\n    raise AttributeError(name)\n"
    )
    (tmp_path / "zoo_targets_exit.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "zoo_targets_needs.py").write_text("import surely_not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert targets.load("zoo_targets_here:Outer.inner")() == 7
    assert targets.load("zoo_targets_here:lazy")() == 8
    assert targets.load(len) is len
    with pytest.raises(PluginError, match=r"plugin 'tiny'.*zoo_targets_here:missing"):
        targets.load("zoo_targets_here:missing", plugin="tiny")
    with pytest.raises(PluginError, match="SystemExit"):
        targets.load("zoo_targets_exit:x")
    with pytest.raises(PluginError, match="surely_not_installed_anywhere"):
        targets.load("zoo_targets_needs:x")
    with pytest.raises(PluginError, match=r"The module 'zoo\.nowhere' is not installed here"):
        targets.load("zoo.nowhere:x")
    with pytest.raises(PluginError, match="does not name code"):
        targets.load("no colon")


@pytest.mark.parametrize("ask", ["resolve", "strategy", "find"])
def test_a_name_that_is_no_string(ask: str) -> None:
    with pytest.raises(UsageError, match="a name must be a string, not int"):
        getattr(Registry(), ask)(4)
