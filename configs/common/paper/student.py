"""S-Cls on VGG16 with the numbers of Section 3.3, without distillation. For those of a dataset, see ``configs/coco``.

``trainer.accumulate=4`` alone splits the 32 images of a step into 4 portions; docs/recipes.md says more of batches.
"""

from detectron2.config import LazyCall as L

from wsd_distill.engine import micro_batch

from ..data import dataloader
from ..models.vgg16 import student as model
from ..optim import plateau as lr_multiplier
from ..optim import sgd as optimizer
from ..train import train, trainer

train.output_dir = "output/${dataset.name}/student_vgg16"
train.init_checkpoint = "output/vgg16_caffe.pth"  # tools/convert_weights.py makes it
train.batch_size = 32
optimizer.lr = 1e-4

dataloader.train.mapper.sides = [224]
dataloader.train.total_batch_size = L(micro_batch)(batch_size="${train.batch_size}", accumulate="${trainer.accumulate}")
