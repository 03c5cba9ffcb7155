"""Every test has a home of its own, no network, and none of the caller's `ZOO_*` settings."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A slow machine is no fault of the code, and a test that failed must fail again.
hypothesis.settings.register_profile("zoo", deadline=None, derandomize=True)
hypothesis.settings.load_profile("zoo")

# A job in the background ignores Ctrl-C, and would hand that on to the processes whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_DATA = os.environ.get("ZOO_REAL_DATA")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh `ZOO_HOME`; the default registry is made anew."""
    for name in [name for name in os.environ if name.startswith(("ZOO_", "HF_"))]:
        monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ZOO_HOME", str(folder))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    from zoo.catalog.registry import reset_default

    reset_default()
    yield folder
    reset_default()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real weights and data, where this machine has it."""
    if not REAL_DATA:
        pytest.skip("ZOO_REAL_DATA is not set")
    return Path(REAL_DATA)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes, 12 small pictures each, told apart by colour."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for name, colour in (("blue", (40, 60, 200)), ("red", (200, 60, 40))):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(12):
            noise = random.integers(-40, 40, (12, 12, 3))
            pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def tiny_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the tiny backbones of `zoo.testing.tiny` known to every registry of this test, as a plugin file."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "tiny.py").write_text("from zoo.testing.tiny import zoo_backbones\n")
    monkeypatch.setenv("ZOO_PLUGINS_DIR", str(folder))
    from zoo.catalog.registry import reset_default

    reset_default()
    return "tiny"


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """A tokenizer of BERT's kind with a few words; it cuts and pads by itself, as published ones do."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = "a the was is not very bad good fine awful film food phone and it but never again love hate nice poor"
    letters = [*"abcdefghijklmnopqrstuvwxyz.!"]
    pieces = [*special, *words.split(), *letters[1:], *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_truncation(8)
    made.enable_padding(length=8)
    return made.to_str().encode()


@pytest.fixture
def bert(tmp_path: Path, tokenizer_json: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`bert_tiny.test`: a random network in a file as transformers writes it, with its tokenizer, in a registry file.

    Gives the folder of registry.toml, model.safetensors and tokenizer.json.
    """
    import hashlib
    import json

    transformers = pytest.importorskip("transformers")
    import torch

    from zoo.catalog.registry import reset_default
    from zoo.models.tensors import write_tensors

    folder = tmp_path / "bert"
    folder.mkdir()
    size = len(json.loads(tokenizer_json)["model"]["vocab"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = transformers.BertConfig(
            vocab_size=size, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512,
            max_position_embeddings=64, initializer_range=0.2,
        )  # fmt: skip
        network = transformers.BertModel(config)
    write_tensors(folder / "model.safetensors", {f"bert.{name}": one for name, one in network.state_dict().items()})
    (folder / "config.json").write_text(config.to_json_string())
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    files = ("model.safetensors", "tokenizer.json")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    (folder / "registry.toml").write_text(
        f"""schema = 1
[weights."bert_tiny.test"]
backbone = "bert_tiny"
default = true
source = "file:model.safetensors"
sha256 = "{sums["model.safetensors"]}"
license = "apache-2.0"
options = {{ vocab_size = {size}, max_positions = 64 }}
preprocessing = {{ kind = "text", input_size = [32] }}
files = [{{ source = "file:tokenizer.json", sha256 = "{sums["tokenizer.json"]}", role = "tokenizer" }}]
"""
    )
    monkeypatch.setenv("ZOO_REGISTRY", str(folder / "registry.toml"))
    reset_default()
    yield folder
    reset_default()
