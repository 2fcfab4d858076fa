"""A user's own dataset: one file of images and labels for each split, chosen by config overrides alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .catalog import SPLITS, DatasetInfo, register_info
from .coco import is_coco_file, read_categories, register_coco
from .image_list import register_image_list


def register_files(
    name: str,
    files: Mapping[str, str | None],
    *,
    image_root: str | None = None,
    classes: Sequence[str] | str | None = None,
    split_names: Mapping[str, str | None] | None = None,
) -> None:
    """Register ``<name>_train``, ``<name>_val`` and ``<name>_test``, and ``name`` for ``dataset.name``.

    Args:
        files: split -> file: a CSV or JSON list of images (``register_image_list``) or COCO's instances format.
        image_root: folder of the image files, ``{split}`` in it is replaced; None: the folder of the file.
        classes: class names, or a text file with one a line; None: the classes of the training file.
        split_names: split -> its name in the column ``split``, where one file lists several splits.

    Raises:
        ValueError: a split has no file. FileNotFoundError, ValueError: a file is missing or wrong; names it.
    """
    missing = [f"dataset.files.{split}" for split in SPLITS if not files.get(split)]
    if missing:
        raise ValueError(f"dataset.name={name}: set {', '.join(missing)}")
    is_coco = is_coco_file(files["train"])
    if classes is None:
        classes = read_categories(files["train"]) if is_coco else files["train"]
    for split in SPLITS:
        root = image_root and image_root.replace("{split}", split)
        arguments = {"name": f"{name}_{split}", "image_root": root, "classes": classes}
        if is_coco:
            register_coco(json_file=files[split], **arguments)
        else:
            register_image_list(file=files[split], split=(split_names or {}).get(split), **arguments)
    register_info(name, DatasetInfo(*(f"{name}_{split}" for split in SPLITS), boxes=is_coco))
