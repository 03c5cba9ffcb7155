"""The feature store on disk: what is computed, what is read back, and damaged, full and shared disks."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.adapt import features, shards, table
from zoo.adapt.features import FeatureStore
from zoo.adapt.kept import kept_features, trim_features
from zoo.adapt.space import feature_state, space_facts, space_key
from zoo.data.open import open_data
from zoo.models.accelerator import choose
from zoo.models.network import Network
from zoo.settings import Settings, parse_size
from zoo.testing.networks import Tiny

pytestmark = pytest.mark.usefixtures("tiny_plugin")

PLACEMENT = choose("cpu", "fp32")
X = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Rows of every forward pass."""
    seen: list[int] = []
    inner = Network.features

    def counted(self: Network, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return inner(self, x)

    monkeypatch.setattr(Network, "features", counted)
    return seen


def network(**more) -> Network:
    return zoo.load_backbone("tiny", weights=None, accelerator="cpu", **more)


def rows(x: np.ndarray = X):
    return open_data(x, labelled=False).train


def shard_files(home: Path) -> list[Path]:
    return sorted(home.glob("features/*/*.safetensors"))


def test_a_new_store_computes_nothing_again(settings, passes) -> None:
    first = FeatureStore(settings).features(network(), rows(), PLACEMENT)
    assert sum(passes) == 40
    again = FeatureStore(settings).features(network(), rows(), PLACEMENT)
    assert sum(passes) == 40
    assert torch.equal(first, again)
    assert torch.equal(FeatureStore().features(network(), rows(), PLACEMENT), first)


def test_any_order_repeated_rows_and_grown_sets(settings, passes) -> None:
    expected = FeatureStore().features(network(), rows(), PLACEMENT)
    passes.clear()
    order = np.random.default_rng(1).integers(0, 20, 60)
    found = FeatureStore(settings).features(network(), rows(X[order]), PLACEMENT)
    assert sum(passes) == len(set(order))
    torch.testing.assert_close(found, expected[order], rtol=0, atol=1e-6)
    FeatureStore(settings).features(network(), rows(), PLACEMENT)
    assert sum(passes) == 40


def test_whole_fits_share_one_pass(passes) -> None:
    y = np.arange(40) % 2
    zoo.compose("tiny", "linear-probe", weights=None, precision="fp32").fit((X, y))
    assert sum(passes) == 40
    features._store_at.cache_clear()  # what a new process begins with
    learner = zoo.compose("tiny", "linear-probe", weights=None, precision="fp32", regularizer=0.1).fit((X, y))
    learner.evaluate((X, y))
    assert sum(passes) == 40


def test_another_strategy_ranking_audit_and_guard_need_no_pass(passes) -> None:
    y = np.arange(40) % 2
    learner = zoo.compose("tiny", "linear-probe", weights=None, precision="fp32").fit((X, y))
    learner.publish("tiny.new")
    passes.clear()
    zoo.compose("tiny.new", "knn", precision="fp32").fit((X, y))
    zoo.rank(["tiny.new"], (X, y), precision="fp32")
    zoo.audit((X, y), backbone="tiny.new", precision="fp32")
    learner.evaluate((X, y), guard=True, train=(X, y))
    assert passes == []


def test_a_saved_run_shares_the_features_it_was_fitted_on(tmp_path: Path, passes) -> None:
    y = np.arange(40) % 2
    run = zoo.compose("tiny", "linear-probe", weights=None, precision="fp32").fit((X, y)).save(tmp_path / "run")
    features._store_at.cache_clear()
    zoo.load(run).evaluate((X, y))
    assert sum(passes) == 40


def test_predictions_of_passing_samples_leave_the_disk_alone(home: Path, passes) -> None:
    y = np.arange(40) % 2
    learner = zoo.compose("tiny", "linear-probe", weights=None, precision="fp32").fit((X, y))
    before = shard_files(home)
    learner.predict(255 - X)
    assert shard_files(home) == before
    learner.predict(255 - X)
    assert sum(passes) == 80


def test_what_makes_another_space() -> None:
    plain = network()
    facts = space_facts(plain, PLACEMENT)
    key = space_key(facts)
    assert space_key(space_facts(network(), PLACEMENT)) == key
    assert space_key(space_facts(network(tap="stem"), PLACEMENT)) != key
    assert space_key(space_facts(network(seed=1), PLACEMENT)) != key
    assert space_key(space_facts(network(in_chans=1), PLACEMENT)) != key
    assert space_key(space_facts(plain, choose("cpu", "bf16"))) != key
    # The classifier is not part of a feature.
    assert space_key(space_facts(network(num_classes=3), PLACEMENT)) == key
    other = network()
    other.options = {"pad_type": "same"}
    assert space_key(space_facts(other, PLACEMENT)) != key
    other = network()
    other.preprocessing = dataclasses.replace(other.preprocessing, crop_pct=0.9)
    assert space_key(space_facts(other, PLACEMENT)) != key
    other = network()
    other.get_submodule("layer1")[0] = torch.nn.Tanh()
    assert space_key(space_facts(other, PLACEMENT)) != key
    buffers = []
    for value in (1.0, 2.0):
        other = network()
        other.module.register_buffer("scale", torch.tensor(value), persistent=False)
        buffers.append(space_key(space_facts(other, PLACEMENT)))
    assert buffers[0] != buffers[1]
    with torch.no_grad():
        plain.get_buffer("norm.running_mean").add_(1)
    assert space_key(space_facts(plain, PLACEMENT)) != key


def test_code_that_changed_is_another_space(tmp_path: Path, monkeypatch) -> None:
    """The same names, tensors and settings, but another forward pass."""
    from importlib.util import module_from_spec, spec_from_file_location

    keys = []
    for body in ("x", "x * 2"):
        path = tmp_path / f"{len(keys)}.py"
        path.write_text(
            f"from torch import nn\nclass Own(nn.Module):\n    def forward(self, x):\n        return {body}\n"
        )
        spec = spec_from_file_location("own_layers", path)
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "own_layers", module)
        spec.loader.exec_module(module)
        changed = network()
        changed.get_submodule("layer1")[0] = module.Own()
        keys.append(space_key(space_facts(changed, PLACEMENT)))
    assert keys[0] != keys[1]


