"""Data sets that the cases read: texts and pictures, made by a rule."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path


def inputs() -> None:
    """Texts of two classes, and pictures of ten, made by a rule, as Parquet in this folder."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    def picture(n: int) -> dict[str, bytes]:
        row, column = np.mgrid[:8, :8]
        values = (n % 10 * row * 9 + (n // 10 + 1) * column * 5 + n * 7) % 256
        stream = io.BytesIO()
        Image.fromarray(values.astype(np.uint8)).save(stream, "png")
        return {"bytes": stream.getvalue()}

    words = (("bad", "dull", "dreadful", "dim"), ("good", "fine", "lovely", "bright"))
    ends = (("so I left", "so we slept"), ("and I loved it", "and we stayed"))
    things = itertools.product(range(4), ("film", "book", "song", "play", "dish"), ("in town", "at home", "by the sea"))
    texts = [
        (f"The {thing} {place} was {words[label][word]} {ends[label][n % 2]}{'.' if n % 3 else '!'}", label)
        for n, (word, thing, place) in enumerate(things) for label in (0, 1)
    ]  # fmt: skip
    pictures = [(picture(n), n % 10) for n in range(150)]
    for name, column, rows in (("corpus", "text", texts), ("pictures", "image", pictures)):
        Path(name).mkdir()
        labels = sorted({label for _, label in rows})
        names = {"names": [f"class {label}" for label in labels], "_type": "ClassLabel"}
        metadata = {"huggingface": json.dumps({"info": {"features": {"label": names}}})}
        for split, chosen in (("train", [row for n, row in enumerate(rows) if n % 7]), ("test", rows[::7])):
            table = pa.table({column: [value for value, _ in chosen], "label": [label for _, label in chosen]})
            pq.write_table(table.replace_schema_metadata(metadata), f"{name}/{split}.parquet")
