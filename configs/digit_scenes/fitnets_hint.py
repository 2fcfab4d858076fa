"""FitNets on digit_scenes, the hint."""

from ..common.distill import add_teacher_view, layer_pair, trainer
from ..common.distill import fitnets_hint as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/digit_scenes/fitnets_hint"
train.max_iter = 1500  # 8 epochs

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/digit_scenes/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_hint.layer = layer_pair("conv1", "conv2")  # the middle of each
distiller.frozen = ["backbone.conv3", "head", "classifier"]

add_teacher_view(dataloader, 128)
dataloader.test = {}  # the classifier has not been trained yet
