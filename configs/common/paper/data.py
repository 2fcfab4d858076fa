"""A training set of which a part is held out for validation, and a test set.

The paper lowers its learning rate by a validation loss (Section 3.3), but names training and test images alone. Here
no schedule looks at the test images unless it is told to, as docs/recipes.md says.
"""

from detectron2.config import LazyCall as L

from wsd_distill.data.datasets import register_part

from ..data import dataset, on_image, proposals


def hold_out(images, *, name, train, test, num_classes):
    """``dataset``, ``on_image`` and ``proposals`` of ``train`` less ``images`` images, these, and ``test``."""
    parts = {"train": f"{train}_fit", "val": f"{train}_held_out", "test": test}
    dataset.update(name=name, num_classes=num_classes, **parts)  # outputs are named after ``name``
    dataset["register"] = [
        L(register_part)(name=parts[split], source=train, images=images, held_out=split == "val")
        for split in ("train", "val")
    ]
    return dataset, on_image, proposals
