"""Distillation on digit_scenes, stage 1: RoI-aware features (Eq. 3-4) into the student's convolutions."""

from ..common.distill import add_teacher_view, layer_pair, trainer
from ..common.distill import stage1 as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/digit_scenes/stage1"
train.max_iter = 1500  # 8 epochs

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/digit_scenes/teacher/model_final.pth"
distiller.use_cache = True
_roi = distiller.objectives.loss_roi
_roi.layers = [layer_pair("conv2", "conv3")]
_roi.num_proposals = 32

add_teacher_view(dataloader, 128)
dataloader.test = {}  # the classifier has not been trained yet
