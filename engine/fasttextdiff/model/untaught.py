"""Recognises untaught findings from their words, so that the model does not guess.

A finding is taught if it names a taught term, in any order, spelling or number and with small typos, and if each of its
other words only describes, locates or requests. "Tumour of the liver" names "liver tumour"; "pleural effusion in the
left lung" names "left lung", but "pleural" and "effusion" are neither taught nor descriptive. Does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.contract.findings import shortened, understood
from fasttextdiff.model.words import is_like, stem_of

NEAREST = 3
"""Maximum number of taught findings in an explanation."""
ALIKE = 0.6
"""A finding is near a text if they share a word, or at least this share of letters."""
ASKING = """
a all an and any are around as at be been between both but by can check clearly contour could delineate depict
detect do does draw each either else entire everything evidence every extent find following for found from get give
give has have help here highlight i identify image images in inside into is it its label locate located location
look me mark marked marks my need no not of on one only or out outline over part parts patient patient's patients
please plus point present region regions scan search see seen segment segmentation segmented show showing shown sign
signs slice some that the their them there these this those through throughout tile to trace two three four five six
several us view visible want we what where which whole will with within without would you your area areas site sites
spot spots zone zones x ray xray ct mr mri radiograph film picture structure structures tissue object finding
findings thing suspected suspicion possible probable likely questionable rule compatible consistent typical related
due change changes appearance appearing pls cxr pa ap films xr axr kub ctpa hrct ncct ncect cect usg ultrasound
scans study exam sequence flair t1 t2 t1w t2w dwi adc axis views incl including excluding etc via per versus vs he
stain slide same full complete just ones exact precise precisely automatically roi delineation annotate annotation
drawn contouring segmenting outlining detection detected identified noted described measuring measures measure mm cm
ml cc diameter across approximately about ca grade stage type class highlighted keeping volume volumes lumen space
spaces cine spread
"""
PLACES = """
left right bilateral unilateral side sided sides hand upper lower middle mid top base bases basal basilar bottom
apex apical apices lobe lobes lobar lobular field fields half halves lung lungs pulmonary hemithorax hemithoraces
thorax thoracic chest anterior posterior lateral medial front back dorsal ventral superior inferior cranial caudal
proximal distal central centre center peripheral periphery perihilar hilar subpleural pleural-based retrocardiac
paracardiac edge border segment segmental quadrant corner adjacent near next beside along above below behind
ipsilateral contralateral zone zonal axial coronal sagittal pole poles head body tail neck wall walls surface margin
margins rim core floor roof trunk branch branches main bibasal biapical bibasilar parahilar retrohilar
intraparenchymal parenchymal hemisphere hemispheres hemispheric frontal temporal parietal occipital insular
cerebellar cerebellum cerebral brainstem pontine thalamic ganglia periventricular juxtacortical infratentorial
supratentorial callosal intraaxial extraaxial territory mca aca pca vascular thigh calf leg arm forearm shoulder
buttock groin knee ankle foot flank loin abdomen abdominal pelvis pelvic retroperitoneal lumbar cervical sacral
level levels exophytic endophytic intramural subcapsular midline paramedian parasagittal septal apicoposterior
anterolateral posterolateral anteromedial posteromedial laterobasal posterobasal juxtapleural costophrenic
cardiophrenic intra extra uoq loq uiq liq intra-axial extra-axial cell cells
"""
LOOKS = """
acute chronic old new recent subacute active early late severe mild moderate marked slight subtle minimal extensive
small large big tiny huge little bigger smaller larger largest smallest long short thick thin broad narrow wide
faint dense hazy patchy diffuse focal multifocal multiple single solitary isolated scattered confluent linear
nodular round rounded oval irregular ill well defined circumscribed spiculated bright dark white grey gray black
hyperdense hypodense hyperintense hypointense isointense enhancing enhanced contrast cystic solid soft hard
calcified homogeneous heterogeneous ground glass mixed occupies occupying occupied namely attenuation pure partial
partially complete completely total full fully incomplete infected affected involved diseased abnormal normal
healthy sick inflamed inflammatory infectious viral bacterial atypical typical known unknown visible invisible
obvious clear clearly unclear definite enlarged swollen dilated thickened malignant benign primary secondary
recurrent residual evenly sparsely irregularly unevenly densely uniformly distributed distribution density high
higher low lower intensity count number size crowded crowding few many lots much more most less least stained stain
hypoechoic hyperechoic isoechoic anechoic echogenic hypervascular hypovascular hyperattenuating hypoattenuating
radiopaque radiolucent lucent necrotic haemorrhagic hemorrhagic lobulated microlobulated spiculate speculated
obstructing nonobstructing staghorn saddle subsegmental occlusive aspiration organizing organising bronchogram
bronchograms air filling ring peripheral cavitating cavitary ischaemic ischemic embolic aggressive suspicious
indeterminate incidental biopsy proven confirmed treated untreated postoperative post pre preoperative grade growing
grown stable unchanged progressive resolving worsening improving bulky
"""
SYNONYMS = (
    "tumor cancer carcinoma neoplasm malignancy tumour",
    "stone calculus calculi lith concretion",
    "hemorrhage bleed bleeding blood hematoma",
    "kidney renal",
    "liver hepatic",
    "lung pulmonary pulm",
    "heart cardiac",
    "brain cerebral intracranial",
    "nucleus nuclei nuclear",
    "stroke infarct infarction",
)
"""Synonyms in findings; the first word replaces the others."""
_ADJECTIVE = re.compile(r"\w{3,}(?:al|ic|ar|ous|ive)")
_COUNTS = "zero one two three four five six seven eight nine ten first second third"

_NEUTRAL = frozenset(f"{ASKING} {PLACES} {LOOKS} {_COUNTS}".split())


def explain_untaught(text: str, findings: Sequence[TaughtFinding], where: str = "") -> str:
    """Why a text is untaught, in one line; empty if it names a taught finding.

    Args:
        text: a finding as typed.
        findings: taught findings for the image's modality.
        where: text for that modality in the message, such as " for ct".
    """
    strange = strange_words(text, findings)
    if not strange:
        return ""
    unknown = "" if len(strange) == len(_words(text)) else f" because of '{strange[0]}'"
    near = ", ".join(f"'{finding.name}'" for finding in nearest(text, findings))
    return f"'{shortened(understood(text))}' was not taught{where}{unknown}{f'; nearest: {near}' if near else ''}"


def strange_words(text: str, findings: Iterable[TaughtFinding]) -> list[str]:
    """Words of a text that no taught finding explains; all words if the text names none.

    Args:
        text: a finding as typed.
        findings: taught findings.
    """
    words = _words(text)
    named = [finding for finding in findings if _names(words, finding)]
    explained = {word for finding in named for term in finding.terms for word in _words(term)}
    if not named:
        return list(words)
    return [word for word in words if not (_is_neutral(word) or _is_like_any(word, explained))]


def nearest(text: str, findings: Sequence[TaughtFinding], count: int = NEAREST) -> list[TaughtFinding]:
    """Taught findings that share a word with a text or have a similar spelling, nearest first; may be empty."""
    words, spelled = _words(text), understood(text).lower()

    def likeness(finding: TaughtFinding) -> float:
        shared = max(sum(_is_like_any(part, words) for part in _words(term)) for term in finding.terms)
        return shared + max(SequenceMatcher(None, spelled, term.lower()).ratio() for term in finding.terms)

    near = [(likeness(finding), n) for n, finding in enumerate(findings)]
    return [findings[n] for value, n in sorted(near, key=lambda pair: (-pair[0], pair[1]))[:count] if value >= ALIKE]


def _names(words: Sequence[str], finding: TaughtFinding) -> bool:
    return any(all(_is_like_any(part, words) for part in _content(term)) for term in finding.terms)


def _content(term: str) -> Sequence[str]:
    """The words of a term without "of" and "the"."""
    words = _words(term)
    return [word for word in words if word not in _ASKING_STEMS] or words


@lru_cache(maxsize=4096)  # every question asks for the words of all taught terms
def _words(text: str) -> tuple[str, ...]:
    words = re.findall(r"[^\W_]+(?:'s)?", understood(text).lower())
    return tuple(_plain(word) for word in words if not word.isdigit())


@lru_cache(maxsize=4096)
def _plain(word: str) -> str:
    """The same word for all synonyms, such as "kidney" for "renal"."""
    stem = stem_of(word)
    same = next((known for known in _SAME if is_like(stem, known)), stem)
    return _SAME.get(same, stem)


_SAME = {stem_of(word): words.split()[0] for words in SYNONYMS for word in words.split()}
_NEUTRAL_STEMS = frozenset(map(_plain, _NEUTRAL))
_ASKING_STEMS = frozenset(map(_plain, ASKING.split()))


def _is_neutral(word: str) -> bool:
    return len(word) == 1 or bool(_ADJECTIVE.fullmatch(word)) or _is_like_any(word, _NEUTRAL_STEMS)


def _is_like_any(word: str, known: Iterable[str]) -> bool:
    return any(is_like(word, other) for other in known)
