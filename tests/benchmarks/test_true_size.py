import argparse

import numpy as np
import pytest
import torch
from helpers.benchmarks import load_benchmark
from torch import nn

benchmark = load_benchmark("true_size")
Forward = benchmark["Forward"]
SMALL = {"threads": 1, "repeats": 1, "student_side": 32, "proposals": 20, "classes": 5, "width": 16}
RESULTS = [
    {"case": "a", "side": 224, "seconds": 0.5, "flops": 30e9, "memory": 1000.0, "peak": 100e9},
    {"case": "b", "side": 672, "seconds": 6.0, "flops": 360e9, "memory": 2500.0, "peak": 80e9},
]


class TinyModel(nn.Module):
    """A convolution and a linear layer with names that are in PARTS."""

    def __init__(self):
        super().__init__()
        self.backbone, self.classifier = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 8 * 8, 5)

    def forward(self, batch):
        logits = self.classifier(self.backbone(batch).relu().flatten(1))
        return {"loss": logits.softmax(1).sum()} if self.training else [{"image_scores": logits}]


class Ticking(torch.autograd.Function):
    """Takes 1 s in the forward and ``back`` s in the backward pass, on a ``Clock``."""

    @staticmethod
    def forward(context, x, clock, back):
        context.clock, context.back = clock, back
        clock.now += 1
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        context.clock.now += context.back
        return gradient.clone(), None, None


class Clock:
    now = 0

    def __call__(self):
        return self.now


class Slow(nn.Module):
    def __init__(self, clock, back):
        super().__init__()
        self.clock, self.back, self.weight = clock, back, nn.Parameter(torch.ones(3))

    def forward(self, x):
        return Ticking.apply(x * self.weight, self.clock, self.back)


def macs_of_vgg16(side):
    """Sum of 9 * input channels * output channels * pixels over all convolutions."""
    widths = [(3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)]
    return sum(9 * a * b * (side >> i) ** 2 for i, row in enumerate(widths) for a, b in zip(row, row[1:]))


def test_flops_of_two_layers():
    # multiply-adds: 8 * 8 pixels * 4 * 3 channels * 9 = 6912, and 256 * 5 = 1280
    forward = Forward(TinyModel().eval(), torch.rand(1, 3, 8, 8))
    found = benchmark["count_flops"](forward, training=False)
    assert (found["flops"], found["part_flops"]) == (2 * 8192, {"backbone": 2 * 6912, "classifier": 2 * 1280})
    forward.unwrapped_model.train()
    found = benchmark["count_flops"](forward, training=True)
    assert found["flops"] == 3 * 2 * 8192
    assert found["part_flops"]["backbone, backward"] == 2 * 2 * 6912
    assert found["not_counted"] == {"aten::softmax": 1, "aten::sum": 1}


def test_parts_add_up_to_the_total():
    model, clock = nn.Module(), Clock()
    model.backbone, model.head, model.loss = Slow(clock, 3), Slow(clock, 5), Slow(clock, 7)
    watch = benchmark["Stopwatch"](Forward(model, []), clock)

    def step():
        model.loss(model.head(model.backbone(torch.ones(3)))).sum().backward()
        watch.switch("optimizer")
        clock.now += 20

    expected = {"backbone": 1, "fc6 and fc7": 1, "rest": 1 + 7, "fc6 and fc7, backward": 5, "backbone, backward": 3}
    assert watch.time(step) == watch.time(step) == {**expected, "optimizer": 20}


def test_proposals_are_inside_the_image_and_reproducible():
    boxes, scores = benchmark["random_proposals"](500)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 640 and boxes[:, 3].max() <= 480
    assert 0.0099 < (width * height / (640 * 480)).min() < 0.02 and (width * height / (640 * 480)).max() < 0.801
    assert (np.diff(scores) <= 0).all()
    assert np.array_equal(boxes, benchmark["random_proposals"](500)[0])


def test_ratios_are_relative_to_the_first_case():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in benchmark["summary"](RESULTS).splitlines()[2:]]
    assert rows == [
        ["a", "224", "0.500", "1.0", "30.0", "1.0", "1000", "1.0", "60 %"],
        ["b", "672", "6.000", "12.0", "360.0", "12.0", "2500", "2.5", "75 %"],
    ]


@pytest.mark.parametrize("case", ["teacher-inference", "stage1"])
def test_a_reduced_case(case, capsys):
    threads = torch.get_num_threads()
    found = benchmark["measure"](case, 64, argparse.Namespace(**SMALL))
    torch.set_num_threads(threads)
    assert capsys.readouterr().err.count(f"{case}: ") == 2  # the warm-up and the measured step
    teacher = macs_of_vgg16(64) + 20 * (512 * 49 * 16 + 16 * 16 + 2 * 16 * 5)  # for each of 20 proposals
    student = macs_of_vgg16(32) if case == "stage1" else 0  # stage 1 does not use the head
    assert found["flops"] == 2 * (
        teacher + 3 * student
    )  # forward pass of the teacher; forward and backward of the student
    assert found["side"] == 64
    assert sum(found["parts"].values()) == pytest.approx(found["seconds"])
    # Stage 1 pools both maps, and a map of ones of each to find the bins without a cell.
    assert found["not_counted"]["torchvision::roi_pool"] == (5 if case == "stage1" else 1)
    assert ("optimizer" in found["parts"]) == (case != "teacher-inference")


def test_a_case_in_a_separate_process():
    options = argparse.Namespace(**SMALL)
    found = benchmark["in_fresh_process"](benchmark["BASE"], 64, options)
    assert found["flops"] == 2 * (macs_of_vgg16(32) + 512 * 16 + 16 * 16 + 16 * 5)
    assert found["memory"] > found["memory_before"] + 50  # MB: 14.7 million weights of four bytes
