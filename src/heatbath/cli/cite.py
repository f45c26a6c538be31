"""``heatbath cite``: what to cite for a run."""

from heatbath.cli.options import Json, Run


def cite(directory: Run, /, *, json: Json = False) -> int:
    """Print the BibTeX entries of everything a run stands on: heatbath, its foundations, force field and methods."""
    from heatbath.cli.output import print_json
    from heatbath.io.run_directory import RunDirectory

    text = RunDirectory.open(directory).read("CITATIONS.bib")
    if json:
        print_json({"bibtex": text})
    else:
        print(text, end="")
    return 0
