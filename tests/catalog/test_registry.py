"""Names, conflicts, aliases, layers, filters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from catalog_kit import Gives, alone, backbone, strategy, weights
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo.catalog import ledger
from zoo.catalog.registry import Registry, default, reset_default
from zoo.errors import NotFoundError, RegistryError, UsageError, ZooError
from zoo.settings import Settings


def file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("schema = 1\n" + text)
    return path


def entry(name: str, body: str = "", of: str | None = None) -> str:
    source = 'source = "hf://o/r@main/m.safetensors"'
    return f'[weights."{name}"]\nbackbone = "{of or name.partition(".")[0]}"\n{source}\n{body}\n'


@pytest.fixture
def registry() -> Registry:
    return alone(
        {
            "nets": Gives(
                backbone("resnet18", family="resnet", params=11_000_000),
                backbone("resnet101", family="resnet", params=44_000_000),
                backbone("wav", family="conv", input="audio", params=5),
                weights("resnet18.a", default=True, license="Apache-2.0"),
                weights("resnet18.b.c", license="mit"),
                weights("resnet101.a", license="cc-by-nc-4.0"),
            ),
            "ways": Gives(strategy("linear-probe"), strategy("fine-tune")),
        }
    )


# -- resolving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("resnet18", "default", "resnet18.a"),
        ("resnet18", None, None),
        ("resnet18", "none", None),
        ("resnet18", "b.c", "resnet18.b.c"),
        ("resnet18", "resnet18.b.c", "resnet18.b.c"),
        ("resnet18", "nets/resnet18.b.c", "resnet18.b.c"),
        ("resnet18.b.c", "default", "resnet18.b.c"),
        ("resnet18.b.c", "b.c", "resnet18.b.c"),
        ("nets/resnet18.b.c", "default", "resnet18.b.c"),
        ("nets/resnet18", "default", "resnet18.a"),
    ],
)
def test_resolve(registry: Registry, name: str, asked: str | None, expected: str | None) -> None:
    found, chosen = registry.resolve(name, asked)
    assert found.full_name == "nets/resnet18"
    assert (chosen.name if chosen else None) == expected


@pytest.mark.parametrize(
    ("name", "asked", "error", "says"),
    [
        ("resnt18", "default", NotFoundError, "resnet18"),
        ("resnet18", "resnet18.x", NotFoundError, "resnet18.a"),
        ("resnet18", "x", NotFoundError, "resnet18.a"),
        ("resnet18.x", "default", NotFoundError, "no weights"),
        ("resnet101", "default", NotFoundError, "no default weights"),
        ("wav", "default", NotFoundError, "weights=None"),
        ("wav", "x", NotFoundError, "random"),
        ("resnet18.a", "b.c", UsageError, "already says"),
        ("resnet18.a", None, UsageError, "already says"),
        ("resnet18.a", "none", UsageError, "already says"),
        ("resnet18", "resnet101.a", UsageError, "are for 'resnet101'"),
        ("nest/resnet18", "default", NotFoundError, "nets"),
        ("ways/resnet18", "default", NotFoundError, "no backbone 'ways/resnet18'"),
        ("./resnet18", "default", UsageError, "is a path"),
        ("resnet18", "./none.safetensors", NotFoundError, "no weights file"),
        ("resnet18", "a b", UsageError, "not a name"),
    ],
)
def test_resolve_refuses(registry: Registry, name: str, asked: str | None, error: type[ZooError], says: str) -> None:
    with pytest.raises(error) as caught:
        registry.resolve(name, asked)
    assert says in str(caught.value)


def test_weights_from_a_path(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my best (1).safetensors"
    path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in (path, str(path), f"./{path.name}", f"~/{path.name}"):
        chosen = registry.resolve("resnet18", written)[1]
        assert chosen is not None
        assert (chosen.name, chosen.source) == ("resnet18.my_best_1_", f"file:{path}")


def test_a_spec_is_taken_as_it_is(registry: Registry) -> None:
    own = backbone("own")
    assert registry.resolve(own, None) == (own, None)
    spec = registry.backbone("resnet18")
    assert registry.resolve(spec)[0] is spec


def test_options_must_be_allowed_by_the_backbone(tmp_path: Path) -> None:
    plugin = {"p": Gives(backbone("net", options=("pad_type",)))}
    good = file(tmp_path / "good.toml", entry("net.a", 'options = { pad_type = "same" }'))
    bad = file(tmp_path / "bad.toml", entry("net.a", 'options = { pad_typ = "same" }'))
    assert alone(plugin, files=[good]).resolve("net.a")[1]
    with pytest.raises(RegistryError, match=r"bad\.toml.*no option 'pad_typ'") as caught:
        alone(plugin, files=[bad]).resolve("net.a")
    assert "pad_type" in (caught.value.hint or "")


@given(name=st.text(), asked=st.none() | st.text())
def test_any_two_strings_resolve_or_are_refused(name: str, asked: str | None) -> None:
    shared = alone({"p": Gives(backbone("a"), weights("a.b", default=True))})
    for ask in (lambda: shared.resolve(name, asked), lambda: shared.resolve("a", asked), lambda: shared.find(name)):
        try:
            ask()
        except ZooError as error:
            assert error.message  # noqa: PT017


# -- conflicts ---------------------------------------------------------------------------------------------------------


def test_third_parties_that_share_a_name() -> None:
    registry = alone({"p1": Gives(backbone("net"), weights("net.a", default=True)), "p2": Gives(backbone("net"))})
    with pytest.raises(UsageError, match="p1/net, p2/net") as caught:
        registry.resolve("net")
    assert '[aliases] net = "p1/net"' in (caught.value.hint or "")
    assert registry.resolve("p1/net")[1] is not None
    assert registry.backbone("p2/net").plugin == "p2"
    assert registry.weights_of(registry.backbone("p2/net")) == []
    assert len(registry.backbones()) == 1
    assert len(registry.backbones(shadowed=True)) == 2
    assert [one.plugin for one in registry.backbones(plugin="p2")] == ["p2"]
    assert [one.plugin for one in registry.backbones("p2/*")] == ["p2"]
    assert registry.resolve("net.a")[0].plugin == "p1"
    for report in registry.reports():
        assert report.state == "ok"
        assert f"write {report.name}/net" in (report.problem or "")


def test_an_alias_pins_a_short_name(tmp_path: Path) -> None:
    pin = file(tmp_path / "r.toml", '[aliases]\nnet = "p2/net"\n' + entry("net.mine", "default = true"))
    plugins = {"p1": Gives(backbone("net"), weights("net.a")), "p2": Gives(backbone("net"), weights("net.a"))}
    registry = alone(plugins, files=[pin])
    found, chosen = registry.resolve("net")
    assert (found.plugin, chosen.name if chosen else None) == ("p2", "net.mine")
    assert registry.resolve("net.a")[0].plugin == "p2"
    assert registry.resolve("p1/net.a")[0].plugin == "p1"
    assert [one.plugin for one in registry.backbones()] == ["p2"]


def test_built_ins_come_before_third_parties_and_timm_last() -> None:
    registry = Registry(
        {"zz": Gives(backbone("resnet18"), backbone("mobilenetv2_100"), weights("resnet18.mine", default=True))},
        settings=Settings(),
        files=(),
        entry_points=False,
    )
    assert registry.backbone("resnet18").plugin == "resnet"
    assert registry.backbone("mobilenetv2_100").plugin == "timm"
    assert [one.plugin for one in registry.backbones("resnet18", shadowed=True)] == ["resnet", "timm", "zz"]
    assert registry.resolve("zz/resnet18")[1] == registry.weights("zz/resnet18.mine")[0]
    assert "resnet18.mine" not in [one.name for one in registry.weights_of(registry.backbone("resnet18"))]
    # The built-ins that share a name build one network, so they share its weights.
    assert registry.resolve("resnet18.a1_in1k")[0].plugin == "resnet"
    assert registry.resolve("timm/resnet18.a1_in1k")[0].plugin == "timm"
    problem = {one.name: one.problem for one in registry.reports()}["zz"]
    assert problem == "other plugins have the names resnet18, mobilenetv2_100 too; write zz/resnet18"


def test_strategies() -> None:
    registry = alone({"p": Gives(strategy("linear-probe"), strategy("same")), "q": Gives(strategy("same"))})
    for name in ("linear-probe", "linear_probe", "p/linear_probe"):
        assert registry.strategy(name).name == "linear-probe"
    with pytest.raises(UsageError, match="p/same, q/same"):
        registry.strategy("same")
    assert registry.strategy("q/same").plugin == "q"
    with pytest.raises(NotFoundError, match="Did you mean linear-probe"):
        registry.strategy("linear-prob")
    with pytest.raises(NotFoundError):
        registry.strategy("q/linear-probe")
    assert [one.name for one in registry.strategies()] == ["linear-probe", "same"]


def test_find(registry: Registry) -> None:
    assert isinstance(registry.find("resnet18"), zoo.Backbone)
    assert isinstance(registry.find("resnet18.a"), zoo.Weights)
    assert isinstance(registry.find("fine_tune"), zoo.Strategy)
    with pytest.raises(NotFoundError, match="Did you mean fine-tune"):
        registry.find("fine-tone")


# -- layers ------------------------------------------------------------------------------------------------------------


def test_later_layers_win(tmp_path: Path) -> None:
    plugin = Gives(backbone("net"), weights("net.own", default=True, license="own"), weights("net.other"))
    low = file(tmp_path / "low.toml", entry("net.own", 'license = "low"') + entry("net.low", "default = true"))
    high = file(tmp_path / "high.toml", entry("net.own", 'license = "high"'))
    assert alone({"p": plugin}).resolve("net")[1].license == "own"  # type: ignore[union-attr]
    registry = alone({"p": plugin}, files=[low, high])
    assert registry.resolve("net.own")[1].license == "high"  # type: ignore[union-attr]
    assert registry.resolve("net.own")[1].origin == str(high)  # type: ignore[union-attr]
    assert registry.resolve("net")[1].name == "net.low"  # type: ignore[union-attr]
    assert sorted(one.name for one in registry.weights()) == ["net.low", "net.other", "net.own"]
    # Redefined without `default`, the plugin's default stays the default, as the file describes it.
    only = alone({"p": plugin}, files=[high])
    assert only.resolve("net")[1].license == "high"  # type: ignore[union-attr]


def test_a_plugin_ships_a_registry_file(tmp_path: Path, home: Path) -> None:
    shipped = file(tmp_path / "shipped.toml", entry("net.a", 'default = true\nlicense = "plugin"') + entry("net.b"))
    registry = Registry(
        {"p": Gives(backbone("net"), shipped, str(shipped.parent / "shipped.toml"))},
        settings=Settings(), builtins=False, entry_points=False,
    )  # fmt: skip
    chosen = registry.resolve("net")[1]
    assert chosen is not None
    assert (chosen.license, chosen.plugin, chosen.origin) == ("plugin", "p", str(shipped))
    file(home / "registry.toml", entry("net.a", 'license = "user"') + entry("net.b", "default = true"))
    assert registry.resolve("net.a")[1].license == "user"  # type: ignore[union-attr]
    assert registry.resolve("net")[1].name == "net.b"  # type: ignore[union-attr]


def test_a_change_of_a_file_is_noticed(home: Path) -> None:
    registry = Registry({"p": Gives(backbone("net"))}, builtins=False, entry_points=False)
    assert registry.weights("net*") == []
    ledger.add_weights(home / "registry.toml", weights("net.a", default=True))
    assert registry.resolve("net")[1].name == "net.a"  # type: ignore[union-attr]
    ledger.remove_weights(home / "registry.toml", "net.a")
    registry.reload()
    assert registry.weights("net*") == []


def test_the_project_says_what_it_redefines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = file(
        tmp_path / "registry.toml", '[aliases]\nother = "p/net"\nnet = "p/net"\n' + entry("net.a") + entry("net.new")
    )
    registry = Registry({"p": Gives(backbone("net"), weights("net.a"))}, builtins=False, entry_points=False)
    assert registry.notes == [
        f"{path} redefines net.a, of the plugin 'p'",
        f"{path} redefines net, as p/net",
    ]
    monkeypatch.setenv("ZOO_REGISTRY", str(path))
    assert Registry({"p": Gives(backbone("net"))}, builtins=False, entry_points=False).notes == []


def test_weights_without_a_backbone(tmp_path: Path) -> None:
    path = file(tmp_path / "r.toml", entry("absent.a"))
    registry = alone({"p": Gives(backbone("net"))}, files=[path])
    assert [one.name for one in registry.weights()] == ["absent.a"]
    with pytest.raises(NotFoundError, match=r"r\.toml has weights for it, but no plugin the backbone"):
        registry.resolve("absent.a")


def test_aliases(tmp_path: Path) -> None:
    path = file(tmp_path / "r.toml", '[aliases]\nmine = "also"\nalso = "resnet18.b.c"\nbig = "nets/resnet101"\n')
    registry = alone(
        {"nets": Gives(backbone("resnet18"), backbone("resnet101"), weights("resnet18.b.c"))}, files=[path]
    )
    assert registry.resolve("mine")[1].name == "resnet18.b.c"  # type: ignore[union-attr]
    assert registry.resolve("resnet18", "mine")[1].name == "resnet18.b.c"  # type: ignore[union-attr]
    assert registry.resolve("mine", "mine")[1].name == "resnet18.b.c"  # type: ignore[union-attr]
    assert registry.backbone("big").name == "resnet101"
    assert [one.name for one in registry.backbones("mine")] == ["resnet18"]
    assert [one.name for one in registry.backbones("big")] == ["resnet101"]
    assert [one.name for one in registry.weights("mine")] == ["resnet18.b.c"]
    with pytest.raises(NotFoundError, match="mine"):
        registry.resolve("mien")


# -- filters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["resnet18", "resnet101", "wav"]),
        ({"pattern": "resnet*"}, ["resnet18", "resnet101"]),
        ({"pattern": "*.b.c"}, ["resnet18"]),
        ({"pattern": "resnet18.a"}, ["resnet18"]),
        ({"pattern": "nets/w*"}, ["wav"]),
        ({"pattern": "nets/*.a"}, ["resnet18", "resnet101"]),
        ({"pattern": "resnet"}, []),
        ({"pattern": "[rw]*1?"}, ["resnet18"]),
        ({"family": "resnet"}, ["resnet18", "resnet101"]),
        ({"family": "*n*"}, ["resnet18", "resnet101", "wav"]),
        ({"input": "audio"}, ["wav"]),
        ({"max_params": 11e6}, ["resnet18", "wav"]),
        ({"pretrained": True}, ["resnet18", "resnet101"]),
        ({"pretrained": False}, ["wav"]),
        ({"license": "apache*"}, ["resnet18"]),
        ({"license": "MIT"}, ["resnet18"]),
        ({"license": "cc-*", "max_params": 1e6}, []),
        ({"plugin": "nets"}, ["resnet18", "resnet101", "wav"]),
        ({"plugin": "ways"}, []),
        ({"pulled": True}, []),
        ({"pulled": False}, ["resnet18", "resnet101", "wav"]),
    ],
)
def test_filters(registry: Registry, filters: dict[str, object], expected: list[str]) -> None:
    assert [one.name for one in registry.backbones(**filters)] == expected  # type: ignore[arg-type]


def test_an_unknown_plugin_to_filter_by(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="Did you mean nets"):
        registry.backbones(plugin="net")


def test_pulled(tmp_path: Path) -> None:
    (tmp_path / "here.safetensors").write_bytes(b"")
    registry = alone(
        {
            "p": Gives(
                backbone("net"), weights("net.a", source=f"file:{tmp_path}/here.safetensors"),
                backbone("far"), weights("far.a", source=f"file:{tmp_path}/gone.safetensors"),
            )
        }
    )  # fmt: skip
    assert [one.name for one in registry.backbones(pulled=True)] == ["net"]
    assert [registry.row(one)["pulled"] for one in registry.backbones()] == [False, True]


def test_rows(registry: Registry) -> None:
    row = registry.row(registry.backbone("resnet18"))
    assert json.loads(json.dumps(row)) == {
        "name": "resnet18", "plugin": "nets", "family": "resnet", "input": "image", "params": 11_000_000,
        "num_features": 4, "input_size": [3, 224, 224], "weights": ["resnet18.a", "resnet18.b.c"],
        "default_weights": "resnet18.a", "license": "Apache-2.0", "pulled": False,
    }  # fmt: skip


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_the_default_registry() -> None:
    first = default()
    assert default() is first
    reset_default()
    assert default() is not first
    name = zoo.register(Gives(backbone("mine_own")))
    assert zoo.list_backbones("mine_*")[0].plugin == name
    assert zoo.show("mine_own").name == "mine_own"
    zoo.unregister(name)
    assert zoo.list_backbones("mine_*") == []


def test_the_zoo_itself() -> None:
    reports = zoo.plugins()
    assert {(one.name, one.problem) for one in reports if one.state != "ok"} == set()
    assert len(zoo.list_backbones()) > 1300
    assert {"alexnet", "vgg16", "resnet18", "source_cnn", "mobilenetv2_100"} <= {b.name for b in zoo.list_backbones()}
    for spec in zoo.list_weights():
        assert default().resolve(spec.name if "/" not in spec.backbone else f"{spec.plugin}/{spec.name}")[1] is not None
