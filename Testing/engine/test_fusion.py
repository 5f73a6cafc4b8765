"""The fusion head has the published size, depends on the text, and ignores padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import compact_head, enliven
from torch import nn

from fasttextdiff.model.convolutions import convolve_to_few, convolve_upsampled, convolve_upsampled_reference
from fasttextdiff.model.fusion import CrossAttention, FusionHead, foreground_logit, positional_code

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
def test_the_published_heads_have_the_published_number_of_parameters(channels, count):
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


def test_a_batch_equals_its_pairs_one_at_a_time():
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


def test_scales_after_the_first_share_a_projection_and_need_none_at_the_heads_width():
    head = FusionHead((64, 64, 64, 32), text_dim=32, width=32)
    assert head.projection_of_scale == [0, 1, 1, None]
    assert len(head.projections) == 2


# --- the fast forms are the formulas of the paper ---------------------------------------------------------------------

few = settings(deadline=None, max_examples=25)
SIDES = st.integers(1, 9)


@few
@given(st.integers(1, 3), SIDES, SIDES, st.integers(1, 4), st.integers(1, 8), st.integers(0, 999))
def test_attention_equals_the_softmax_reference(batch, pixels, tokens, heads, head_dim, seed):
    torch.manual_seed(seed)
    attention = enliven(CrossAttention(12, 10, heads, head_dim))
    image, text = torch.randn(batch, pixels, 12), torch.randn(batch, tokens, 10)
    mask = torch.rand(batch, tokens) < 0.7
    mask[:, 0] = True
    for real in (None, mask):
        expected = attention.reference(image, text, real)
        assert torch.allclose(attention(image, attention.words(text, real)), expected, atol=1e-4)


@few
@given(st.integers(1, 2), st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3), SIDES, SIDES, st.integers(0, 999))
def test_scales_convolved_separately_equal_the_convolution_of_all_upsampled_scales(batch, shapes, height, width, seed):
    torch.manual_seed(seed)
    maps = [torch.randn(batch, 3 + n, *shape, requires_grad=True) for n, shape in enumerate(shapes)]
    convolution = nn.Conv2d(sum(m.shape[1] for m in maps), 4, 3, padding=1)
    weight = torch.randn(batch, 4, height, width)  # so that every pixel has a different gradient
    with torch.enable_grad():
        fast, slow = (
            form(convolution, maps, (height, width)) for form in (convolve_upsampled, convolve_upsampled_reference)
        )
        gradients = [torch.autograd.grad((r * weight).sum(), [*maps, *convolution.parameters()]) for r in (fast, slow)]
    assert torch.allclose(fast, slow, atol=1e-5)
    assert all(torch.allclose(ours, theirs, atol=1e-4) for ours, theirs in zip(*gradients, strict=True))


@few
@given(st.integers(1, 2), st.integers(1, 6), st.integers(1, 3), SIDES, SIDES, st.integers(0, 999))
def test_nine_shifted_taps_equal_the_convolution(batch, channels, few_channels, height, width, seed):
    torch.manual_seed(seed)
    convolution, image = nn.Conv2d(channels, few_channels, 3, padding=1), torch.randn(batch, channels, height, width)
    assert torch.allclose(convolve_to_few(convolution, image), convolution(image), atol=1e-5)


@pytest.mark.parametrize("kind", ["compact", "published"])
def test_the_whole_head_equals_the_reference_of_figure_2(kind):
    head = compact_head(CHANNELS) if kind == "compact" else FusionHead(CHANNELS, text_dim=32, width=32).eval()
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    text = torch.randn(2, 7, 32)
    maps = features(2, 3, 5)
    ours, plain = head(maps, text, mask, (33, 47)), head.reference(maps, text, mask, (33, 47))
    assert (ours.logits - plain.logits).norm() < 1e-5 * plain.logits.norm()
    if kind == "compact":
        assert (ours.presence - plain.presence).abs().max() < 1e-5


@torch.enable_grad()
def test_findings_together_equal_them_one_by_one_with_the_references_gradients():
    head, maps, mask = compact_head(CHANNELS), features(2), torch.ones(6, 5, dtype=torch.bool)
    mask[4, 3:] = False
    text = torch.randn(6, 5, 32)
    gradients = []
    for work in (
        lambda: head(maps, text, mask, (16, 16)),
        lambda: head.reference([m.repeat_interleave(3, dim=0) for m in maps], text, mask, (16, 16)),
    ):
        output = work()
        ((output.logits**2).mean() + output.presence.sum()).backward()
        gradients.append((output.logits.detach(), {name: p.grad for name, p in head.named_parameters()}))
        head.zero_grad(set_to_none=True)
    (ours, our_gradients), (plain, plain_gradients) = gradients
    assert (ours - plain).norm() < 1e-5 * plain.norm()
    for name, gradient in plain_gradients.items():
        assert (our_gradients[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name
