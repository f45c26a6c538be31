"""Runs made of stages: each is driven once, a killed one continues to the same numbers, the whole knows how far it is."""

import time

import numpy as np
import pytest

from heatbath.errors import CheckpointError, RunDirectoryError
from heatbath.experiments import drive as driving
from heatbath.experiments.drive import Limits, Progress, Reason, StopRequests
from heatbath.experiments.stages import Stage, begun, drive_stages, stage_runs, total_cost
from heatbath.io.arrays import ArrayStore
from heatbath.io.run_directory import RunDirectory
from heatbath.samplers.base import Cost


class StopAfter(StopRequests):
    """Requests a stop when asked for the ``count``-th time."""

    def __init__(self, count):
        self.count = count

    @property
    def requested(self):
        self.count -= 1
        return "SIGTERM" if self.count < 0 else None


class Listener(Progress):
    def __init__(self):
        self.phases = []

    def beat(self, beat):
        self.phases.append(beat.phase)


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(driving, "CHECKPOINT_SHARE", 1e9)
    return lambda name: RunDirectory.create(tmp_path / name, {"resolved.toml": ""})


@pytest.fixture
def two(small_sampler):
    """A second stage whose length depends on what the first has drawn."""

    def second(done):
        return small_sampler(draws=len(np.ravel(done["first"].sampled().ensemble.energies)) // 6, warmup=5)

    return lambda: (Stage("first", lambda done: small_sampler(draws=20)), Stage("second", second, share=3.0))


def arrays(run):
    return [ArrayStore(folder / "ensemble").read() for folder in run.stage_folders()]


def assert_same(run, other):
    for first, second in zip(arrays(run), arrays(other), strict=True):
        assert set(first) == set(second)
        for name, rows in first.items():
            assert rows.tobytes() == second[name].tobytes()


@pytest.fixture
def whole(make, two, key):
    run, listener = make("whole"), Listener()
    driven = drive_stages(two(), key, run, progress=listener)
    return run, driven, listener


def test_stages_follow_one_another(whole, two, key):
    """The second must begin after the first has ended, with what it left; progress names the stage."""
    run, driven, listener = whole
    assert driven.reason is Reason.FINISHED
    assert [folder.name for folder in run.stage_folders()] == ["1-first", "2-second"]
    assert listener.phases[0] == "1/2 first, warm-up"
    assert listener.phases[-1] == "2/2 second, production"
    assert listener.phases == sorted(listener.phases, key=lambda phase: phase[0])
    assert [len(found["energies"]) for found in arrays(run)] == [20, 10]
    record = run.record()
    assert record["finished"]
    assert record["progress"] == pytest.approx(1.0)
    assert record["draws"] == 30
    done = driven.carry
    assert done["second"].sampled().ensemble.energies.shape == (3, 10)
    # an energy twice, under one key, would be the same chain again
    assert not np.isin(arrays(run)[1]["energies"], arrays(run)[0]["energies"]).any()


@pytest.mark.parametrize("chunks", [0, 1, 5, 7, 8])
def test_a_stopped_run_continues_to_the_same_numbers(make, two, key, whole, chunks):
    """Stopped before, in and between stages; finished stages are not driven again."""
    run = make("stopped")
    driven = drive_stages(two(), key, run, stop=StopAfter(chunks))
    assert driven.reason is Reason.SIGNAL
    assert "in stage" in driven.where
    record = run.record()
    assert not record["finished"]
    assert record["stage"] == ("first" if chunks < 6 else "second")
    before = (run.path / "stages/1-first/metrics.jsonl").stat().st_size if chunks > 6 else None
    assert drive_stages(two(), key, run).reason is Reason.FINISHED
    assert_same(run, whole[0])
    if before is not None:
        assert (run.path / "stages/1-first/metrics.jsonl").stat().st_size == before
    again = drive_stages(two(), key, run)
    assert again.reason is Reason.FINISHED
    assert again.draws == 30
    assert_same(run, whole[0])


def test_the_deadline_stops_the_whole(make, two, key):
    """A time limit is for the run, not for each of its stages."""
    driven = drive_stages(two(), key, make("late"), limits=Limits(deadline=time.monotonic()))
    assert driven.reason is Reason.TIME
    assert driven.where.startswith("in stage 1 of 2, first, 0 %")


def test_what_has_begun(make, two, key):
    """Results of a run that was stopped early may use the stages that left something, and no others."""
    run = make("begun")
    assert begun(stage_runs(two(), run, key)) == {}
    drive_stages(two(), key, run, stop=StopAfter(3))
    found = begun(stage_runs(two(), run, key))
    assert list(found) == ["first"]
    assert not found["first"].finished
    assert found["first"].sampled().ensemble.energies.shape == (3, 5)


def test_damage_is_no_fresh_start(make, two, key):
    """A stage whose checkpoints are all damaged must not begin again silently."""
    run = make("damaged")
    drive_stages(two(), key, run, stop=StopAfter(3))
    for file in (run.path / "stages/1-first/state").rglob("meta.json"):
        file.write_text("{")
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        drive_stages(two(), key, run)


def test_a_stage_without_draws_says_so(make, key, normal_trainer):
    """Asking a training for an ensemble is a mistake of the program, and its message names the stage."""
    run = make("training")
    driven = drive_stages((Stage("training", lambda done: normal_trainer()),), key, run)
    here = driven.carry["training"]
    assert int(here.carry.step) == 20
    assert run.record()["draws"] == 0
    with pytest.raises(RunDirectoryError, match=r"'training'.*no draws"):
        here.sampled()
    reread = stage_runs((Stage("training", lambda done: normal_trainer()),), run, key)["training"]
    assert (reread.carry.params.mean == here.carry.params.mean).all()


def test_costs_add_up():
    """Memory is that of the largest stage, the rest are sums; one unknown makes the sum unknown."""
    found = total_cost([Cost(10, 100, 5), Cost(1, 300, 7)])
    assert found == {"energy_evaluations": 11, "memory_bytes": 300, "disk_bytes": 12}
    assert set(total_cost([Cost(1, 1, 1), None]).values()) == {None}


@pytest.fixture
def normal_trainer():
    import jax
    import jax.numpy as jnp

    from heatbath.models.base import Distribution
    from heatbath.training import Trainer
    from heatbath.training.objectives import MaximumLikelihood

    class Shifted(Distribution):
        mean: jax.Array

        def sample(self, key):
            return self.mean + jax.random.normal(key, self.mean.shape)

        def log_prob(self, x):
            return -0.5 * jnp.sum((x - self.mean) ** 2)

    data = jnp.linspace(0.0, 1.0, 32)[:, None]
    return lambda: Trainer(Shifted(jnp.zeros(1)), MaximumLikelihood(), data, steps=20, batch_size=8, steps_per_chunk=6)
