"""A report of real photos, opened in a real browser where there is one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import zoo
from zoo.catalog.registry import Registry
from zoo.report.report import write_report
from zoo.settings import Settings


def test_photos(real_data: Path, tmp_path: Path) -> None:
    registry = Registry(settings=dataclasses.replace(Settings(), registry=real_data / "registry.toml"))
    learner = zoo.compose("mobilenetv2_100.tf2_in1k", "linear-probe", registry=registry)
    learner.fit(real_data / "hymenoptera_256")
    facts = write_report(learner, tmp_path / "r.html", explain=2, map="pca")
    text = (tmp_path / "r.html").read_text()
    assert facts["parity"] == 0
    assert facts["left_out"] == {}
    assert {"mistakes", "occlusion", "map", "audit"} <= set(facts["sections"])
    assert facts["bytes"] < 1_000_000
    assert "as mobilenetv2_100.tf2_in1k sees them" in text  # audited by the features that the fit has made
    assert text.count('<img src="data:image/jpeg') == round(153 * (1 - (learner.evaluation.accuracy or 0)))
    assert "apache-2.0" in text
