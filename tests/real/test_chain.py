"""glyphs -> digits -> USPS: each domain is learned on top of the one before."""

from __future__ import annotations

import zoo


def test_rendered_then_handwritten_then_posted(real_data) -> None:
    """2 labels a class of USPS, 2,007 test rows: the chain beats the same network from scratch."""
    zoo.compose("source_cnn", "from-scratch", epochs=2, augment="shift").fit("glyphs:1000").publish("source_cnn.glyphs")
    tuned = zoo.compose("source_cnn.glyphs", "fine-tune", epochs=5).fit("digits")
    assert tuned.evaluation.accuracy > 0.9
    assert tuned.publish("source_cnn.digits").trained_on
    usps = {"train": str(real_data / "usps" / "usps.npz"), "val": "test", "labels_per_class": 2}
    chain = zoo.compose("source_cnn.digits", "fine-tune").fit(**usps)
    scratch = zoo.compose("source_cnn", "from-scratch").fit(**usps)
    assert chain.evaluation.accuracy > scratch.evaluation.accuracy + 0.02
