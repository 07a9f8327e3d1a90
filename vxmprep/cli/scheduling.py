"""The order in which the nodes of a cohort run on one machine."""

from nipype.pipeline.plugins.multiproc import MultiProcPlugin


class ScanByScan(MultiProcPlugin):
    """nipype's MultiProc, finishing scans that have begun before beginning others.

    Left to itself it runs the first step of every scan, then the second: all results come at the
    very end, and the intermediate files of the whole cohort fill the disk.
    """

    def _sort_jobs(self, jobids, scheduler="tsort"):
        return sorted(jobids, key=self._branch)

    def _branch(self, jobid: int) -> int:
        """Give the place of a node's branch among the branches."""
        if not hasattr(self, "_branches"):
            self._branches = {}
            for node in self.procs:
                self._branches.setdefault(node.fullname.split(".")[1], len(self._branches))
        return self._branches[self.procs[jobid].fullname.split(".")[1]]
