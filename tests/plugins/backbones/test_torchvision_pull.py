"""torchvision's own files, from a web server on this machine through the converter to the same logits."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision

import zoo
from zoo.testing.hub import FakeHub

CERTIFICATE = Path(__file__).parents[2] / "weights" / "localhost.pem"


def test_a_published_file_gives_torchvisions_logits(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZOO_OFFLINE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    buffer = io.BytesIO()
    torch.save(theirs.state_dict(), buffer, _use_new_zipfile_serialization=False)  # as the older ones are
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    with FakeHub(CERTIFICATE) as web:
        web.add("x/y", f"resnet18-{digest[:8]}.pth", buffer.getvalue())
        (shipped,) = zoo.list_weights("resnet18.torchvision_v1")
        registry = tmp_path / "registry.toml"
        registry.write_text(
            f'schema = 1\n[weights."resnet18.web"]\nbackbone = "resnet18"\nsha256_prefix = "{digest[:8]}"\n'
            f'source = "{web.url}/raw/resnet18-{digest[:8]}.pth"\nlicense = "{shipped.license}"\n'
        )
        network = zoo.load_backbone("resnet18.web", accelerator="cpu")
        lock = (tmp_path / "zoo.lock").read_text()
        assert digest in lock
        assert "converted_sha256" in lock
        web.forget()
        again = zoo.pull("resnet18.web", locked=True)
        assert web.count() == 0
    assert again.read_bytes()[:1] != b"\x80"
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(network(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert replace(shipped, source="").sha256_prefix == shipped.source.rpartition("-")[2].removesuffix(".pth")
