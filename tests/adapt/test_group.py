"""Several processes fit one model: as one process would, whatever the batches, and with nothing written twice.

One process imports everything once and forks those that meet.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.adapt.group import ALONE, Group, LostError, _lost
from zoo.adapt.stepper import labelled_share

PROGRAM = '''
import json, os, shutil, signal, sys, traceback
from pathlib import Path

import numpy as np
import sklearn.datasets
import torch

import zoo
import accelerate.state, filelock, numpy.ma, safetensors.torch, torch._dynamo
import zoo.adapt.features, zoo.adapt.saved, zoo.adapt.teacher, zoo.data.open, zoo.report.card
from zoo.adapt import group as groups
from zoo.adapt.group import ALONE, LostError, apart, join
from zoo.adapt.training import _Loop
from zoo.testing.networks import Tiny
from zoo_plugins.strategies.distillation import strategy
from zoo_plugins.strategies.from_scratch import strategy

here = Path(sys.argv[1])
torch.set_num_threads(1)
random = np.random.default_rng(0)
y = np.arange(75) % 3
x = (np.eye(3)[y][:, None, None, :] * 90 + random.integers(0, 160, (75, 8, 8, 3))).astype(np.uint8)
FEW = {"target": "rest", "labels_per_class": 4}
TRAINED = {"epochs": 40, "batch_size": 16, "optimizer": "sgd", "lr": 0.002, "batchnorm": "frozen"}
number = [0]


def together(count, what):
    """What `what(rank)` gives in each of `count` processes; an int = how that one ended."""
    number[0] += 1
    place = here / f"meeting-{number[0]}"
    place.mkdir()
    children = []
    for rank in range(count):
        pid = os.fork()
        if not pid:
            try:
                os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), groups.MEETING: str(place / "store")}
                (place / f"{rank}.json").write_text(json.dumps(what(rank)))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    return [json.loads((place / f"{r}.json").read_text()) if not code else code for r, code in enumerate(codes)]


torch.manual_seed(0)
network = Tiny(num_classes=3)
network.dropout.p = 0.0  # whose masks are drawn by each process for itself
reads = zoo.Preprocessing(input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear", crop_pct=1.0)


def fit(strategy, data, run=None, fitted=None, **options):
    learner = zoo.compose(
        network, strategy, preprocessing=reads, precision="fp32", accelerator="cpu", seed=1, **options
    )
    learner.fit(data, resume=run, **(fitted or {}))
    return learner


def weights(learner):
    return {name: tensor.double().tolist() for name, tensor in learner.model.state_dict().items()}


def distance(one, other):
    return max(float(np.abs(np.asarray(one[name]) - np.asarray(other[name])).max()) for name in one)


found = {}


def primitives(rank):
    group = join(torch.device("cpu"))
    assert (group.rank, group.size) == (rank, 3) and join(torch.device("cpu")).size == 3
    with apart():
        assert join(torch.device("cpu")) is ALONE
    assert group.each({"rank": rank * "x"}) == [{"rank": ""}, {"rank": "x"}, {"rank": "xx"}]
    assert group.first([rank]) == [0]
    assert group.any(rank == 2) and not group.any(False)
    assert group.union(np.arange(4) == rank).tolist() == [True, True, True, False]
    a, b, c = torch.full((2, 3), rank + 1.0), torch.tensor([rank, 1]), torch.ones(2, 3, 4, 4).to(
        memory_format=torch.channels_last) * rank
    group.sum([a, b, c])
    assert (a == 6).all() and b.tolist() == [3, 3] and (c == 3).all()
    mine = torch.tensor([-0.0, float(rank)])
    group.align([mine])
    assert mine.tolist() == [0, 0] and str(mine[0].item()) == "-0.0"
    mean = [torch.tensor([rank * 3.0]), torch.tensor([rank])]
    group.average(mean)
    assert mean[0].item() == 3 and mean[1].item() == rank
    for total in (1, 2, 3, 7, 8):
        for whole in (1, 3):
            part = torch.arange(total * 2.0).reshape(total, 2)[group.part(total, whole=whole)]
            part = torch.empty(0) if group.repeats(total, whole=whole) else part
            assert torch.equal(group.gather(part, total, whole), torch.arange(total * 2.0).reshape(total, 2)), total
    free, used, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    frozen = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    used.grad = torch.ones(2) if rank == 1 else None
    free.grad = torch.ones(2) * rank
    group.gradients([free, used, unused, frozen])
    assert free.grad.tolist() == [3, 3] and used.grad.tolist() == [1, 1]
    assert unused.grad is None and frozen.grad is None
    return True


assert together(3, primitives) == [True] * 3

# Gradient strategies: the weights of one process, for batches that do not divide, and labels that are spread unevenly.
teacher = fit("fine-tune", (x, y), epochs=3)
cases = {
    "fine-tune": lambda: fit("fine-tune", (x, y), init="probe", layer_decay=0.7, **TRAINED),
    "accumulate": lambda: fit("fine-tune", (x, y), init="random", accumulate=2, ema=0.9, clip=0.1, **TRAINED),
    "distillation": lambda: fit(
        "distillation", (x, y), None, FEW, teacher=teacher, init="random", **TRAINED
    ),
    "early stop": lambda: fit("fine-tune", (x, y), init="random", early_stop=60, **TRAINED),
}
for name, case in cases.items():
    alone = case()
    for count in (2, 3) if name == "fine-tune" else (2,):

        def told(rank):
            learner = case()
            assert learner.processes == count and learner.leads == (rank == 0)
            return [weights(learner), learner.history, learner.evaluation.as_json()]

        ranks = together(count, told)
        assert all(one[0] == ranks[0][0] for one in ranks), name  # every process ends with the same
        assert all(one[2] == ranks[0][2] for one in ranks), name
        found[f"{name} {count}"] = distance(weights(alone), ranks[0][0])
        assert abs(ranks[0][2]["log_loss"] - alone.evaluation.scores["log_loss"]) < 1e-5
        assert ranks[0][2]["n"] == alone.evaluation.n
        for there, here_ in zip(ranks[0][1], alone.history, strict=True):
            numbers = {key for key in here_ if key not in ("seconds", "rows_per_second")}
            assert set(there) >= numbers
            assert all(abs(there[key] - here_[key]) < 1e-5 for key in numbers), (name, there, here_)

# A closed form is solved by each, on features that they computed together.
alone = fit("linear-probe", (x, y))
ranks = together(2, lambda rank: [weights(fit("linear-probe", (x, y))), fit("linear-probe", (x, y)).processes])
assert ranks == [[weights(alone), 2]] * 2

# Where BatchNorm trains, every process ends with the same statistics, and one row more than batches is no fault.
odd = (x[:74], y[:74])
ranks = together(2, lambda rank: weights(fit("fine-tune", odd, epochs=2, batch_size=29, batchnorm="train")))
assert ranks[0] == ranks[1]

# What no step changes stays to the last bit: a mean of three equal numbers may be rounded.


def unchanged(rank):
    network.layer1.register_buffer("constant", torch.linspace(0.1, 0.9, 99))
    assert not torch.equal(sum([network.layer1.constant] * 3) / 3, network.layer1.constant)
    learner = fit("fine-tune", (x, y), epochs=2, batch_size=16, batchnorm="train", freeze="stem", wise=0.3)
    now, was = learner.model.backbone.module, network.state_dict()
    same = [name for name, tensor in now.state_dict().items() if torch.equal(tensor, was[name])]
    return [same, weights(learner)]


ranks = together(3, unchanged)
assert ranks[0] == ranks[1] == ranks[2]
assert "conv.weight" in ranks[0][0] and "layer1.constant" in ranks[0][0], ranks[0][0]
assert not any("layer1.1" in name and "num_batches" not in name for name in ranks[0][0]), ranks[0][0]

# Each sample passes the network once, in one of them; features are those of one process; the leading one alone writes.
WRITES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree"}
listening = [None, []]


def ear(event, args):
    if listening[0] is None or not isinstance(args[0], (str, os.PathLike)):
        return
    if not os.fspath(args[0]).startswith(listening[0]):
        return
    if event in WRITES or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        listening[1].append([event, os.fspath(args[0])])


sys.addaudithook(ear)
home = os.environ["ZOO_HOME"]


def watched(rank):
    rows, plain = [], zoo.adapt.features.extract

    def counting(network, split, *more, **named):
        rows.extend(split.digests())
        return plain(network, split, *more, **named)

    zoo.adapt.features.extract = counting
    place = here / "watched"
    listening[0] = str(here.parent)
    learner = fit("fine-tune", (x, y), place, epochs=2, init="probe")
    learner.save(place)
    listening[0] = None
    return [rows, [one for one in listening[1] if "meeting" not in one[1]], learner.processes]


ranks = together(2, watched)
assert not set(ranks[0][0]) & set(ranks[1][0])
assert len(ranks[0][0] + ranks[1][0]) == len(set(ranks[0][0] + ranks[1][0])) == 75  # 60 for the probe, 15 reported
assert ranks[0][1] and not ranks[1][1], ranks[1][1]
assert sorted(path.name for path in (here / "watched").iterdir()) == [
    "README.md", "checkpoints", "history.jsonl", "learned.bin", "model.safetensors", "run.json"]
assert json.loads((here / "watched" / "run.json").read_text())["processes"] == 2

# A loss that is not finite stops all of them, and the rows are those of the whole batch.


def stopped(rank):
    try:
        fit("fine-tune", (x, y), epochs=2, init="random", lr=1e30, clip=None, optimizer="sgd", batch_size=60)
    except zoo.errors.TrainingError as error:
        return [type(error).__name__, error.why]


ranks = together(2, stopped)
assert ranks[0] == ranks[1] and ranks[0][0] == "TrainingError", ranks
assert ranks[0][1].startswith("Rows of the batch: "), ranks

# A process that dies: the others end, and what they kept goes on, in as many processes or in one.
steady = {**TRAINED, "epochs": 4}
whole = weights(fit("fine-tune", (x, y), init="random", **steady))


def dies(rank):
    try:
        keep = _Loop._stop_if_asked

        def or_die(self):
            if self.stepper.done == 6 and rank == doomed:
                os.kill(os.getpid(), signal.SIGKILL)
            keep(self)

        _Loop._stop_if_asked = or_die
        fit("fine-tune", (x, y), here / f"dies-{doomed}", init="random", **steady)
    except LostError as error:
        return [error.exit_code, error.__notes__ if hasattr(error, "__notes__") else []]


for doomed in (0, 1):
    ranks = together(2, dies)
    assert ranks[doomed] == -9, ranks
    other = ranks[1 - doomed]
    assert other[0] == 7, ranks
    steps = sorted(path.name for path in (here / f"dies-{doomed}" / "checkpoints").iterdir() if path.name[0] != ".")
    assert steps == (["step-00000004"] if doomed == 0 else ["step-00000004", "step-00000006"]), steps
    shutil.copytree(here / f"dies-{doomed}", here / f"again-{doomed}")
    alone = fit("fine-tune", (x, y), here / f"again-{doomed}", init="random", **steady)
    assert any("went on" in note for note in alone.notes)
    run = here / f"dies-{doomed}"
    ranks = together(2, lambda rank: weights(fit("fine-tune", (x, y), run, init="random", **steady)))
    assert ranks[0] == ranks[1]
    found[f"resumed {doomed}"] = max(distance(whole, ranks[0]), distance(whole, weights(alone)))

print(json.dumps(found))
'''


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="forks after importing torch")
def test_many_processes_are_as_one(tmp_path: Path, home: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ZOO_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 7
    assert all(distance < 1e-6 for distance in found.values()), found


def test_parts_cover_every_row_once() -> None:
    for size in (1, 2, 3, 5):
        for rows in (1, 2, 3, 4, 7, 32):
            for least, whole in ((1, 1), (2, 1), (1, 3)):
                seen: list[int] = []
                for rank in range(size):
                    group = Group(rank, size)
                    part = list(range(rows))[group.part(rows, least, whole)]
                    assert len(part) >= min(least, rows)
                    assert part[0] % whole == 0
                    seen += [] if group.repeats(rows, least, whole) else part
                assert seen == list(range(rows)), (size, rows, least)


def test_alone_everything_stays_with_this_process() -> None:
    assert ALONE.leads
    assert not ALONE.together
    assert ALONE.each(3) == [3]
    assert not ALONE.repeats(1)


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:45171", True),
        ("[/gloo/transport/tcp/pair.cc:547] Read error [127.0.0.1]:2: Connection reset by peer", True),
        ("[/gloo/transport/tcp/pair.cc:399] writev [127.0.0.1]:23: Broken pipe", True),
        ("[/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1000ms for recv operation to complete", True),
        ("NCCL error: remote process exited or there was a network error", True),
        ("[enforce fail at /gloo/transport/tcp/pair.cc:446] op.preamble.length <= op.nbytes. 8 vs 4", False),
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", False),
        ("The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0", False),
    ],
)
def test_only_an_ended_connection_says_that_a_process_ended(said: str, lost: bool) -> None:
    with pytest.raises(RuntimeError if not lost else LostError) as caught, _lost():
        raise RuntimeError(said)
    assert isinstance(caught.value, LostError) == lost
    assert said in (caught.value.why if lost else str(caught.value))


def test_labels_count_by_how_many_there_are() -> None:
    import torch

    whole = torch.tensor([0, 1, -1, -1, -1, 2])
    shares = [labelled_share(part, whole) * len(part) / len(whole) for part in (whole[:3], whole[3:])]
    assert shares == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert labelled_share(whole, whole) == 1
    assert labelled_share(whole[2:4], whole[2:5]) == 1  # none has any
