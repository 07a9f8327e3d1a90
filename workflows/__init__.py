"""Nipype graphs: they connect interfaces, know no arithmetic and read no global state."""

from vxmprep.workflows.cohort import init_cohort_wf
from vxmprep.workflows.evaluation import init_evaluation_wf
from vxmprep.workflows.preparation import init_alignment_wf, init_brain_wf
from vxmprep.workflows.registration import init_registration_wf
from vxmprep.workflows.scan import init_scan_wf
from vxmprep.workflows.training import init_training_wf

__all__ = [
    "init_alignment_wf",
    "init_brain_wf",
    "init_cohort_wf",
    "init_evaluation_wf",
    "init_registration_wf",
    "init_scan_wf",
    "init_training_wf",
]
