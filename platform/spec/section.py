"""The frozen base of every section of a spec, the ranges of fields, and the meanings of `none`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
# `none` on the command line, as null in YAML, means None: no value. Two kinds of fields read it otherwise.
# Where `none` is one of the choices, it is that word:
NoneWord = BeforeValidator(lambda value: "none" if value is None else value)
# For a list it is the empty list:
NoneOf = BeforeValidator(lambda value: () if value is None or value in ([None], (None,)) else value)
Workers = Natural | Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")]


def plain_name(field: str, name: str | None) -> None:
    """Raise ValueError unless a name can be that of a folder."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ValueError(f"{field} {name!r} must be 1-64 of A-Z a-z 0-9 . _ - and start with a letter or digit")


class Part(BaseModel):
    """A frozen section of a spec; unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
