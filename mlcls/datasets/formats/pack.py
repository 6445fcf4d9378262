"""The annotations in a pack, which `tools/pack_data.py` writes; the dataset takes the images from it too."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mlcls.errors import DataError
from mlcls.structures import Annotations

from ..packs import PackReader
from ..packs.layout import MAGIC
from .head import Head


def read_pack(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    split: str | None = None,
    path_column: str | None = None,
) -> Annotations:
    """Read the annotations in a pack.

    Args:
        path: The file.
        classes: Not used: a pack names its classes.
        split: The part of the data; a pack holds one, and it must be this.
        path_column: Not used; a config for a CSV file can read its pack too.

    Raises:
        DataError: If the pack cannot be used, or holds another part.
    """
    reader = PackReader(path)
    if split is not None and split != reader.split:
        held = 'no named part' if reader.split is None else f"the part '{reader.split}'"
        raise DataError(f"{path}: the pack holds {held} of the data, not '{split}'; a pack holds one part each")
    return reader.annotations


def recognise(head: Head) -> str:
    """Why a file looks like a pack, or nothing."""
    return 'the first bytes of a pack' if head.text.startswith(MAGIC.decode()) else ''
