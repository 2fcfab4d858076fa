"""A training set of which a part is held out for validation, and a test set.

The paper lowers its learning rate by a validation loss (Section 3.3), but names training and test images alone. Here
no schedule looks at the test images unless it is told to, as docs/recipes.md says.
"""

from detectron2.config import LazyCall as L

from wsd_distill.data.datasets import register_holdout

from ..data import dataset, image_proposals, proposals


def with_holdout(images, *, name, train, test, num_classes):
    """``dataset``, ``image_proposals`` and ``proposals`` of ``train`` less ``images`` images, these, and ``test``."""
    parts = {"train": f"{train}_fit", "val": f"{train}_holdout", "test": test}
    dataset.update(name=name, num_classes=num_classes, **parts)  # outputs are named after ``name``
    dataset["register"] = [
        L(register_holdout)(name=parts[split], source=train, images=images, holdout=split == "val")
        for split in ("train", "val")
    ]
    return dataset, image_proposals, proposals
