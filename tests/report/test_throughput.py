import torch

from wsd_distill.report import throughput


def test_throughput_is_images_over_the_median_time(monkeypatch):
    """A clock with 1, 2 and 6 seconds for the three measured rounds of each model, after two of warm-up."""
    seconds = iter([9, 9, 9, 9, 1, 1, 2, 2, 6, 6])
    now, starts = [0], [True]

    def clock():
        if not starts[0]:
            now[0] += next(seconds)
        starts[0] = not starts[0]
        return now[0]

    monkeypatch.setattr(throughput.time, "perf_counter", clock)
    model = torch.nn.Identity()
    assert throughput.images_per_second({"one": (model, [{}]), "ten": (model, [{}] * 10)}, rounds=3) == {
        "one": 0.5,
        "ten": 5,
    }


def test_throughput_on_one_core_and_threads_are_restored(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before, seen = torch.get_num_threads(), []

    class Model(torch.nn.Module):
        def forward(self, batch):
            seen.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        throughput.images_per_second({"one": (Model(), [{}])}, rounds=1)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
