"""Arrays and documents on disk: what is written is read, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from raystill.platform.files import arrays, documents, tensors

VALUES = {
    "scalar": np.float32(3.5).reshape(()),
    "columns": np.arange(6, dtype=np.int64).reshape(2, 3).T,
    "none": np.zeros((0, 4), np.float64),
    "flags": np.array([True, False]),
}
FACTS = {"step": 7, "names": ["a", "é"], "nested": {"x": None}}


def test_arrays_and_facts_come_back_as_they_were(tmp_path: Path) -> None:
    arrays.write(tmp_path / "deep" / "file", VALUES, FACTS)
    values, facts = arrays.read(tmp_path / "deep" / "file")
    assert facts == FACTS
    assert values.keys() == VALUES.keys()
    for name, value in VALUES.items():
        assert (values[name].dtype, values[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(values[name], value)
    assert arrays.pack(dict(reversed(VALUES.items())), dict(reversed(FACTS.items()))) == arrays.pack(VALUES, FACTS)
    others = safetensors.numpy.load((tmp_path / "deep" / "file").read_bytes())
    np.testing.assert_array_equal(others["columns"], VALUES["columns"])


def test_tensors_are_arrays_on_disk(tmp_path: Path) -> None:
    weight = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).T.requires_grad_()
    tensors.write(tmp_path / "file", {"weight": weight, "step": torch.tensor(4.0)}, FACTS)
    values, facts = tensors.read(tmp_path / "file")
    assert facts == FACTS
    assert torch.equal(values["weight"], weight)
    assert values["step"].shape == ()
    np.testing.assert_array_equal(arrays.read(tmp_path / "file")[0]["weight"], weight.detach().numpy())


def test_every_flipped_byte_is_found_out_or_changes_nothing() -> None:
    data = arrays.pack({"a": np.arange(3, dtype=np.float32)}, {"b": 1})
    errors = []
    for at in range(len(data)):
        try:
            values, facts = arrays.unpack(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], "it")
            assert (facts, values["a"].tolist()) == ({"b": 1}, [0, 1, 2])
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > len(data) / 2
    assert all(error.startswith("it: ") and "\n" not in error for error in errors)


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 64, safetensors.numpy.save({"a": np.zeros(2)})])
def test_a_foreign_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=r"file: (can not be read|is no file of raystill's)"):
        arrays.read(tmp_path / "file")
    with pytest.raises(ValueError, match=r"nowhere: can not be read"):
        arrays.read(tmp_path / "nowhere")


def test_a_document_comes_back_and_a_torn_one_is_named(tmp_path: Path) -> None:
    documents.write(tmp_path / "note.json", FACTS)
    assert documents.read(tmp_path / "note.json") == FACTS
    assert documents.decode(documents.encode(FACTS), "it") == FACTS
    (tmp_path / "note.json").write_bytes(documents.encode(FACTS)[:-4])
    with pytest.raises(ValueError, match=r"note.json: malformed"):
        documents.read(tmp_path / "note.json")
    with pytest.raises(ValueError, match=r"nowhere: can not be read"):
        documents.read(tmp_path / "nowhere")
