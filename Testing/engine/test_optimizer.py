"""AdamW, and Muon for the matrices of layers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_pipeline
from torch import nn

from fasttextdiff.training.config import Stage, TrainingConfig
from fasttextdiff.training.optimizer import MuonAdamW, make_optimizer, orthogonalised

RUN = TrainingConfig("a", Path("a"), (Stage(1, 32, 1),), datasets={"a": Path("a")}, start=Path("a"))


@pytest.mark.parametrize("shape", [(20, 70), (70, 20), (32, 32)])
def test_an_orthogonalised_matrix_keeps_its_directions_and_evens_out_their_sizes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalised(matrix)
    assert torch.linalg.svdvals(found).min() > 0.6
    assert torch.linalg.svdvals(found).max() < 1.3
    assert nn.functional.cosine_similarity(found.flatten(), (left @ right).flatten(), dim=0) > 0.97
    assert not orthogonalised(torch.zeros(shape)).any()


def groups_of(optimizer):
    return {method: groups_by(optimizer, method) for method in (True, False)}


def groups_by(optimizer, method):
    return {id(p) for group in optimizer.param_groups if group["muon"] == method for p in group["params"]}


def test_muon_moves_hidden_layers_and_adamw_everything_else():
    pipeline = tiny_pipeline()
    everything = {id(parameter) for parameter in pipeline.parameters()}
    assert groups_of(make_optimizer(pipeline, RUN)) == {True: set(), False: everything}
    chosen = groups_of(make_optimizer(pipeline, replace(RUN, optimizer="muon")))
    assert chosen[True] | chosen[False] == everything
    assert not chosen[True] & chosen[False]
    by_muon = {name for name, parameter in pipeline.named_parameters() if id(parameter) in chosen[True]}
    assert "fusion.block.attention1.to_q.weight" in by_muon
    assert "denoiser.unet.mid_block.resnets.0.conv1.weight" in by_muon
    assert not [name for name in by_muon if "embeddings" in name or "norm" in name or name.endswith("bias")]
    assert "fusion.conv3.weight" not in by_muon


def test_without_muon_every_step_is_that_of_adamw():
    ours, theirs = (nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 20)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    steps = [
        MuonAdamW([{"params": list(ours.parameters()), "muon": False}], lr=0.01),
        torch.optim.AdamW(theirs.parameters(), lr=0.01),
    ]
    for model, optimizer in zip((ours, theirs), steps, strict=True):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 20)).square().sum().backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_muon_fits_a_linear_map_and_decays_unused_weights():
    generator = torch.Generator().manual_seed(0)
    goal, data = torch.randn(24, 24, generator=generator), torch.randn(256, 24, generator=generator)
    layer = nn.Linear(24, 24, bias=False)
    optimizer = MuonAdamW([{"params": [layer.weight], "muon": True}], lr=0.1, weight_decay=0.0)
    errors = []
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        loss = (layer(data) - data @ goal.T).square().mean()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.01 * errors[0]
    layer.weight.grad.zero_()
    optimizer.state.clear()
    optimizer.param_groups[0].update(lr=0.1, weight_decay=0.5)
    before = layer.weight.detach().clone()
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), 0.95 * before)
