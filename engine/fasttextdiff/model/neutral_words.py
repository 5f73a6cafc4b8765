"""The words that may accompany a taught finding: they request, locate or describe. Also synonyms in findings."""

from __future__ import annotations

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
bilaterally
left right bilateral unilateral side sided sides hand upper lower middle mid top base bases basal basilar bottom
apex apical apices lobe lobes lobar lobular field fields half halves lung lungs pulmonary hemithorax hemithoraces
thorax thoracic chest anterior posterior lateral medial front back dorsal ventral superior inferior cranial caudal
proximal distal central centre center peripheral periphery perihilar hilar subpleural pleural-based retrocardiac
paracardiac edge border segment segmental quadrant corner adjacent near next beside along above below behind
ipsilateral contralateral zone zonal axial coronal sagittal pole poles head body tail neck wall walls surface margin
margins rim core floor roof trunk branch branches main bibasal biapical bibasilar parahilar retrohilar
intraparenchymal parenchymal hemisphere hemispheres hemispheric frontal temporal parietal occipital insular
cerebellar cerebellum brainstem pontine thalamic ganglia periventricular juxtacortical infratentorial
supratentorial callosal intraaxial extraaxial territory mca aca pca vascular thigh calf leg arm forearm shoulder
buttock groin knee ankle foot flank loin abdomen abdominal pelvis pelvic retroperitoneal lumbar cervical sacral
level levels exophytic endophytic intramural subcapsular midline paramedian parasagittal septal apicoposterior
anterolateral posterolateral anteromedial posteromedial laterobasal posterobasal juxtapleural costophrenic
cardiophrenic intra extra uoq loq uiq liq intra-axial extra-axial cell cells ascending descending asc desc abd thor
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
DISEASED = """
infected infectious infective inflamed inflammatory diseased affected involved viral bacterial haemorrhagic hemorrhagic
bleeding ischaemic ischemic necrotic malignant metastatic cancerous tumorous tumoral neoplastic embolic thrombotic
obstructing obstructed occluded thickened cavitating cavitary consolidated abscessed infarcted ruptured lacerated
"""
"""Words that make something else of an organ: they are neutral only with a finding that is itself an abnormality."""
ORGANS = """
adrenal splenic skeletal myocardial pericardial oesophageal esophageal gastric colonic ovarian uterine duodenal jejunal
ileal rectal pancreatic mediastinal spinal muscular cutaneous ureteric urethral vaginal testicular mammary orbital nasal
pharyngeal laryngeal tracheal bronchial aortic coronary carotid mesenteric peritoneal vesical dental facial femoral
humeral tibial biliary pituitary hippocampal thymic tonsillar prostatic meningeal ventricular valvular hepatobiliary
"""
"""Adjectives of organs, which look like descriptions but name something."""
PARTS = """
left right upper lower middle mid top base bases basal bottom apex apical lobe lobes lobar anterior posterior lateral
medial front back dorsal ventral superior inferior proximal distal central peripheral segment segmental quadrant corner
pole poles head body tail neck wall walls rim core floor roof trunk branch branches zone half halves quarter horn cortex
medulla frontal temporal parietal occipital insular cerebellar cervical lumbar sacral
"""
"""Words that ask for a part of a finding, or for one side."""
RELATIONS = "behind near next adjacent beside along above below around abutting touching"
"""Words after which an organ is where a lesion is near, not what it is in."""
ELSEWHERE = {
    "ventricle": "lateral third fourth brain intracranial frontal occipital temporal horn horns",
    "vertebra": "t1 t2 t3 t4 t5 t6 t7 t8 t9 t10 t11 t12",
}
"""Words with which another word names something else: the lateral ventricles are of the brain, not of the heart."""
