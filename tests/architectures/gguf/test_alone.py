"""What heads read for a token alone behind a prefix does not depend on the file format."""

import gguf
import pytest
import torch

from gguf_models import CASES, D_VOCAB, make_model, write
from headatlas.architectures import open_model
from headatlas.architectures.alone import read_alone
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import ArchitectureError

PREFIX = 3


@pytest.mark.parametrize("case", CASES)
def test_a_gguf_file_gives_the_vectors_of_its_safetensors_twin(tmp_path, case):
    model = make_model(case)
    path = write(model, case, tmp_path / "m.gguf")
    model.save_pretrained(tmp_path / "folder")
    try:
        twin = open_model(open_checkpoint(tmp_path / "folder"))
    except ArchitectureError as error:
        pytest.skip(f"not read from safetensors either: {error}")
    ids = torch.arange(0, D_VOCAB, 9)
    expected = dict(read_alone(twin, ids, PREFIX))
    found = dict(read_alone(open_model(open_checkpoint(path)), ids, PREFIX))
    assert list(found) == list(expected)
    for layer, x in expected.items():
        # Norms that are stored plus one, and factors of positions, are rounded to float32.
        torch.testing.assert_close(found[layer], x, rtol=0, atol=1e-5 * float(x.abs().max()))


def test_a_file_whose_positions_cannot_be_read_is_refused(tmp_path):
    def scaled(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)

    path = write(make_model("qwen2"), "qwen2", tmp_path / "m.gguf", more=scaled)
    with pytest.raises(ArchitectureError) as caught:
        next(read_alone(open_model(open_checkpoint(path)), torch.arange(5), PREFIX))
    assert str(caught.value) == (
        f"{path}: words cannot pass through the model: its positions are scaled by YaRN, but it does not state "
        f"rope.scaling.factor. Use its safetensors checkpoint, or --profile maps."
    )
