"""Proposals on a local Ray with two workers; skipped where Ray is not installed."""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import os

import numpy as np
import pytest
from helpers.builders import Proposer
from helpers.running import ENVIRONMENT
from PIL import Image

from wsd_distill.data.proposal_store import ProposalStore
from wsd_distill.proposals.generate import InvalidScoresError, generate

pytest.importorskip("ray", reason="Ray is not installed: pip install wsd_distill[cluster]")

from wsd_distill import ray_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, ray_home):
    """A folder that is the working folder of this process, and a cluster with two CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("ray")
        patch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
        patch.setenv("HOME", str(ray_home))
        patch.setattr(os, "cpu_count", lambda: 2)
        patch.chdir(folder)
        for i in range(9):
            Image.fromarray(np.full((20, 30, 3), i, np.uint8)).save(f"{i}.png")
        (folder / "7.png").unlink()
        with ray_cluster.connect():
            yield folder


def run(proposer, output, **options):
    records = [{"image_id": i, "file_name": f"{i}.png"} for i in range(9)]
    return generate(records, "d", proposer, output, num_workers=0, images_per_part=2, **options)


def test_the_store_is_that_of_one_process_bit_by_bit(cluster):
    proposer = Proposer(side_effect={3: RuntimeError("no boxes")})
    expected, found = (
        run(proposer, name, **options)
        for name, options in (("a.arrow", {}), ("b.arrow", {"run_jobs": ray_cluster.run_ray_jobs}))
    )
    assert list(found.metadata.failures) == ["3", "7"]
    assert found.metadata.failures["3"] == "3.png: RuntimeError: no boxes"
    assert (cluster / "a.arrow").read_bytes() == (cluster / "b.arrow").read_bytes()
    assert not os.path.exists("b.arrow.parts") and len(expected) == 9


def test_finished_parts_are_kept(cluster):
    with pytest.raises(InvalidScoresError, match=r"^5.png: counting"):
        run(
            Proposer(side_effect={5: (np.ones((1, 4), np.float32), np.array([2.0], np.float32))}),
            "c.arrow",
            run_jobs=ray_cluster.run_ray_jobs,
        )
    kept = sorted(name for name in os.listdir("c.arrow.parts") if name.endswith(".arrow"))
    assert "000002.arrow" not in kept  # images 4 and 5
    before = {name: os.stat(f"c.arrow.parts/{name}").st_ino for name in kept}
    again = Proposer()
    jobs = []

    def record_jobs(function, missing, num_workers):
        jobs.extend(os.path.basename(job[1]) for job in missing)
        assert {name: os.stat(f"c.arrow.parts/{name}").st_ino for name in kept} == before
        return ray_cluster.run_ray_jobs(function, missing, num_workers)

    run(again, "c.arrow", run_jobs=record_jobs)
    assert sorted(jobs + kept) == [f"{i:06d}.arrow" for i in range(5)]
    store = ProposalStore("c.arrow")
    assert {int(key): boxes[0, 2] for key, (boxes, _) in store.items() if len(boxes)} == {
        i: i + 1 for i in range(9) if i != 7
    }
