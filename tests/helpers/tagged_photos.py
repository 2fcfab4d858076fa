"""Photos with tags for ``wsd train``, and overrides with which it takes seconds."""

import numpy as np
from PIL import Image

COLOURS = {"cat": (200, 60, 40), "dog": (40, 70, 210)}
SMALL = ["train.student_size=64", "train.teacher_size=64", "train.max_iter=1", "train.device=cpu", "trainer.amp=False"]
SMALL += ["dataloader.train.num_workers=0", "dataloader.train.total_batch_size=4", "proposals.num_proposals=4"]
SMALL += ["train.init_checkpoint=", "trainer.teacher_check.warn_only=True"]


def write_photos(folder):
    """24 photos of squares on noise, with cats, dogs, both or neither, and one whose dog is unknown."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    lines = ["file,labels"]
    for i in range(24):
        labels = [["cat"], ["dog"], ["cat", "dog"]][i % 3]
        photo = Image.fromarray(rng.integers(90, 130, (60, 80, 3), np.uint8))
        for label in labels:
            x, y = rng.integers(0, 30, 2).tolist()
            photo.paste(COLOURS[label], (x, y, x + 30, y + 25))
        photo.save(folder / "photos" / f"{i}.png")
        lines.append(f"{i}.png,{'|'.join(labels) if i else 'cat|?dog'}")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")
