"""Several names at once: all are resolved before anything is fetched, and what was done is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from zoo.catalog import licenses, names
from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError, NotFoundError, UsageError, ZooError
from zoo.weights.lock import Lock
from zoo.weights.pull import Note, Pulled, drift, drifted, pull
from zoo.weights.source import single

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: Told (name, bytes so far, bytes in all or 0) while bytes arrive.
Told = Callable[[str, int, int], None]


def chosen(written: Iterable[str], registry: Registry) -> list[Weights]:
    """The weights that names and globs stand for, each once, in the order written.

    A glob with a dot is matched with `arch.tag`; one without, with architectures, of each of which it means the
    default weights.

    Raises:
        NotFoundError: a name that nobody has, or a glob that matches nothing.
    """
    found: dict[str, Weights] = {}
    for name in written:
        for weights in _matching(name, registry) if names.is_glob(name) else [_named(name, registry)]:
            found.setdefault(weights.name, weights)
    return list(found.values())


def _named(name: str, registry: Registry) -> Weights:
    weights = registry.resolve(name)[1]
    assert weights is not None  # "default" never means none
    return weights


def _matching(glob: str, registry: Registry) -> list[Weights]:
    if "." in glob:
        fits = names.matcher(glob.rpartition("/")[2])
        found = [one for one in registry.weights(glob) if fits(one.name)]
    else:
        defaults = (registry.default_weights(one) for one in registry.backbones(glob))
        found = [weights for weights in defaults if weights is not None]
    if not found:
        raise NotFoundError(
            f"nothing with weights matches {glob!r}",
            hint="A glob without a dot means architectures, one with a dot means weights: 'resnet18.*'.",
        )
    return found


def pull_each(
    wanted: Iterable[Weights],
    registry: Registry,
    *,
    locked: bool = False,
    update: bool = False,
    told: Told | None = None,
    note: Note | None = None,
    arrived: Callable[[Weights, Pulled], None] | None = None,
) -> list[Pulled]:
    """Pull one after the other. Weights that are not there, or not what was promised, do not stop the others; a
    network or a disk that fails does, for it would fail again.

    Args:
        told: of the bytes that arrive.
        note: told what is waited for.
        arrived: told of each that is here, whatever becomes of the next.

    Raises:
        ZooError: the first failure, with notes that say what else failed and what was done; its `facts` hold the
            rows that were pulled as `done`.
    """
    wanted = [single(weights) for weights in wanted]
    settings = registry.settings
    if locked:
        if update:
            raise UsageError("--locked and --update exclude each other")
        lock = Lock.of(settings)
        if reasons := [why for weights in wanted if (why := drift(weights, lock)) is not None]:
            raise drifted(reasons, lock)
    done: list[Pulled] = []
    failed: dict[str, ZooError] = {}
    for weights in wanted:
        tick = (lambda have, total, name=weights.name: told(name, have, total or 0)) if told else None
        try:
            done.append(
                pull(
                    weights,
                    settings=settings,
                    registry=registry,
                    locked=locked,
                    update=update,
                    asked=True,
                    progress=tick,
                    note=note,
                )
            )
            if arrived is not None:
                arrived(weights, done[-1])
        except (NotFoundError, IntegrityError) as error:
            failed[weights.name] = error
        except ZooError as error:
            failed[weights.name] = error
            break
    if failed:
        raise _told(failed, done, [weights.name for weights in wanted])
    return done


def _told(failed: dict[str, ZooError], done: list[Pulled], wanted: list[str]) -> ZooError:
    (_, first), *others = failed.items()
    first.facts = {"done": [one.row() for one in done], "failed": list(failed)}
    if len(wanted) > 1:
        here = [one.name for one in done]
        left = [name for name in wanted if name not in failed and name not in here]
        for name, error in others:
            first.add_note(f"{name}: {error.message}")
        for what, some in (("here now", here), ("not tried", left)):
            if some:
                first.add_note(f"{what}: {', '.join(some)}")
    return first


def notes_of(weights: Weights, got: Pulled, locked_at: object) -> list[str]:
    """What a person should know about weights that were just pulled: terms, and what their hash was compared with.

    Args:
        locked_at: the lock file, for the text.
    """
    said = []
    if (warning := licenses.warning(weights.license)) is not None:
        said.append(f"{got.name}: {warning}")
    if got.trusted:
        pin = weights.sha256_prefix
        what = f"only the first {len(pin)} digits of its sha256 are published" if pin else "no sha256 pins it"
        said.append(f"{got.name}: {what}: trusted on first use, from now on {locked_at} pins it")
    if got.previous is not None:
        said.append(f"{got.name}: {_changed(got)}")
    return said


def _changed(got: Pulled) -> str:
    before = got.previous
    assert before is not None
    old, new = (before.revision, got.revision) if before.revision != got.revision else (before.sha256, got.sha256)
    return f"{(old or before.sha256)[:12]} -> {(new or got.sha256)[:12]}"
