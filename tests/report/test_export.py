"""What is exported answers as the learner does, in the other side's own loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.data.preprocess import reader
from zoo.errors import DiskError, TrainingError, UsageError
from zoo.report.export import export


@pytest.fixture(scope="module")
def photos_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    codes = np.arange(24) % 2
    pictures = np.clip(random.normal(120, 40, (24, 40, 40, 3)) + 40 * codes[:, None, None, None], 0, 255)
    return pictures.astype(np.uint8), np.array(["ant", "bee"])[codes]


def fitted(name: str, photos: Any, **more: Any) -> zoo.adapt.learner.Learner:
    return zoo.compose(name, "linear-probe", weights=None, precision="fp32", **more).fit(photos)


@pytest.mark.parametrize("name", ["source_cnn", "alexnet", "mobilenetv3_small_050"])
def test_torch(name: str, photos_once: Any, tmp_path: Path) -> None:
    learner = fitted(name, photos_once)
    done = learner.export(tmp_path / "net.pt2")
    assert done.format == "torch"
    assert done.parity <= 1e-4
    program = torch.export.load(done.path).module()
    network = learner.model.backbone
    read = reader(network.preprocessing, network.in_chans)
    x = torch.stack([torch.as_tensor(read(picture)) for picture in photos_once[0][:5]]).float()
    expected = learner.predict(photos_once[0][:5])
    facts = json.loads(done.sidecar.read_text())
    assert [facts["classes"][i] for i in program(x).argmax(dim=1)] == list(expected)
    assert facts["preprocessing"]["mean"]


@pytest.mark.parametrize("name", ["source_cnn", "resnet18"])
def test_onnx(name: str, photos_once: Any, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    learner = fitted(name, photos_once)
    done = export(learner, tmp_path / "net.onnx")
    assert done.parity <= 1e-4
    model = onnx.load(done.path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == ["ant", "bee"]
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    size = json.loads(metadata["input"])
    for rows in (1, 7):
        assert session.run(None, {"input": np.zeros((rows, *size), dtype=np.float32)})[0].shape == (rows, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.json"]


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_timm(name: str, photos_once: Any, tmp_path: Path) -> None:
    import timm

    learner = fitted(name, photos_once)
    done = export(learner, tmp_path / "net")
    assert done.format == "timm"
    loaded = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), learner.model.eval()(x), rtol=1e-4, atol=1e-4)
    assert list(loaded.pretrained_cfg["mean"]) == list(learner.model.backbone.preprocessing.mean)


def test_other_heads_go_along(photos_once: Any, tmp_path: Path) -> None:
    mlp = zoo.compose("source_cnn", "linear-probe", weights=None, precision="fp32", head="mlp(8)", epochs=2)
    assert export(mlp.fit(photos_once), tmp_path / "mlp.pt2").parity <= 1e-4
    knn = zoo.compose("source_cnn", "knn", weights=None, precision="fp32", k=3)
    assert export(knn.fit(photos_once), tmp_path / "knn.pt2").parity <= 1e-4


def test_grey_pictures_and_a_loaded_run(photos_once: Any, tmp_path: Path) -> None:
    learner = fitted("resnet18", (photos_once[0][..., 0], photos_once[1]), in_chans=1)
    run = zoo.load(learner.save(tmp_path / "run"))
    done = run.export(tmp_path / "grey")
    import timm

    loaded = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    assert loaded(torch.zeros(1, 1, 224, 224)).shape == (1, 2)


def test_refusals_leave_nothing(photos_once: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = fitted("source_cnn", photos_once)
    with pytest.raises(UsageError, match="not an architecture of timm"):
        export(learner, tmp_path / "net")
    with pytest.raises(UsageError, match="no format"):
        export(learner, tmp_path / "net", "tflite")
    for name in ("net.pb", "net.tflite", "net.pth"):
        with pytest.raises(UsageError, match="names no format"):
            export(learner, tmp_path / name)
    (tmp_path / "there.pt2").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        export(learner, tmp_path / "there.pt2")
    (tmp_path / "other.pt2.json").write_text("mine")
    with pytest.raises(UsageError, match=r"other\.pt2\.json exists"):
        export(learner, tmp_path / "other.pt2")
    assert (tmp_path / "other.pt2.json").read_text() == "mine"
    with pytest.raises(DiskError, match="cannot write"):
        export(learner, tmp_path / "there.pt2" / "net.pt2")
    with pytest.raises(UsageError, match="features are read at"):
        export(fitted("source_cnn", photos_once, tap=learner.model.backbone.taps()[0]), tmp_path / "net.pt2")
    monkeypatch.setattr("zoo.report.export.PARITY", -1.0)
    with pytest.raises(TrainingError, match="answers otherwise"):
        export(learner, tmp_path / "net.pt2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pt2.json", "there.pt2"]


def test_parity_is_relative_and_difference_is_not(
    photos_once: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = fitted("source_cnn", photos_once)
    head = learner.model.head.weight
    with torch.no_grad():
        head.mul_(1000 / learner.outputs(zoo.data.open.open_data(photos_once).held_out).abs().max())
    monkeypatch.setattr("zoo.report.export.PARITY", 1.0)
    monkeypatch.setattr("zoo.report.export._write_torch", lambda learner, module, path: _shifted(module, path))
    done = export(learner, tmp_path / "net.pt2")
    facts = json.loads(done.sidecar.read_text())
    assert facts["difference"] == done.difference == pytest.approx(0.5, abs=0.01)
    assert facts["parity"] == done.parity < 0.5 * done.difference


def _shifted(module: torch.nn.Module, path: Path) -> Any:
    path.write_text("")
    return lambda x: module(x) + 0.5


def test_a_missing_package_is_said(photos_once: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="onnxruntime"):
        export(fitted("source_cnn", photos_once), tmp_path / "net.onnx")
