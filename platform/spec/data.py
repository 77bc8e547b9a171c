"""Section `data`: the real data and their splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from raystill.platform.spec.section import Count, Fraction, Natural, NoneOf, Part


class DataSpec(Part):
    """Where the real data comes from and how it is split."""

    source: str = Field(
        "digits",
        description="data set: digits (built in), a name under the data root (mnist, cifar10, ...), "
        "parquet:PATH, folder:PATH, or an entry point of raystill.sources",
    )
    root: Path | None = Field(None, description="folder that holds the data sets by name; none: $RAYSTILL_DATA")
    validation: Fraction = Field(
        0.1,
        description="share of the training examples held out for validation, 0 up to 1, where the source has "
        "no validation split",
    )
    split_seed: Natural = Field(0, description="seed that draws the validation split")
    image_column: str = Field("image", description="Parquet column of the encoded images")
    text_column: str = Field("text", description="Parquet column of the texts, read where there is no image column")
    label_column: str = Field("label", description="Parquet column of the integer labels")
    size: Count | None = Field(None, description="side in pixels that images are resized to; none: the source's own")
    whiten: Literal["none", "zca"] = Field(
        "none", description="zca: remove correlations between pixels, measured on the training images; none: leave them"
    )
    length: Count | None = Field(
        None,
        description="tokens kept of each text; none: so many that 95 % of the training texts stay whole, at most 400",
    )
    vocabulary: Count = Field(20000, description="number of known words: the most frequent ones of the training texts")
    embeddings: Path | None = Field(
        None, description="GloVe text file of word vectors; none: vectors are made from the training texts"
    )
    corpus: Annotated[tuple[str, ...], NoneOf] = Field(
        (),
        description="further sources of texts, such as imdb,sst2; their training texts, without labels, also "
        "shape the word vectors, and their words are known",
    )
    embedding_width: Count | None = Field(
        None, description="length of a word vector; none: the file's own, or 100 for vectors made here"
    )
    limit: Count | None = Field(
        None, description="largest number of training images, drawn by the split seed; none: all"
    )
    download: bool = Field(False, description="let torchvision download a data set that the data root lacks")
    cache: Path | None = Field(
        None, description="folder of the decoded data; none: $RAYSTILL_CACHE, or ~/.cache/raystill"
    )
    content: str | None = Field(None, description="sha256 of the data; filled in as a run is planned")

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that a result depends on, JSON-able: no paths, and no sources once their content is known."""
        places = {"root", "cache", "download"}
        sources = {"source", "embeddings", "corpus"} if self.content is not None else set()
        return self.model_dump(mode="json", exclude=places | sources)

    def known_by(self, content: str) -> DataSpec:
        """This section with the content of the data.

        Args:
            content: `DataSet.fingerprint` of the loaded data.

        Raises:
            ValueError: the spec was planned with other content.
        """
        if self.content is not None and self.content != content:
            raise ValueError(
                f"data.source: {self.source} is not the data that this run began with (sha256 {self.content[:12]}); "
                "put that back, or begin a new run with data.content none"
            )
        return self.model_copy(update={"content": content})
