"""The fusion head has the published size, listens to the text, and ignores what is padding."""

from __future__ import annotations

import pytest
import torch
from tiny_models import compact_head, enliven

from fasttextdiff.model.fusion import FusionHead, foreground_logit, positional_code

CHANNELS = (48, 48, 24)


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def features(batch=2, height=4, width=4):
    return [torch.randn(batch, c, height * 2**k, width * 2**k) for k, c in enumerate(CHANNELS)]


@pytest.mark.parametrize(
    ("channels", "count"), [((1536, 1536, 768, 768), 9_683_234), ((3072, 1536, 1536, 768), 10_862_882)]
)
def test_the_published_heads_have_the_papers_number_of_parameters(channels, count):
    with torch.device("meta"):
        head = FusionHead(channels)
    assert sum(p.numel() for p in head.parameters()) == count


def test_the_published_head_starts_from_small_weights_and_unit_norms():
    head = FusionHead((64, 32), text_dim=32, width=32)
    assert head.conv1.weight.std() == pytest.approx(0.02, rel=0.1)
    assert head.block.attention1.to_q.weight.std() == pytest.approx(0.02, rel=0.1)
    assert (head.block.norm1.weight == 1).all()
    assert (head.conv1.bias == 0).all()


@pytest.mark.parametrize("value", [0.0, 50.0])
def test_padded_and_unpadded_texts_give_equal_logits(value):
    head, maps, text = compact_head(CHANNELS), features(1), torch.randn(1, 5, 32)
    padded = torch.cat([text, torch.full((1, 4, 32), value)], dim=1)
    mask = torch.tensor([[True] * 5 + [False] * 4])
    expected = head(maps, text, None, (16, 16))
    found = head(maps, padded, mask, (16, 16))
    assert (found.logits - expected.logits).abs().max() < 1e-5
    assert (found.presence - expected.presence).abs().max() < 1e-5
    unmasked = head(maps, padded, None, (16, 16))
    assert (unmasked.logits - expected.logits).abs().max() > 1e-3


def test_another_text_gives_other_logits_and_presence():
    head, maps = compact_head(CHANNELS), features(1)
    one, two = (head(maps, torch.randn(1, 5, 32), None, (16, 16)) for _ in range(2))
    assert (one.logits - two.logits).abs().max() > 0.01 * one.logits.std()
    assert (one.presence - two.presence).abs().max() > 1e-4


def test_a_batch_equals_its_pairs_one_by_one():
    head, maps, text = compact_head(CHANNELS), features(2), torch.randn(2, 6, 32)
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    batch = head(maps, text, mask, (16, 16))
    for b in range(2):
        length = int(mask[b].sum())
        alone = head([m[b : b + 1] for m in maps], text[b : b + 1, :length], None, (16, 16))
        assert (batch.logits[b] - alone.logits[0]).abs().max() < 1e-5
        assert (batch.presence[b] - alone.presence[0]).abs() < 1e-5


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (80, 32)])
def test_the_compact_head_works_on_any_multiple_of_16_pixels(size):
    head = compact_head(CHANNELS)
    output = head(features(1, size[0] // 4, size[1] // 4), torch.randn(1, 3, 32), None, size)
    assert output.logits.shape == (1, 1, *size)
    assert output.presence.shape == (1,)
    assert output.logits.isfinite().all()


def test_only_a_positional_head_can_tell_left_from_right():
    maps = [f[..., :1, :1].expand_as(f) for f in features(1)]  # the same everywhere
    text = torch.randn(1, 5, 32)
    inner = (slice(None), slice(None), slice(4, 12), slice(4, 12))  # away from the convolutions' zero padding
    placed = compact_head(CHANNELS)(maps, text, None, (16, 16)).logits[inner]
    published = enliven(FusionHead(CHANNELS, text_dim=32, width=32, heads=2, head_dim=16)).eval()
    unplaced = published(maps, text, None, (16, 16)).logits[inner]
    assert (placed[..., 0] - placed[..., -1]).abs().max() > 1e-2 * placed.abs().max()
    assert (unplaced[..., 0] - unplaced[..., -1]).abs().max() < 1e-5 * unplaced.abs().max()


def test_positions_are_x_to_the_right_and_y_down_and_agree_between_sizes():
    code = positional_code(2, 4, torch.device("cpu"), torch.float32)
    assert code[:, :2].tolist() == [[x, y] for y in (-0.5, 0.5) for x in (-0.75, -0.25, 0.25, 0.75)]
    odd, large = (positional_code(n, n, torch.device("cpu"), torch.float32) for n in (1, 3))
    assert torch.allclose(odd[0], large[4], atol=1e-6)


def test_the_foreground_logit_is_the_log_odds_of_a_softmax_of_two():
    logits = torch.randn(2, 2, 3, 3)
    assert torch.allclose(foreground_logit(logits).sigmoid(), logits.softmax(1)[:, 1], atol=1e-6)
    assert torch.equal(foreground_logit(logits[:, :1]), logits[:, 0])


def test_scales_share_a_projection_after_the_first_and_need_none_at_the_heads_width():
    head = FusionHead((64, 64, 64, 32), text_dim=32, width=32)
    assert head.projection_of_scale == [0, 1, 1, None]
    assert len(head.projections) == 2
