"""The verbs doctor, env and config: each fault is found and comes with its fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.report import health
from zoo.settings import Settings
from zoo.testing.hub import FakeHub


def named(result: Any) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in result.json["checks"]}


def test_a_sound_machine(cli: Any) -> None:
    result = cli("doctor", "--json")
    assert result.code == 0, result.out
    checks = named(result)
    assert {"packages", "accelerators", "plugins", "registry files", "disk", "lock", "store", "network"} <= set(checks)
    assert all(check["fix"] for check in checks.values() if check["state"] != "ok")
    assert "torch" in checks["packages"]["finding"]
    assert "offline" in checks["network"]["finding"]
    shown = cli("doctor")
    assert "no problems, no warnings" in shown.out


def test_a_broken_plugin_is_a_problem(cli: Any, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "bad.py").write_text("import nothing_of_that_name\n")
    result = cli("--plugins-dir", folder, "doctor", "--json")
    assert result.code == 1
    check = named(result)["plugin bad"]
    assert check["state"] == "problem"
    assert "nothing_of_that_name" in check["finding"]
    assert "--check bad" in check["fix"]


def test_a_lock_that_drifted_or_was_never_pulled(cli: Any, home: Path) -> None:
    from zoo.weights.lock import NAME

    source, commit = "hf://timm/resnet18.tv_in1k@{0}/model.safetensors", "a" * 40
    (home / NAME).write_text(
        f"""schema = 1
[weights."resnet18.tv_in1k"]
source = "{source.format(commit)}"
revision = "{commit}"
file = "model.safetensors"
sha256 = "{"0" * 64}"
bytes = 12
format = "safetensors"
[weights."resnet18.gone"]
source = "{source.format(commit).replace("tv_in1k", "gone")}"
revision = "{commit}"
file = "model.safetensors"
sha256 = "{"1" * 64}"
bytes = 12
format = "safetensors"
"""
    )
    result = cli("doctor", "--json")
    assert result.code == 1
    checks = named(result)
    assert checks["lock resnet18.tv_in1k"]["state"] == "problem"
    assert "pull --update" in checks["lock resnet18.tv_in1k"]["fix"]
    assert checks["lock resnet18.gone"]["state"] == "warning"


def test_a_lock_that_cannot_be_read_stops_no_other_check(cli: Any, home: Path) -> None:
    (home / "zoo.lock").write_text("schema = [")
    result = cli("doctor", "--json")
    assert result.code == 1
    checks = named(result)
    assert checks["lock"]["state"] == "problem"
    assert checks["store"]["state"] == "ok"


def test_the_network(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_OFFLINE")
    monkeypatch.setattr(health, "_ANSWER_S", 1.0)
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert named(cli("doctor", "--json"))["network"]["state"] == "ok"
    check = named(cli("doctor", "--json"))["network"]
    assert check["state"] == "warning"
    assert "--offline" in check["fix"]


def test_scarce_disk_and_empty_blobs(cli: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = home / "blobs" / "sha256" / "ab" / f"ab{'0' * 62}.safetensors"
    blob.parent.mkdir(parents=True)
    blob.touch()
    monkeypatch.setattr(health, "SCARCE", 1 << 62)
    result = cli("doctor", "--json")
    assert result.code == 1
    checks = result.json["checks"]
    assert any(check["name"] == "store" and check["state"] == "problem" for check in checks)
    assert any(check["name"] == "disk" and check["state"] == "warning" for check in checks)


def test_env_holds_versions_and_no_secret(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_mine")
    result = cli("env", "--json")
    assert result.code == 0
    assert result.json["packages"]["torch"]
    assert result.json["accelerators"][-1] == "cpu"
    for verb in ("env", "config", "doctor"):
        both = cli(verb, "--json"), cli(verb)
        assert all("hf_secret" not in one.out + one.err for one in both)
        assert all(one.out for one in both)


def test_config_says_where_each_setting_comes_from(cli: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_FEATURES_LIMIT", "1GB")
    monkeypatch.setenv("ZOO_OFFLINE", "")
    rows = {row["name"]: row for row in cli("--offline", "-p", "no:vgg", "config", "--json").json["settings"]}
    assert rows["offline"] == {"name": "offline", "value": True, "source": "a flag"}
    assert rows["disabled"]["value"] == ["vgg"]
    assert rows["features_limit"] == {"name": "features_limit", "value": 10**9, "source": "ZOO_FEATURES_LIMIT"}
    assert rows["home"] == {"name": "home", "value": str(home), "source": "ZOO_HOME"}
    assert rows["strict"]["source"] == "the default"
    assert any(path.endswith("registry.toml") for path in rows["registry files, later wins"]["value"])
    assert Settings().offline is False
