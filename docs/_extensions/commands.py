"""The directive ``help``: what a command says of itself."""

import importlib
import os
import re

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


class Help(Directive):
    """Show the help of a parser of `vxmprep.cli`: ``doctor``, ``slurm:build_slurm_parser``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Give it as a block of text, without what is so on this machine alone."""
        os.environ["COLUMNS"] = "88"
        module, _, builder = self.arguments[0].partition(":")
        module = importlib.import_module(f"vxmprep.cli.{module}")
        parser = getattr(module, builder or "build_parser")()
        text = re.sub(r",\s+here\s+\d+\)", ")", parser.format_help())
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict:
    """Make it known to Sphinx."""
    app.add_directive("help", Help)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
