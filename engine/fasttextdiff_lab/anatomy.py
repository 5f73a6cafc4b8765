"""Parts of the body, and which of them images of each data source may show. Knows names only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Flag, auto


class Area(Flag):
    """Parts of the body that an image shows or a structure is in."""

    NONE = 0
    HEAD = auto()
    CHEST = auto()
    BREAST = auto()
    ABDOMEN = auto()
    PELVIS = auto()
    SPINE = auto()
    LIMB = auto()
    CELLS = auto()


TRUNK = Area.CHEST | Area.ABDOMEN | Area.SPINE
BELLY = Area.ABDOMEN | Area.CHEST | Area.PELVIS | Area.SPINE

SHOWN: Mapping[str, Area] = {
    "acdc": Area.CHEST | Area.ABDOMEN,
    "msd_heart": TRUNK,
    "chd68": TRUNK,
    "avt_aorta": BELLY,
    "fumpe": TRUNK,
    "imlab3d": TRUNK,
    "lidc": TRUNK,
    "msd_lung": TRUNK,
    "chest_ct_subset": TRUNK,
    "lung_ct_sa": TRUNK,
    "tcia_dwt": BELLY,
    "breastdm": Area.BREAST | Area.CHEST,
    "busi": Area.BREAST,
    "bus_bra": Area.BREAST,
    "msd_liver": BELLY,
    "msd_hepaticvessel": BELLY,
    "msd_spleen": BELLY,
    "curvas": BELLY,
    "kits19": BELLY,
    "chaos_ct": BELLY,
    "mendeley_stone": BELLY,
    "kssd": BELLY,
    "kidney_t2w": BELLY,
    "pansegdata_t2": BELLY,
    "uwm_gi": BELLY,
    "bladder_mr": Area.PELVIS | Area.ABDOMEN,
    "prostate_edwards": Area.PELVIS | Area.ABDOMEN | Area.SPINE,
    "prostate158": Area.PELVIS,
    "spider": BELLY,
    "lgg_tcga": Area.HEAD,
    "msd_hippocampus": Area.HEAD,
    "ct_ich": Area.HEAD,
    "mbh": Area.HEAD,
    "phe_sich": Area.HEAD,
    "aisd": Area.HEAD,
    "ms_mendeley": Area.HEAD,
    "brats2023": Area.HEAD,
    "brats_met": Area.HEAD,
    "brisc2025": Area.HEAD,
    "npc_t2": Area.HEAD,
    "pardoe": Area.HEAD,
    "fullhead": Area.HEAD,
    "sts_ibsi": Area.LIMB | Area.CHEST | Area.PELVIS | Area.ABDOMEN | Area.SPINE,
}
"""Areas that images of each source of the CT and MR atlas may show; generous, so that nothing is wrongly absent."""
SHOWN_BY_KIND: Mapping[str, Area] = {
    "chest X-ray": TRUNK | Area.BREAST | Area.LIMB,
    "chest CT": TRUNK | Area.BREAST,
    "CT of abdomen or pelvis": BELLY,
    "head CT": Area.HEAD,
    "limb CT": Area.LIMB | BELLY,
    "head MR": Area.HEAD,
    "heart MR": TRUNK,
    "abdominal MR": BELLY,
    "spine MR": BELLY,
    "pelvic MR": Area.PELVIS | Area.ABDOMEN | Area.SPINE,
    "limb MR": Area.LIMB | BELLY,
    "breast MR": Area.BREAST | TRUNK,
    "breast ultrasound": Area.BREAST,
    "stained histology": Area.CELLS,
}
"""Areas that each kind of image may show; generous as above."""
SHOWN_XRAY = TRUNK | Area.BREAST | Area.LIMB
