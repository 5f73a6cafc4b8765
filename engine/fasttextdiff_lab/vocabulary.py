"""The structures that the bundled model is taught from the wider data: their words and location in the body.

Knows anatomy and wording; knows nothing about files, images or networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fasttextdiff.training.prompts import CONSOLIDATION_WORDS, GROUND_GLASS_WORDS, LESION_WORDS
from fasttextdiff_lab.anatomy import TRUNK, Area


@dataclass(frozen=True)
class Structure:
    """A structure that can be segmented.

    Attributes:
        words: words of radiologists for it; the first is the displayed name.
        areas: where it is; an image that shows none of these areas cannot show it.
    """

    words: tuple[str, ...]
    areas: Area


def _of(areas: Area, *words: str) -> Structure:
    return Structure(words, areas)


_HEAD, _CHEST, _ABDOMEN, _PELVIS, _SPINE = Area.HEAD, Area.CHEST, Area.ABDOMEN, Area.PELVIS, Area.SPINE
_LEVELS = {
    f"vertebra_l{n}": _of(
        _SPINE | _ABDOMEN | _PELVIS,
        f"L{n} vertebra",
        f"L{n}",
        f"vertebra L{n}",
        f"L{n} vertebral body",
        f"{name} lumbar vertebra",
    )
    for n, name in enumerate(("first", "second", "third", "fourth", "fifth"), start=1)
}
STRUCTURES: Mapping[str, Structure] = {
    # chest
    "left lung": _of(
        _CHEST, "left lung", "lung on the left", "patient's left lung", "left-sided lung", "left pulmonary field"
    ),
    "right lung": _of(
        _CHEST, "right lung", "lung on the right", "patient's right lung", "right-sided lung", "right pulmonary field"
    ),
    "lungs": _of(
        _CHEST, "lungs", "both lungs", "lung", "left and right lung", "lung parenchyma", "pulmonary parenchyma"
    ),
    "heart": _of(_CHEST, "heart", "cardiac silhouette", "heart shadow", "cardiac shadow", "cor"),
    "left clavicle": _of(
        _CHEST, "left clavicle", "clavicle on the left", "left collarbone", "left collar bone", "left clavicula"
    ),
    "right clavicle": _of(
        _CHEST, "right clavicle", "clavicle on the right", "right collarbone", "right collar bone", "right clavicula"
    ),
    "clavicles": _of(
        _CHEST, "clavicles", "both clavicles", "clavicle", "left and right clavicle", "collarbones", "collar bones"
    ),
    "nodule": _of(
        _CHEST,
        "lung nodule",
        "nodule",
        "pulmonary nodule",
        "solitary pulmonary nodule",
        "coin lesion",
        "SPN",
        "nodular opacity",
        "nodules",
    ),
    "lung_nodule": _of(
        _CHEST, "lung nodule", "nodule", "pulmonary nodule", "solitary pulmonary nodule", "nodules", "lung nodules"
    ),
    "lung_tumour": _of(
        _CHEST,
        "lung tumour",
        "lung tumor",
        "lung cancer",
        "lung mass",
        "pulmonary mass",
        "bronchial carcinoma",
        "bronchogenic carcinoma",
        "lung carcinoma",
        "NSCLC",
    ),
    "covid_lesion": _of(_CHEST, *LESION_WORDS, *GROUND_GLASS_WORDS, *CONSOLIDATION_WORDS),
    "pulmonary_embolism": _of(
        _CHEST,
        "pulmonary embolism",
        "pulmonary embolus",
        "PE",
        "embolus",
        "lung embolism",
        "emboli",
        "thrombus in the pulmonary artery",
        "filling defect",
    ),
    "trachea": _of(_CHEST, "trachea", "trachea and main bronchi", "windpipe", "airway", "central airways"),
    "aorta": _of(_CHEST | _ABDOMEN, "aorta", "thoracic aorta", "aortic lumen", "ascending and descending aorta"),
    "pulmonary_artery": _of(
        _CHEST,
        "pulmonary artery",
        "pulmonary arteries",
        "pulmonary trunk",
        "main pulmonary artery",
        "arteria pulmonalis",
    ),
    "left_atrium": _of(
        _CHEST, "left atrium", "LA", "left atrial cavity", "left atrium of the heart", "atrium sinistrum"
    ),
    "right_atrium": _of(
        _CHEST, "right atrium", "RA", "right atrial cavity", "right atrium of the heart", "atrium dextrum"
    ),
    "left_ventricle": _of(
        _CHEST,
        "left ventricle",
        "LV",
        "left ventricular cavity",
        "LV blood pool",
        "left ventricle of the heart",
        "LV cavity",
    ),
    "right_ventricle": _of(
        _CHEST,
        "right ventricle",
        "RV",
        "right ventricular cavity",
        "RV blood pool",
        "right ventricle of the heart",
        "RV cavity",
    ),
    "left_ventricular_myocardium": _of(
        _CHEST,
        "left ventricular myocardium",
        "LV myocardium",
        "myocardium",
        "heart muscle",
        "myocardium of the left ventricle",
        "LV wall",
    ),
    "breast_tumour": _of(
        Area.BREAST,
        "breast tumour",
        "breast tumor",
        "breast cancer",
        "breast lesion",
        "breast mass",
        "mass in the breast",
        "breast lump",
        "tumour of the breast",
        "mammary carcinoma",
    ),
    # abdomen
    "liver": _of(_ABDOMEN, "liver", "hepar", "liver parenchyma", "hepatic parenchyma"),
    "liver_tumour": _of(
        _ABDOMEN,
        "liver tumour",
        "liver tumor",
        "liver lesion",
        "hepatic lesion",
        "liver metastasis",
        "liver metastases",
        "HCC",
    ),
    "hepatic_vessels": _of(
        _ABDOMEN, "hepatic vessels", "liver vessels", "hepatic and portal veins", "vessels of the liver"
    ),
    "spleen": _of(_ABDOMEN, "spleen", "lien", "splenic parenchyma"),
    "pancreas": _of(_ABDOMEN, "pancreas", "pancreatic gland", "pancreatic parenchyma"),
    "stomach": _of(_ABDOMEN, "stomach", "gastric lumen", "gaster", "ventriculus"),
    "bowel": _of(_ABDOMEN | _PELVIS, "bowel", "small and large bowel", "intestine", "intestines", "bowel loops", "gut"),
    "left kidney": _of(
        _ABDOMEN,
        "left kidney",
        "kidney on the left",
        "patient's left kidney",
        "left renal parenchyma",
        "left-sided kidney",
    ),
    "right kidney": _of(
        _ABDOMEN,
        "right kidney",
        "kidney on the right",
        "patient's right kidney",
        "right renal parenchyma",
        "right-sided kidney",
    ),
    "kidneys": _of(_ABDOMEN, "kidneys", "both kidneys", "kidney", "left and right kidney", "renal parenchyma"),
    "kidney_tumour": _of(
        _ABDOMEN,
        "kidney tumour",
        "kidney tumor",
        "renal tumour",
        "renal tumor",
        "renal cell carcinoma",
        "RCC",
        "renal mass",
        "kidney mass",
    ),
    "kidney_stone": _of(
        _ABDOMEN,
        "kidney stone",
        "renal stone",
        "nephrolith",
        "stone in the kidney",
        "staghorn calculus",
        "calculus in the kidney",
        "renal calculus",
        "kidney stones",
        "nephrolithiasis",
        "urolithiasis",
    ),
    # pelvis
    "bladder": _of(_PELVIS, "bladder", "urinary bladder", "vesica urinaria"),
    "bladder_tumour": _of(
        _PELVIS, "bladder tumour", "bladder tumor", "bladder cancer", "urothelial carcinoma", "bladder mass"
    ),
    "prostate": _of(_PELVIS, "prostate", "prostate gland", "whole prostate"),
    "prostate_central_gland": _of(
        _PELVIS,
        "central gland of the prostate",
        "central gland",
        "prostate central gland",
        "transition zone",
        "prostate transition zone",
        "central zone of the prostate",
    ),
    "prostate_tumour": _of(
        _PELVIS,
        "prostate tumour",
        "prostate tumor",
        "prostate cancer",
        "prostate lesion",
        "prostate carcinoma",
        "PCa",
        "PI-RADS lesion",
    ),
    # head and neck
    "brain_tumour": _of(
        _HEAD,
        "brain tumour",
        "brain tumor",
        "glioma",
        "glioblastoma",
        "GBM",
        "brain mass",
        "intracranial tumour",
        "intracranial mass",
        "cerebral tumour",
        "brain neoplasm",
        "brain lesion",
    ),
    "ms_lesions": _of(
        _HEAD,
        "MS lesions",
        "multiple sclerosis lesions",
        "demyelinating lesions",
        "MS plaques",
        "white matter lesions",
        "multiple sclerosis plaques",
    ),
    "hippocampus": _of(_HEAD, "hippocampus", "hippocampi", "hippocampal formation"),
    "amygdala": _of(_HEAD, "amygdala", "amygdalae", "amygdaloid body"),
    "grey_matter": _of(_HEAD, "grey matter", "gray matter", "GM", "cortex and deep grey matter", "cerebral cortex"),
    "white_matter": _of(_HEAD, "white matter", "cerebral white matter", "WM"),
    "cerebrospinal_fluid": _of(_HEAD, "cerebrospinal fluid", "CSF", "ventricles and sulci", "liquor"),
    "skull": _of(_HEAD, "skull", "skull bone", "calvarium", "cranium", "cranial bone"),
    "intracranial_haemorrhage": _of(
        _HEAD,
        "intracranial haemorrhage",
        "intracranial hemorrhage",
        "ICH",
        "brain haemorrhage",
        "brain hemorrhage",
        "intracranial bleed",
        "brain bleed",
        "cerebral haemorrhage",
    ),
    "intraparenchymal_haemorrhage": _of(
        _HEAD,
        "intraparenchymal haemorrhage",
        "intraparenchymal hemorrhage",
        "intracerebral haemorrhage",
        "intracerebral hemorrhage",
        "parenchymal bleed",
    ),
    "intraventricular_haemorrhage": _of(
        _HEAD,
        "intraventricular haemorrhage",
        "intraventricular hemorrhage",
        "IVH",
        "blood in the ventricles",
        "intraventricular blood",
    ),
    "subarachnoid_haemorrhage": _of(
        _HEAD, "subarachnoid haemorrhage", "subarachnoid hemorrhage", "SAH", "subarachnoid blood", "subarachnoid bleed"
    ),
    "subdural_haemorrhage": _of(
        _HEAD,
        "subdural haematoma",
        "subdural hematoma",
        "subdural haemorrhage",
        "subdural hemorrhage",
        "SDH",
        "subdural bleed",
    ),
    "ischaemic_stroke_lesion": _of(
        _HEAD,
        "ischaemic stroke",
        "ischemic stroke",
        "infarct",
        "cerebral infarction",
        "acute infarct",
        "stroke",
        "ischaemic lesion",
        "ischemic lesion",
    ),
    "perihaematomal_oedema": _of(
        _HEAD,
        "perihaematomal oedema",
        "perihematomal edema",
        "oedema around the haemorrhage",
        "edema around the hemorrhage",
    ),
    "nasopharyngeal_tumour": _of(
        _HEAD,
        "nasopharyngeal tumour",
        "nasopharyngeal tumor",
        "nasopharyngeal carcinoma",
        "NPC",
        "nasopharyngeal cancer",
        "nasopharynx carcinoma",
    ),
    # spine and limbs
    "vertebrae": _of(
        TRUNK | _PELVIS, "vertebrae", "vertebra", "lumbar vertebrae", "spine", "vertebral column", "vertebral bodies"
    ),
    **_LEVELS,
    "intervertebral_discs": _of(
        TRUNK | _PELVIS,
        "intervertebral discs",
        "intervertebral disks",
        "discs",
        "disc spaces",
        "intervertebral disc",
        "lumbar discs",
    ),
    "spinal_canal": _of(TRUNK | _PELVIS, "spinal canal", "vertebral canal", "thecal sac", "canalis vertebralis"),
    "soft_tissue_sarcoma": _of(
        Area.LIMB | Area.CHEST | Area.PELVIS | Area.ABDOMEN,
        "soft tissue sarcoma",
        "soft-tissue sarcoma",
        "sarcoma",
        "STS",
        "soft tissue tumour",
        "soft tissue tumor",
        "soft tissue mass",
    ),
}
"""Structures by their name in samples.

A name with a side ("left kidney") is swapped when an image is mirrored. Names in which left or right is a part of the
heart ("left_ventricle") are not, and such images are never mirrored.
"""

FROM_TABLE = {
    "left_lung": "left lung",
    "right_lung": "right lung",
    "left_kidney": "left kidney",
    "right_kidney": "right kidney",
    "left_clavicle": "left clavicle",
    "right_clavicle": "right clavicle",
}
"""Names in the tables whose sides are the patient's and are swapped by mirroring."""


def known_name(structure: str) -> str:
    """A structure of a table by its name in :data:`STRUCTURES`."""
    return FROM_TABLE.get(structure, structure)