def test_code_that_is_in_no_file_is_known_by_itself_alone(settings, home: Path) -> None:
    kind = type("Typed", (torch.nn.Module,), {"forward": lambda self, x: x, "__module__": "no_such_module"})
    changed = network()
    changed.get_submodule("layer1")[0] = kind()
    FeatureStore(settings).features(changed, rows(), PLACEMENT)
    assert shard_files(home) == []


@pytest.mark.parametrize("change", ["hook", "pre-hook", "forward"])
def test_a_layer_that_does_more_than_its_class_is_known_by_itself_alone(settings, home: Path, change: str) -> None:
    changed = network()
    layer = changed.get_submodule("layer1")
    if change == "hook":
        layer.register_forward_hook(lambda module, inputs, output: output * 2)
    elif change == "pre-hook":
        layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    else:
        layer.forward = lambda x: x
    FeatureStore(settings).features(changed, rows(), PLACEMENT)
    assert shard_files(home) == []


def test_your_own_module_is_never_on_disk(home: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 3, 8, 8), np.arange(20) % 2
    zoo.compose(Tiny(), "linear-probe", backbone_head="classifier").fit((x, y))
    assert shard_files(home) == []


def test_shards_are_as_documented(settings, home: Path) -> None:
    import hashlib

    from safetensors.numpy import load_file

    found = FeatureStore(settings).features(network(), rows(), PLACEMENT)
    (path,) = shard_files(home)
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
    tensors = load_file(path)
    assert {name: (str(t.dtype), t.shape) for name, t in tensors.items()} == {
        "features": ("float32", (40, 8)),
        "rows": ("uint8", (40, 32)),
    }
    assert [bytes(row).hex() for row in tensors["rows"]] == rows().digests()
    assert np.array_equal(tensors["features"], found.numpy())
    record = json.loads((path.parent / "space.json").read_text())
    assert record["schema"] == 1
    assert record["facts"]["backbone"] == "tiny/tiny"
    assert space_key(record["facts"]) == path.parent.name


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "other"])
def test_a_damaged_shard_is_computed_again(settings, home: Path, passes, harm: str, monkeypatch) -> None:
    monkeypatch.setattr(features, "SHARD_BYTES", 1)  # a shard for each batch
    expected = FeatureStore(settings).features(network(), rows(), PLACEMENT, batch_size=10)
    files = shard_files(home)
    assert len(files) == 4
    content = bytearray(files[1].read_bytes())
    if harm == "flip":
        content[-40] ^= 1
    files[1].write_bytes({"cut": content[:-8], "empty": b"", "other": files[0].read_bytes()}.get(harm, content))
    passes.clear()
    store = FeatureStore(settings)
    assert torch.equal(store.features(network(), rows(), PLACEMENT, batch_size=10), expected)
    assert sum(passes) == 10
    assert any("damaged" in sentence for sentence in store.said())
    FeatureStore(settings).features(network(), rows(), PLACEMENT)
    assert sum(passes) == 10


