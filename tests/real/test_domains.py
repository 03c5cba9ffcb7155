"""Adaptation between two real sets of handwritten digits that differ in how they were scanned, cropped and scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo

ROWS = 400


@pytest.fixture(scope="module")
def domains(real_data: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    usps = np.load(real_data / "usps" / "usps.npz")
    mnist = np.load(real_data / "mnist10k" / "mnist_t10k.npz")
    found = {"usps": (usps["x_train"], usps["y_train"]), "mnist": (mnist["x"], mnist["y"])}
    random = np.random.default_rng(0)
    chosen = {name: random.permutation(len(x))[: 3 * ROWS] for name, (x, _) in found.items()}
    return {name: (x[chosen[name]], y[chosen[name]].astype(int)) for name, (x, y) in found.items()}


@pytest.mark.parametrize(("source", "target"), [("usps", "mnist"), ("mnist", "usps")])
def test_both_help_a_network_that_knows_neither(
    source: str, target: str, domains: dict[str, tuple[np.ndarray, np.ndarray]], home: Path
) -> None:
    zoo.compose("cifar_resnet20", "from-scratch", epochs=1).fit("glyphs:1500").publish("cifar_resnet20.rendered")
    (x, y), (new, truth) = domains[source], domains[target]
    train, judge = (x[:ROWS], y[:ROWS]), (new[:ROWS], truth[:ROWS])
    accuracy = {}
    for name, more in (("linear-probe", {}), ("coral", {"target": new[ROWS:]}), ("adabn", {"target": new[ROWS:]})):
        options = {"rows": 128} if name == "adabn" else {}
        learner = zoo.compose("cifar_resnet20.rendered", name, **options).fit(train, judge, **more)
        accuracy[name] = learner.evaluation.accuracy
    assert accuracy["coral"] > accuracy["linear-probe"], accuracy
    assert accuracy["adabn"] > accuracy["linear-probe"] - 0.02, accuracy


def test_adversarial_training_with_statistics_of_both(
    domains: dict[str, tuple[np.ndarray, np.ndarray]], home: Path
) -> None:
    zoo.compose("cifar_resnet20", "from-scratch", epochs=1).fit("glyphs:1500").publish("cifar_resnet20.rendered")
    (x, y), (new, truth) = domains["usps"], domains["mnist"]
    learner = zoo.compose("cifar_resnet20.rendered", "dann", batchnorm="train", lr=1e-3)
    learner.fit((x[:ROWS], y[:ROWS]), (new[:ROWS], truth[:ROWS]), new[ROWS:])
    assert learner.evaluation.accuracy > learner.evaluation.beside["source-only"]["accuracy"] + 0.05
