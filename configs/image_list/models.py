"""T-WDet and S-Cls on EfficientNet-Lite0, cut at stride 32, so that a laptop's CPU can train both.

With 16 images of 224 pixels and 100 proposals each, a step of T-WDet takes 2 s on one core. Cut at stride 16, as
``configs/common/models/timm.py`` has it for a GPU, it takes 15 s, for the last stage then runs on every region.
"""

from ..common.models.timm import init_checkpoint, student, teacher

for _model in (teacher, student):
    _model.backbone.out_features = ["stride16", "stride32"]
    _model.in_feature = "stride32"  # the head follows: one convolution and the mean over the map
teacher.pooler_size = 3
teacher.score_scale = 4.0  # EdgeBoxes' scores are about 0.3; pretrained layers want features as large as they know them
