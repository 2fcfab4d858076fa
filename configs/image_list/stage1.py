"""Distillation on your own images, stage 1: RoI-aware features (Eq. 3-4) into the student's convolutions."""

from ..common.distill import add_teacher_view, layer_pair, trainer
from ..common.distill import stage1 as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/stage1"
train.max_iter = 375  # 5 epochs of 1,200 images / 16
optimizer.lr = 3e-5  # a tenth of stage 2's, as in the paper

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_roi.layers = [layer_pair("stride32", "stride32")]
distiller.objectives.loss_roi.pooler_size = 3  # as T-WDet pools: the maps of S-Cls have 3 x 3 cells

add_teacher_view(dataloader, 224, num_proposals=100)
dataloader.test = {}  # the classifier has not been trained yet
