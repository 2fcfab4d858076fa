"""Datasets of the user: one file of images and labels per split."""

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
        classes: class names, or a text file with one name per line; None: the classes of the training file.
        split_names: split -> its name in the column ``split`` of a file that lists several splits.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a split has no file, or a file is invalid; names it.
    """
    paths = {split: path for split in SPLITS if (path := files.get(split))}
    missing = [f"dataset.files.{split}" for split in SPLITS if split not in paths]
    if missing:
        raise ValueError(f"dataset.name={name}: set {', '.join(missing)}")
    is_coco = is_coco_file(paths["train"])
    if classes is None:
        classes = read_categories(paths["train"]) if is_coco else paths["train"]
    for split, path in paths.items():
        root = image_root and image_root.replace("{split}", split)
        if is_coco:
            register_coco(f"{name}_{split}", path, root, classes)
        else:
            register_image_list(f"{name}_{split}", path, root, classes, (split_names or {}).get(split))
    register_info(name, DatasetInfo(f"{name}_train", f"{name}_val", f"{name}_test", boxes=is_coco))
