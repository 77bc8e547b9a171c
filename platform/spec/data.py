"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from raystill.platform.spec.section import Count, Fraction, Natural, NoneOf, Part


class DataSpec(Part):
    """Where the real data comes from and how it is split."""

    source: str = Field(
        "digits",
        description="digits, a name looked up under the data root (mnist, cifar10, ...), parquet:PATH, folder:PATH, "
        "or an entry point of raystill.sources",
    )
    root: Path | None = Field(None, description="folder where data sets are found by name; else $RAYSTILL_DATA")
    validation: Fraction = Field(0.1, description="share of train held out by seed where the source has no validation")
    split_seed: Natural = Field(0, description="seed of the held-out split")
    image_column: str = Field("image", description="Parquet column with the encoded image")
    text_column: str = Field("text", description="Parquet column with the text, where there is no image column")
    label_column: str = Field("label", description="Parquet column with the integer label")
    size: Count | None = Field(None, description="resize to this many pixels on each side; none keeps the source's")
    whiten: Literal["none", "zca"] = Field(
        "none", description="take the correlations out of pixels, by training images"
    )
    length: Count | None = Field(
        None,
        description="tokens kept of each text; none takes what leaves 95 % of the training texts whole, at most 400",
    )
    vocabulary: Count = Field(20000, description="words of the training texts that are known, the most frequent ones")
    embeddings: Path | None = Field(
        None, description="GloVe text file with the words' vectors; none makes them here, of the training texts"
    )
    corpus: Annotated[tuple[str, ...], NoneOf] = Field(
        (),
        description="other sources of texts (imdb,sst2) whose training texts also make the vectors; their words are "
        "known, their labels are not read",
    )
    embedding_width: Count | None = Field(
        None, description="numbers of a word's vector; none takes the file's, or 100 for those made here"
    )
    limit: Count | None = Field(None, description="use at most this many training images, drawn by the split seed")
    download: bool = Field(False, description="let torchvision download what the data root lacks")
    cache: Path | None = Field(None, description="folder of the Arrow cache; else $RAYSTILL_CACHE or ~/.cache/raystill")
    content: str | None = Field(None, description="sha256 of the data; filled in as a run is planned")

    @property
    def identity(self) -> dict[str, Any]:
        """What a result depends on, JSON-able: no place, and in place of the sources their content once it is known."""
        places = {"root", "cache", "download"}
        sources = {"source", "embeddings", "corpus"} if self.content is not None else set()
        return self.model_dump(mode="json", exclude=places | sources)

    def known_by(self, content: str) -> DataSpec:
        """This section with the content of the data.

        Args:
            content: `DataSet.fingerprint` of what was loaded.

        Raises:
            ValueError: it was planned with other content.
        """
        if self.content is not None and self.content != content:
            raise ValueError(
                f"data.source: {self.source} is not the data that this run began with (sha256 {self.content[:12]}); "
                "put that back, or begin a new run with data.content none"
            )
        return self.model_copy(update={"content": content})
