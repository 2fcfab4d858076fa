"""FitNets on your own images, the hint."""

from ..common.distill import add_teacher_view, layer_pair, trainer
from ..common.distill import fitnets_hint as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/fitnets_hint"
train.max_iter = 375  # 5 epochs of 1,200 images / 16
optimizer.lr = 3e-5  # as stage 1's: with 3e-4 the pretrained layers are lost (docs/results.md)

for _model in (teacher, model):
    _model.backbone.out_features = ["stride8", "stride16", "stride32"]  # the same weights, one more map
distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_hint.layer = layer_pair("stride8", "stride8")
# stride8 is what blocks.2 gives
distiller.frozen = [*(f"backbone.net.blocks.{i}" for i in range(3, 7)), "head", "classifier"]

add_teacher_view(dataloader, 224, num_proposals=100)
dataloader.test = {}  # the classifier has not been trained yet
