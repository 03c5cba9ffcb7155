"""How lists and specs show themselves: as text, and as HTML in notebooks."""

from __future__ import annotations

import json
import pickle
from html.parser import HTMLParser

import pytest
from catalog_kit import Gives, alone, backbone, strategy, weights

import zoo
from zoo.catalog.tables import SHOWN, Listing, count, facts_table, html_table, text_table

HOSTILE = "<script>alert('x')</script>&\n\"y"


class Strict(HTMLParser):
    """Every element is closed, and only these occur."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag in ("table", "tr", "th", "td", "p", "b")
        assert attrs == []
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def lists() -> dict[str, list[object]]:
    given = [backbone(f"net{i}", family=HOSTILE, summary=HOSTILE) for i in range(SHOWN + 5)]
    registry = alone(
        {
            "mine": Gives(*given, strategy("way", summary=HOSTILE), weights("net1.a", license=HOSTILE)),
            "bad": Gives(strategy("x", kind=HOSTILE)),
        }
    )
    return {
        "backbones": registry.backbones(),
        "strategies": registry.strategies(),
        "weights": registry.weights(),
        "plugins": registry.reports(),
    }


@pytest.mark.parametrize("kind", ["backbones", "strategies", "weights", "plugins"])
def test_lists_are_lists_and_show_a_table(kind: str) -> None:
    found = lists()[kind]
    assert isinstance(found, list)
    assert found == list(found)
    assert [*found] == found[:]
    assert type(pickle.loads(pickle.dumps(Listing([1, 2])))) is list
    page = Strict(found._repr_html_())  # type: ignore[attr-defined]
    assert "name" in page.text
    assert "<script>" not in found._repr_html_()  # type: ignore[attr-defined]
    for item in found[:2]:
        assert item.name in page.text  # type: ignore[attr-defined]
        Strict(item._repr_html_())  # type: ignore[attr-defined]
    lines = repr(found).splitlines()
    assert lines[0].startswith("name ")
    assert len(lines) == min(len(found), SHOWN) + 1 + (len(found) > SHOWN)


def test_a_long_list_says_how_much_is_left() -> None:
    found = lists()["backbones"]
    assert repr(found).endswith("\n... and 5 more")
    assert "... and 5 more" in found._repr_html_()  # type: ignore[attr-defined]
    assert "more" not in repr(found[:SHOWN])
    assert found[0].name == "net0"  # type: ignore[attr-defined]
    assert len(json.loads(json.dumps(Listing([1, 2])))) == 2


def test_an_empty_list_is_one() -> None:
    found = alone().backbones()
    assert (found, repr(found)) == ([], "[]")
    assert found._repr_html_() == "<p>[]</p>"  # type: ignore[attr-defined]


def test_a_spec_shows_what_is_not_at_its_default() -> None:
    spec = backbone("tiny", head="fc", preprocessing=zoo.Preprocessing(crop_pct=1.0))
    assert repr(spec) == (
        "Backbone(name='tiny', family='f', build='a.b:c', num_features=4, params=9, head='fc', "
        "preprocessing=Preprocessing(crop_pct=1.0))"
    )
    assert eval(repr(spec), {"Backbone": zoo.Backbone, "Preprocessing": zoo.Preprocessing}) == spec
    assert "gmacs" not in spec._repr_html_()


def test_tables() -> None:
    assert text_table(["a", "long"], [["1", "x\ny"], ["22", ""]]) == "a   long\n1   x y\n22"
    assert html_table([], [["<"]]) == "<table><tr><td>&lt;</td></tr></table>"
    assert "..." in html_table(["a"], [["x" * 500]])
    assert facts_table("T", {"none": None, "empty": [], "n": 12345, "off": False}).count("<tr>") == 2
    assert [count(n) for n in (None, 0, 999, 12_345, 11_689_512, 7e9)] == ["-", "0", "999", "12.3 k", "11.7 M", "7.0 G"]


def test_a_spec_is_registered_as_it_is() -> None:
    registry = alone()
    assert registry.register(backbone("mine", build=dict)) == "mine"
    assert registry.backbone("mine").build is dict
    registry.register(backbone("mine", params=10))
    assert registry.backbone("mine").params == 10, "a cell that runs again replaces it"
    assert registry.register(strategy("my-way"), "other") == "other"
    assert registry.strategy("my_way").plugin == "other"
    registry.unregister("mine")
    assert registry.backbones() == []
