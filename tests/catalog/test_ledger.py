"""Registry files: what they may hold, and what is said when they do not."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.catalog import ledger
from zoo.catalog.spec import Preprocessing
from zoo.errors import NotFoundError, RegistryError, ZooError
from zoo.settings import Settings

SHA = "0123456789abcdef" * 4
FULL = f"""schema = 1

[plugins]
disabled = ["a"]
required = ["zoo-lora>=0.3"]

[aliases]
my-default = "resnet18.tv_in1k"

[weights."resnet18.tv_in1k"]
backbone = "resnet18"
default = true
source = "hf://timm/resnet18.tv_in1k@main/model.safetensors"
sha256 = "{SHA}"
bytes = 46807446
license = "bsd-3-clause"
trained_on = "imagenet-1k"
num_classes = 1000
options = {{ pad_type = "same", sizes = [1, 2] }}
metrics = {{ top1 = 69.76, rank = 3 }}
x-note = "mine"

[weights."resnet18.tv_in1k".preprocessing]
input_size = [3, 224, 224]
mean = [0.5, 0.5, 0.5]
std = [1, 0.5, 0.5]
interpolation = "bilinear"
crop_pct = 0.875
x-own = 1
"""


def read(tmp_path: Path, text: str, layer: str = "given") -> ledger.LedgerFile:
    path = tmp_path / "registry.toml"
    path.write_text(text)
    return ledger.read(path, layer)


def entry(body: str, name: str = "net.tag") -> str:
    return f'schema = 1\n\n[weights."{name}"]\nbackbone = "net"\n{body}\n'


def test_everything_that_may_stand_in_a_file(tmp_path: Path) -> None:
    file = read(tmp_path, FULL)
    assert (file.disabled, file.required) == (("a",), ("zoo-lora>=0.3",))
    assert file.aliases == {"my-default": "resnet18.tv_in1k"}
    spec = file.weights["resnet18.tv_in1k"]
    assert spec.default is True
    assert (spec.sha256, spec.bytes, spec.num_classes) == (SHA, 46807446, 1000)
    assert spec.options == {"pad_type": "same", "sizes": [1, 2]}
    assert spec.metrics == {"top1": 69.76, "rank": 3}
    assert spec.origin == str(tmp_path / "registry.toml")
    assert spec.preprocessing == Preprocessing(
        input_size=(3, 224, 224), mean=(0.5,) * 3, std=(1.0, 0.5, 0.5), interpolation="bilinear", crop_pct=0.875,
        extra={"x-own": 1},
    )  # fmt: skip


def test_other_readers_keep_their_keys(tmp_path: Path) -> None:
    file = read(tmp_path, entry('source = "zap:1"\npreprocessing = { kind = "audio", rate = 8000 }'))
    assert file.weights["net.tag"].preprocessing == Preprocessing(kind="audio", extra={"rate": 8000})


def test_file_sources_start_at_the_file(tmp_path: Path) -> None:
    spec = read(tmp_path, entry('source = "file:sub/w.safetensors"')).weights["net.tag"]
    assert spec.source == f"file:{tmp_path / 'sub/w.safetensors'}"


def test_several_files(tmp_path: Path) -> None:
    text = entry(
        f'files = [{{ source = "file:tokens.json", role = "tokenizer" }}, '
        f'{{ source = "file:w.safetensors", role = "weights", sha256 = "{SHA}" }}]'
    )
    spec = read(tmp_path, text).weights["net.tag"]
    assert spec.source == f"file:{tmp_path / 'w.safetensors'}"
    assert [one["role"] for one in spec.files] == ["tokenizer", "weights"]
    assert spec.files[1]["sha256"] == SHA


GOOD = 'source = "https://h.example/w.safetensors"'


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("", None, "`schema = 1` is missing", None),
        ("schema = 2\n", 1, "schema 2 is not known", "newer"),
        ('schema = "1"\n', 1, "must be an integer", None),
        ("schema = true\n", 1, "must be an integer", None),
        ("schema = 1\nwieghts = 1\n", 2, "'wieghts'", "'weights'"),
        ("schema = 1\n[weight]\n", 2, "'weight'", "'weights'"),
        ("schema = 1\nweights = 3\n", 2, "must be a table", None),
        ("schema = 1\n\n[plugins]\ndisable = []\n", 4, "'disable'", "'disabled'"),
        ("schema = 1\n\n[plugins]\ndisabled = 'a'\n", 4, "list of strings", None),
        ("schema = 1\n\n[plugins]\nrequired = ['>=']\n", 4, "not a requirement", "name>="),
        ("schema = 1\n[aliases]\na = 3\n", 3, "stands for a name", None),
        ("schema = 1\n[aliases]\na = 'b c'\n", 3, "is not a name", None),
        ("schema = 1\n[aliases]\n'a.b' = 'c'\n", 3, "neither", None),
        (entry(GOOD + "\nsha265 = 'x'"), 6, "'sha265'", "'sha256'"),
        (entry(GOOD + "\nfrobnicate = 'x'"), 6, "'frobnicate'", "Known here"),
        (entry(GOOD + "\nsha256 = 'ABC'"), 6, "64 hexadecimal", None),
        (entry(GOOD + "\nsha256_prefix = 'xyz'"), 6, "6 to 64", None),
        (entry(GOOD + "\ndefault = 1"), 6, "true or false", None),
        (entry(GOOD + "\nbytes = -1"), 6, "positive integer", None),
        (entry(GOOD + "\nbytes = true"), 6, "positive integer", None),
        (entry(GOOD + "\nnum_classes = 1.5"), 6, "positive integer", None),
        (entry(GOOD + "\nlicense = ''"), 6, "non-empty string", None),
        (entry(GOOD + "\ntrained_on = ['a']"), 6, "not a list", None),
        (entry(GOOD + "\noptions = 3"), 6, "must be a table", None),
        (entry(GOOD + "\noptions = { build = { code = 'os:system' } }"), 6, "the option build", None),
        (entry(GOOD + "\noptions = { when = 1979-05-27 }"), 6, "the option when", None),
        (entry(GOOD + "\nmetrics = { top1 = 'x' }"), 6, "finite number", None),
        (entry(GOOD + "\nmetrics = { top1 = nan }"), 6, "finite number", None),
        (entry(GOOD + "\npreprocessing = 'x'"), 6, "must be a table", None),
        (entry(GOOD + "\npreprocessing = { mena = [1] }"), 6, "'mena'", "'mean'"),
        (entry(GOOD + "\npreprocessing = { mean = [0.5] }"), 6, "each of 3 channels", None),
        (entry(GOOD + "\npreprocessing = { std = [0.5, 0.0, 0.5] }"), 6, "above zero", None),
        (entry(GOOD + "\npreprocessing = { input_size = [224, 224] }"), 6, "channels, height, width", None),
        (entry(GOOD + "\npreprocessing = { input_size = [3, 0, 224] }"), 6, "positive integer", None),
        (entry(GOOD + "\npreprocessing = { interpolation = 'cubic' }"), 6, "one of nearest", None),
        (entry(GOOD + "\npreprocessing = { crop_pct = 87.5 }"), 6, "at most 1", None),
        (entry(GOOD + "\npreprocessing = { crop_mode = 'top' }"), 6, "one of center", None),
        (entry(GOOD + "\npreprocessing = { kind = 3 }"), 6, "non-empty string", None),
        (entry("source = 'model.safetensors'"), 5, "no scheme", "hf://"),
        (entry("source = 'http://h.example/w'"), 5, "plain http", "https://"),
        (entry("source = 'hf://timm/x/model.safetensors'"), 5, "not a Hub source", "REVISION"),
        (entry("source = 'hf://timm/x@main/../../etc'"), 5, "not a Hub source", None),
        (entry("source = 'file://host/w'"), 5, "another machine", None),
        (entry("source = 'file:'"), 5, "names no file", None),
        (entry("files = []"), 5, "list of tables", None),
        (entry("files = [{ role = 'weights' }]"), 5, "needs a source", None),
        (entry("files = [{ source = 'file:x', sha = 'y' }]"), 5, "'sha'", "'sha256'"),
        (entry(""), 3, "'source' is missing", None),
        ('schema = 1\n[weights."net.tag"]\nsource = "file:w"\n', 2, "'backbone' is missing", None),
        (entry(GOOD, "net"), 3, "tag", None),
        (entry(GOOD, "other.tag"), 3, "must be named net.TAG", None),
        ("schema = 1\n[weights]\nnet = 3\n", 3, "must be a table", "Quote"),
        (entry(GOOD + "\ndefault = true") + f'[weights."net.b"]\nbackbone="net"\n{GOOD}\ndefault = true\n', 10,
         "net.tag is the default of net already", None),
    ],
)  # fmt: skip
def test_what_breaks_the_schema(tmp_path: Path, text: str, line: int | None, says: str, hint: str | None) -> None:
    with pytest.raises(RegistryError) as caught:
        read(tmp_path, text)
    message = caught.value.message
    assert message.startswith(str(tmp_path / "registry.toml"))
    assert says in message
    assert (f", line {line}:" in message) if line else (", line" not in message)
    assert hint is None or hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_broken_toml_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"registry\.toml: not TOML.*line 2"):
        read(tmp_path, "schema = 1\n[weights\n")


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"schema = 1\n# \xff\n")
    with pytest.raises(RegistryError, match="UTF-8"):
        ledger.read(tmp_path / "r.toml")


def test_absent_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        ledger.read(tmp_path / "none.toml")
    with pytest.raises(NotFoundError):
        ledger.read(tmp_path)


def test_a_project_keeps_to_its_folder(tmp_path: Path) -> None:
    outside = tmp_path / "out.safetensors"
    outside.write_bytes(b"")
    project = tmp_path / "project"
    project.mkdir()
    (project / "link.safetensors").symlink_to(outside)
    for source in ("file:../out.safetensors", f"file:{outside}", "file:link.safetensors"):
        text = entry(f"source = '{source}'")
        with pytest.raises(RegistryError, match="lies outside"):
            read(project, text, "project")
        assert read(project, text, "user").weights["net.tag"].source == f"file:{outside}"
    assert read(project, entry("source = 'file:in.safetensors'"), "project").weights


def test_a_plugin_may_not_say_which_plugins_are_loaded(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="may not say which plugins"):
        read(tmp_path, "schema = 1\n[plugins]\ndisabled = ['x']\n", "plugin")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for whole in (text, "schema = 1\n" + text, entry(text)):
        with suppress(ZooError):
            assert ledger.parse(whole, Path("registry.toml")).layer == "given"


def _alias_file(tmp_path: Path, name: str, aliases: dict[str, str]) -> ledger.LedgerFile:
    body = "".join(f'{alias} = "{to}"\n' for alias, to in aliases.items())
    path = tmp_path / name
    path.write_text(f"schema = 1\n[aliases]\n{body}")
    return ledger.read(path)


def test_aliases_of_aliases(tmp_path: Path) -> None:
    low = _alias_file(tmp_path, "low.toml", {"a": "b", "b": "resnet18.x"})
    high = _alias_file(tmp_path, "high.toml", {"b": "vgg11"})
    assert ledger.follow("a", ledger.merge_aliases([low])) == "resnet18.x"
    assert ledger.follow("a", ledger.merge_aliases([low, high])) == "vgg11"
    assert ledger.follow("other", ledger.merge_aliases([low])) == "other"


def test_aliases_in_a_circle(tmp_path: Path) -> None:
    files = [_alias_file(tmp_path, "1.toml", {"a": "b"}), _alias_file(tmp_path, "2.toml", {"b": "c", "c": "a"})]
    with pytest.raises(RegistryError, match="circle: a -> b -> c -> a"):
        ledger.merge_aliases(files)
    with pytest.raises(RegistryError, match="circle: a -> a"):
        ledger.merge_aliases([_alias_file(tmp_path, "3.toml", {"a": "a"})])


def test_aliases_through_too_many(tmp_path: Path) -> None:
    chain = {f"a{n}": f"a{n + 1}" for n in range(ledger.MAX_LINKS)}
    assert ledger.merge_aliases([_alias_file(tmp_path, "1.toml", chain)])
    chain["a8"] = "a9"
    chain["a9"] = "a10"
    with pytest.raises(RegistryError, match="more than 8"):
        ledger.merge_aliases([_alias_file(tmp_path, "2.toml", chain)])


def test_the_standard_layers(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    given = tmp_path / "given.toml"
    for path in (home / "registry.toml", project / "registry.toml", given):
        path.write_text("schema = 1\n")
    monkeypatch.setenv("ZOO_REGISTRY", str(given))
    layers = ledger.standard_paths(Settings())
    assert [layer for layer, _ in layers] == ["shipped", "user", "project", "given"]
    assert layers[0][1] == ledger.shipped_path()


def test_one_file_counts_once(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "registry.toml").write_text("schema = 1\n")
    monkeypatch.chdir(home)
    assert [layer for layer, _ in ledger.standard_paths(Settings())] == ["shipped", "user"]
    monkeypatch.setenv("ZOO_REGISTRY", "registry.toml")
    assert [layer for layer, _ in ledger.standard_paths(Settings())] == ["shipped", "given"]
    shipped = ledger.shipped_path()
    assert shipped is not None
    monkeypatch.delenv("ZOO_REGISTRY")
    monkeypatch.chdir(shipped.parent)
    assert [layer for layer, _ in ledger.standard_paths(Settings())] == ["shipped", "user"]


def test_a_registry_that_was_asked_for_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_REGISTRY", str(tmp_path / "none.toml"))
    with pytest.raises(NotFoundError, match="ZOO_REGISTRY"):
        ledger.standard_paths(Settings())


def test_the_shipped_file_is_sound() -> None:
    path = ledger.shipped_path()
    assert path is not None
    assert ledger.read(path, "shipped").layer == "shipped"
