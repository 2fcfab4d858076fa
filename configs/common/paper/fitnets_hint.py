"""FitNets on VGG16 (Section 4.2), first conv3_3's hint. The paper gives it no schedule: it has that of stage 1."""

from ..distill import add_teacher_view, trainer
from ..distill import fitnets_hint as distiller
from ..models.vgg16 import teacher
from ..optim import constant as lr_multiplier
from .student import dataloader, model, optimizer, train

train.output_dir = "output/${dataset.name}/fitnets_hint_vgg16_${proposals.method}"
optimizer.lr = 1e-5

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher_vgg16_${proposals.method}/model_final.pth"

add_teacher_view(dataloader, 672, num_proposals=500)
dataloader.test = {}  # the classifier has not been trained yet