def test_damage_under_a_right_name_is_still_no_feature(settings, home: Path, passes) -> None:
    """A file that is what its name says, but holds something else."""
    import hashlib

    from safetensors.torch import save

    FeatureStore(settings).features(network(), rows(), PLACEMENT)
    (path,) = shard_files(home)
    for tensors in ({"a": torch.ones(2)}, {"features": torch.ones(3, 8), "rows": torch.ones(2, 32).byte()}):
        content = save(tensors)
        (path.parent / f"{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)
    passes.clear()
    store = FeatureStore(settings)
    store.features(network(), rows(), PLACEMENT)
    assert passes == []
    assert len(shard_files(home)) == 1


def test_a_full_disk_is_said_and_survived(settings, home: Path, passes, monkeypatch) -> None:
    def full(target: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(shards, "write_atomically", full)
    store = FeatureStore(settings)
    found = store.features(network(), rows(), PLACEMENT)
    assert any("No space left" in sentence for sentence in store.said())
    assert torch.equal(store.features(network(), rows(), PLACEMENT), found)
    assert sum(passes) == 40
    assert store.said() == []


def test_a_fit_says_that_its_disk_is_read_only(home: Path) -> None:
    (home / "features").write_text("no folder")
    learner = zoo.compose("tiny", "linear-probe", weights=None).fit((X, np.arange(40) % 2))
    assert sum("features are kept in memory only" in note for note in learner.notes) == 1


def test_small_shards_are_merged(settings, home: Path, passes) -> None:
    for i in range(shards.MERGED + 2):
        FeatureStore(settings).features(network(), rows(X[i * 2 : i * 2 + 2]), PLACEMENT)
    assert len(shard_files(home)) < 4
    passes.clear()
    expected = FeatureStore().features(network(), rows(X[:36]), PLACEMENT)
    passes.clear()
    found = FeatureStore(settings).features(network(), rows(X[:36]), PLACEMENT)
    assert passes == []
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_limit_drops_what_was_used_longest_ago(settings, home: Path, passes) -> None:
    limited = dataclasses.replace(settings, features_limit=9000)
    for seed in range(3):
        FeatureStore(limited).features(network(seed=seed), rows(), PLACEMENT)
        (newest,) = kept_features(settings)[:1]
        os.utime(newest.path / "space.json", (seed, seed))
    FeatureStore(limited).features(network(seed=0), rows(), PLACEMENT)  # used again
    FeatureStore(limited).features(network(seed=3), rows(), PLACEMENT)
    spaces = kept_features(settings)
    assert sum(one.nbytes for one in spaces) <= 9000
    states = {one.facts["state"] for one in spaces}
    assert feature_state(network(seed=0)) in states
    assert feature_state(network(seed=3)) in states
    assert feature_state(network(seed=1)) not in states


def test_beyond_the_limit_features_stay_in_memory(settings, home: Path, passes) -> None:
    store = FeatureStore(dataclasses.replace(settings, features_limit=100))
    store.features(network(), rows(), PLACEMENT)
    store.features(network(), rows(), PLACEMENT)
    assert sum(passes) == 40
    assert shard_files(home) == []
    assert any("ZOO_FEATURES_LIMIT" in sentence for sentence in store.said())


def test_a_limit_of_zero_keeps_nothing(home: Path, monkeypatch) -> None:
    monkeypatch.setenv("ZOO_FEATURES_LIMIT", "0")
    zoo.compose("tiny", "linear-probe", weights=None).fit((X, np.arange(40) % 2))
    assert not (home / "features").exists()


def test_sizes() -> None:
    assert [parse_size(text) for text in ("20GB", "1.5 MiB", "1e3", "0")] == [20 * 10**9, 3 << 19, 1000, 0]
    for text in ("", "many", "-1", "5 parsecs", "nan", "inf"):
        with pytest.raises(zoo.UsageError):
            parse_size(text)


def test_trimming_by_hand(settings, home: Path) -> None:
    store = FeatureStore(settings)
    for seed in range(2):
        store.features(network(seed=seed), rows(), PLACEMENT)
    (leftover := home / "features" / ".x.part").write_bytes(b"half")
    os.utime(leftover, (0, 0))
    found = store.features(network(seed=0), rows(), PLACEMENT)
    assert len(trim_features(settings, 0)) == 2
    assert list((home / "features").iterdir()) == []
    # What this process had mapped stays its own.
    assert torch.equal(store.features(network(seed=0), rows(), PLACEMENT), found)
    store.features(network(seed=0), rows(255 - X), PLACEMENT)
    assert len(shard_files(home)) == 1


@pytest.mark.parametrize("shuffled", [False, True])
def test_large_results_are_mapped(settings, home: Path, monkeypatch, shuffled: bool) -> None:
    monkeypatch.setattr(table, "MAPPED", 100)
    monkeypatch.setattr(table, "_CHUNK", 7)
    monkeypatch.setattr(features, "SHARD_BYTES", 300)
    order = np.random.default_rng(0).permutation(40) if shuffled else np.arange(40)
    expected = FeatureStore().features(network(), rows(X[order]), PLACEMENT, batch_size=10)
    for _ in range(2):
        found = FeatureStore(settings).features(network(), rows(X[order]), PLACEMENT, batch_size=10)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert found.is_contiguous()
    assert not list((home / "features").glob("*.part"))


CHILD = """
import sys
import numpy as np, torch, zoo
from zoo.adapt import features
from zoo.adapt.features import FeatureStore
from zoo.data.open import open_data
from zoo.models.accelerator import choose
from zoo.models.network import Network
from zoo.settings import Settings

features.SHARD_BYTES = 1
inner = Network.features
def counted(self, x):
    print("pass", flush=True)
    return inner(self, x)
Network.features = counted
x = np.load(sys.argv[1])
network = zoo.load_backbone("tiny", weights=None, accelerator="cpu")
store = FeatureStore(Settings())
print("ready", flush=True)
sys.stdin.readline()
found = store.features(network, open_data(x, labelled=False).train, choose("cpu", "fp32"), batch_size=1)
np.save(sys.argv[2], found.numpy())
"""


def child(tmp_path: Path, name: str) -> subprocess.Popen[str]:
    np.save(tmp_path / "x.npy", X)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "x.npy"), str(tmp_path / f"{name}.npy")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> int:
    """Forward passes of a process that ended well."""
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.count("pass\n")


def test_killed_at_any_point_and_resumed_by_two_at_once(tmp_path: Path, settings, home: Path, passes) -> None:
    with child(tmp_path, "killed") as killed, child(tmp_path, "a") as one, child(tmp_path, "b") as other:
        go(killed)
        assert killed.stdout is not None
        for _ in range(9):
            killed.stdout.readline()
        killed.send_signal(signal.SIGKILL)
        assert killed.wait(60) == -signal.SIGKILL
        left = 40 - len(shard_files(home))
        assert left <= 32
        go(one)
        go(other)
        assert finish(one) <= left
        assert finish(other) <= left
    found = FeatureStore(settings).features(network(), rows(), PLACEMENT)
    assert passes == []
    assert np.array_equal(np.load(tmp_path / "a.npy"), found.numpy())
    assert np.array_equal(np.load(tmp_path / "b.npy"), found.numpy())
    expected = FeatureStore().features(network(), rows(), PLACEMENT, batch_size=1)
    assert torch.equal(found, expected)
