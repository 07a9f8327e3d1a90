"""The scripts that go to Slurm, and what is read of them afterwards; the real one is in hpc/."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vxmprep.cli.parser import parse
from vxmprep.cli.slurm import main
from vxmprep.morph.checkpoint import save_checkpoint
from vxmprep.morph.frame import Frame
from vxmprep.morph.model import Model
from vxmprep.morph.network import VxmNet
from vxmprep.spatial.files import checksum
from vxmprep.training.folder import ModelFolder

LEVELS = ("prepare", "train", "participant")


@pytest.fixture
def odd(study):
    """A study in a folder whose name is a trial, with six participants."""
    root = study.root.rename(study.root.parent / 'it\'s a "study" for $HOME; `x` *')
    made = type(study)(study.tiny, root, tuple(
        word.replace(str(study.root), str(root)) for word in study.options
    ))  # fmt: skip
    for number, label in enumerate(("03", "04", "05", "06"), start=3):
        study.tiny.scan(made.t1w(label), number)
    return made


@pytest.fixture
def slurm_programs(tmp_path, monkeypatch):
    """Programs that answer as Slurm's do, and keep what they are asked."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def program(name: str, lines: str) -> None:
        (folder / name).write_text(f"#!/bin/bash\n{lines}\n")
        (folder / name).chmod(0o755)

    program("sbatch", f'echo "$@" >>"{folder}/asked"; wc -l <"{folder}/asked"')
    program("scontrol", "echo 'MaxArraySize            = 2'")
    program("sinfo", "echo '(null)'")
    program("squeue", "echo '1 RUNNING None'; echo '1 PENDING None'; echo '1 PENDING None'")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def write(study, *more, levels=LEVELS) -> Path:
    words = [*study.options]
    for option in ("--nprocs", "--omp-nthreads", "--device"):
        del words[words.index(option) : words.index(option) + 2]
    arguments = [str(study.bids), str(study.out), *levels, *words, *more]
    assert main(arguments) == 0
    return study.out / "code" / "slurm"


def directives(script: Path) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.+)$", script.read_text(), re.MULTILINE))


def words_of(script: Path, task: int = 0) -> list[str]:
    """Run a script with a program that tells its arguments in place of the command."""
    text = script.read_text()
    teller = "import sys; sys.stdout.write('\\0'.join(sys.argv[1:]))"
    command = f"{sys.executable} -c {shlex.quote(teller)} \\\n"
    text, count = re.subn(r"exec .* -m vxmprep \\\n", f"exec {command}".replace("\\", r"\\"), text)
    assert count == 1
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}
    done = subprocess.run(
        ["bash", "-c", text, "job", "1"], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.split("\n")[-1].split("\0")


def train_in_no_time(study):
    """Leave a file where the network will be, which the command looks for."""
    (study.out / "models" / "cohort").mkdir(parents=True)
    (study.out / "models" / "cohort" / "model.pt").touch()


def test_the_scripts_of_a_folder_with_spaces_and_quotes_give_the_command_what_was_asked_for(odd):
    atlas_labels = odd.options[odd.options.index("--atlas-labels") + 1]
    folder = write(odd, "--width", "2", "--voxel-size", "2", "--no-n4", "-vv")
    train_in_no_time(odd)
    settings = parse(words_of(folder / "participant.sh", task=1))  # and the script's own 1
    assert settings.participant_label == ("05", "06")
    assert (settings.bids_dir, settings.output_dir) == (odd.bids, odd.out)
    assert str(settings.atlas_labels) == atlas_labels
    assert (settings.n4, settings.verbose, settings.refine_iterations) == (False, 2, 5)
    assert (settings.device, settings.precision) == ("cpu", "float32")
    assert (settings.nprocs, settings.omp_nthreads) == (1, 1)
    training = parse(words_of(folder / "train.sh"))
    assert training.training.voxel_size == 2
    assert training.bids_database_dir == settings.bids_database_dir
    assert "--voxel-size" not in (folder / "prepare.sh").read_text()


@pytest.mark.parametrize("more", [[], ["--image", "IMAGE", "--setup", "module load apptainer"]])
def test_shellcheck_finds_nothing(odd, more):
    shellcheck = Path(sys.executable).parent / "shellcheck"
    image = odd.root / "an image.sif"
    image.touch()
    folder = write(odd, *(str(image) if word == "IMAGE" else word for word in more))
    dollar = "--exclude=SC2016"  # that of the folder's name is meant
    done = subprocess.run(
        [shellcheck, dollar, *folder.glob("*.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_arrays_are_cut_to_what_slurm_takes_and_follow_each_other(study, slurm_programs, capfd):
    for number, label in enumerate(("03", "04", "05"), start=3):
        study.tiny.scan(study.t1w(label), number)
    folder = write(study, "--width", "1", "--at-once", "7", "--submit")
    assert (slurm_programs / "asked").read_text().splitlines() == [
        "--parsable --array=0-1%7 prepare.sh",
        "--parsable --array=0-1%7 prepare.sh 2",
        "--parsable --array=0-0%7 prepare.sh 4",
        "--parsable --dependency=afterany:1:2:3 train.sh",
        "--parsable --dependency=afterany:4 --array=0-1%7 participant.sh",
        "--parsable --dependency=afterany:4 --array=0-1%7 participant.sh 2",
        "--parsable --dependency=afterany:4 --array=0-0%7 participant.sh 4",
    ]
    assert (folder / "jobs.txt").read_text().splitlines()[3] == "train 4"
    words = [str(study.bids), str(study.out), "prepare", "--submit"]
    assert main(words) == 2, "before these are at their end"
    assert "this cohort has 3 jobs in Slurm's queue" in capfd.readouterr().err


def test_what_jobs_ask_for_is_in_their_scripts(study, slurm_programs):
    where = ["--partition", "cpu", "--gpu-partition", "gpu", "--account", "lab"]
    more = ["--time", "1:00:00", "--nprocs", "2", "--mem-mb", "5000", "--sbatch=--qos=long"]
    folder = write(study, *where, *more)
    asked = directives(folder / "participant.sh")
    assert asked["partition"] == "cpu"
    assert (asked["account"], asked["qos"]) == ("lab", "long")
    assert (asked["time"], asked["mem"], asked["cpus-per-task"]) == ("1:00:00", "5000M", "2")
    train_in_no_time(study)
    assert parse(words_of(folder / "participant.sh", -1)).mem_mb == 4500
    assert asked["signal"].startswith("B:TERM@"), "to the command, before the time is over"
    assert directives(folder / "train.sh")["partition"] == "cpu", "no GPU is there"


def test_a_gpu_is_asked_for_where_one_is_wanted_and_nowhere_else(study, slurm_programs):
    folder = write(study)
    assert not any("gres" in directives(script) for script in folder.glob("*.sh"))
    assert "--device=cpu" in (folder / "train.sh").read_text()
    (slurm_programs / "sinfo").write_text("#!/bin/bash\necho gpu:a100:4\n")
    folder = write(study, "--devices", "2", "--nodes", "3", "--batch-size", "6")
    asked = directives(folder / "train.sh")
    assert (asked["gres"], asked["nodes"], asked["ntasks-per-node"]) == ("gpu:2", "3", "2")
    assert "--device=cuda" in (folder / "train.sh").read_text()
    assert "gres" not in directives(folder / "participant.sh")
    folder = write(study, "--device", "cuda")
    assert "gres" not in directives(folder / "prepare.sh")
    assert directives(folder / "participant.sh")["gres"] == "gpu:1"


def test_memory_and_time_follow_the_scans(study):
    small = directives(write(study, levels=["prepare"]) / "prepare.sh")
    assert 2000 < int(small["mem"].removesuffix("M")) < 5000
    import nibabel as nb
    import numpy as np

    large = np.zeros((512, 512, 400), np.uint8)
    nb.save(nb.Nifti1Image(large, np.diag([0.4, 0.4, 0.4, 1])), study.t1w("02"))
    more = directives(write(study, levels=["prepare"]) / "prepare.sh")
    assert int(more["mem"].removesuffix("M")) >= int(small["mem"].removesuffix("M")) + 500
    assert more["time"] > small["time"]


def test_the_time_of_the_group_follows_the_scans_that_are_known(study):
    (study.out / "logs").mkdir(parents=True)
    for number in range(1000):
        (study.out / "logs" / f"sub-{number:04}_T1w.json").write_text("{}")
    asked = directives(write(study, levels=["group"]) / "group.sh")
    assert asked["cpus-per-task"] == "4"
    hours, minutes, _ = map(int, asked["time"].split(":"))
    needed = 1000 * 6.5 / 4 / 60
    assert 3 * needed < 60 * hours + minutes < 8 * needed


def test_no_job_asks_for_more_processors_than_a_node_has(study, slurm_programs):
    (slurm_programs / "sinfo").write_text(
        '#!/bin/bash\ncase "$*" in *%c*) echo 1; echo 3;; esac\n'
    )
    for number in range(3, 6):
        study.tiny.scan(study.t1w(f"{number:02}"), number)
    folder = write(study, levels=["participant", "group"])
    assert directives(folder / "group.sh")["cpus-per-task"] == "3"
    folder = write(study, levels=["train"])
    assert directives(folder / "train.sh")["cpus-per-task"] == "3"
    assert directives(folder / "train.sh")["ntasks-per-node"] == "1"
    folder = write(study, "--devices", "2", "--batch-size", "2", levels=["train"])
    assert directives(folder / "train.sh")["cpus-per-task"] == "1"


def test_in_an_image_everything_that_the_options_name_is_bound(study, tmp_path, slurm_programs):
    image = tmp_path / "vxmprep.sif"
    with_comma = ["--image", str(image)]
    image.touch()
    folder = write(study, *with_comma, "--bind", "/scratch:/scratch")
    text = (folder / "participant.sh").read_text()
    assert "apptainer exec --cleanenv --containall" in text
    for path, mode in ((study.bids, ":ro"), (study.freesurfer, ":ro"), (study.out, "")):
        bound = f"{path}:{path}{mode}" if mode else str(path)
        assert f"--bind={shlex.quote(bound)}" in text
    assert "--bind=/scratch:/scratch" in text
    assert "--nv" not in text


def test_in_an_image_a_template_is_that_which_was_found_outside(study, tmp_path, monkeypatch):
    image, cache = tmp_path / "vxmprep.sif", tmp_path / "cache"
    image.touch()
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(cache))
    bound = f"--bind={cache}:/opt/vxmprep/templateflow:ro"
    assert bound not in (write(study, "--image", str(image)) / "prepare.sh").read_text()
    (cache / "tpl-Tiny").mkdir(parents=True)
    name = "tpl-Tiny/tpl-Tiny_res-01_desc-brain_T1w.nii.gz"
    (study.root / "atlas" / "atlas.nii.gz").rename(cache / name)
    named = ("--atlas", "Tiny", "--atlas-name", "Tiny", "--image", str(image))
    assert bound in (write(study, *named) / "prepare.sh").read_text()


def test_in_an_image_what_only_the_group_reads_is_bound_too(study, tmp_path):
    image, ids, other = (tmp_path / name for name in ("vxmprep.sif", "ids.txt", "other"))
    image.touch()
    ids.write_text("17 53")
    other.mkdir()
    more = ["--image", str(image), "--labels", str(ids), "--compare", str(other)]
    text = (write(study, *more, levels=["participant", "group"]) / "group.sh").read_text()
    for path in (ids, other):
        assert f"--bind={path}:{path}:ro" in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--image", "/nowhere.sif"], "--image /nowhere.sif: no such file"),
        (["--time", "an hour"], "an hour is no time of Slurm"),
        (["--refine-iterations", "x"], "x is not a whole number"),
        (["--wdith", "2"], "--wdith"),
    ],
)
def test_bad_options_are_refused_in_one_line(study, capfd, more, said):
    assert main([str(study.bids), str(study.out), "prepare", *more]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("vxmprep-slurm: ")
    assert said in line


@pytest.mark.parametrize(("given", "lacking"), [(0, "BIDS_DIR"), (1, "OUTPUT_DIR"), (2, "LEVEL")])
def test_what_is_missing_is_said_with_the_commands_own_name_and_usage(
    study, capfd, given, lacking
):
    assert main([str(study.bids), str(study.out)][:given]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith(f"vxmprep-slurm: {lacking} is missing; usage: vxmprep-slurm [options]")


def test_what_is_said_counts_in_singular_and_plural(study, capfd):
    write(study)
    told = capfd.readouterr().out
    assert re.search(r"^prepare +1 task for 2 participants, each 1 processor, \d", told, re.M)
    assert re.search(r"^train +1 job, 4 processors, \d", told, re.M)
    write(study, "--width", "1", "--nprocs", "2", levels=["prepare"])
    told = capfd.readouterr().out
    assert re.search(r"^prepare +2 tasks for 2 participants, each 2 processors, \d", told, re.M)


def test_a_training_that_begins_elsewhere_than_the_one_of_its_name_is_refused(study, capfd):
    start = study.root / "start.pt"
    torch.manual_seed(0)
    save_checkpoint(Model(VxmNet((4, 4), (4, 4, 4)), Frame(spacing=2), {}), start)
    options = ("--voxel-size", "2", "--features", "4,4:4,4,4")
    from_there = (*options, "--initial-model", str(start))
    settings = parse(study.arguments(*options, level="train"))
    known = {**settings.training.identity(), "initial_model": checksum(start)}
    ModelFolder(settings.model_folder).claim(known, resume=True)
    write(study, *from_there, levels=["train"])
    capfd.readouterr()
    assert main(study.arguments(*options, level="train")) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert f"initial_model was {checksum(start)[:10]}" in line
    start.write_bytes(start.read_bytes() + b" ")
    assert main(study.arguments(*from_there, level="train")) == 2
    assert "initial_model was" in capfd.readouterr().err


def test_the_group_notes_what_was_killed_and_goes_on(study, slurm_programs):
    folder = write(study, "--submit", levels=["participant", "group"])
    assert (slurm_programs / "asked").read_text().splitlines()[-1] == (
        "--parsable --dependency=afterany:1 group.sh"
    )
    end_a_job(folder, next(iter(ENDS)))
    assert words_of(folder / "group.sh")[:3] == [str(study.bids), str(study.out), "group"]
    assert {row["status"] for row in study.status().values()} == {"failed"}


def test_the_group_notes_nothing_of_scans_that_were_not_chosen(study, slurm_programs, tmp_path):
    (tmp_path / "filter.json").write_text('{"t1w": {"acquisition": "fast"}}')
    study.tiny.scan(study.t1w("02").with_name("sub-02_acq-fast_T1w.nii.gz"), 4)
    chosen = ["--bids-filter-file", str(tmp_path / "filter.json")]
    folder = write(study, *chosen, levels=["participant", "group"])
    end_a_job(folder, next(iter(ENDS)))
    words_of(folder / "group.sh")
    assert list(study.status()) == ["sub-02_acq-fast"]


ENDS = {
    "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***":
        "ran out of time; give more --time",
    "slurmstepd-n1: error: Detected 1 oom_kill event in StepId=7.batch.": "ran out of memory",
    "slurmstepd: error: StepId=7.batch exceeded memory limit (9 > 8), being killed":
        "ran out of memory",
    "vxmprep: interrupted; the same command goes on from here": "was interrupted",
}  # fmt: skip


def end_a_job(folder: Path, line: str) -> None:
    (folder / "jobs.txt").write_text("participant 1\n")
    log = folder / "logs" / "vxmprep-participant-1_0.log"
    log.write_text(
        f"participants: 01\nslurmstepd: DUE TO NODE FAILURE\nparticipants: 01 02\nworks\n{line}\n"
    )


@pytest.mark.parametrize(("line", "why"), ENDS.items())
def test_the_status_names_the_scans_whose_job_was_ended_and_they_are_failed(
    study, slurm_programs, capfd, line, why
):
    end_a_job(write(study, levels=["participant"]), line)
    capfd.readouterr()
    assert main([str(study.bids), str(study.out), "--status"]) == 1
    told = capfd.readouterr()
    assert "participant: 1 running, 2 pending" in told.out
    assert re.search(rf"FAILED sub-02: .*{why}.*vxmprep-participant-1_0\.log", told.err)
    assert {row["status"] for row in study.status().values()} == {"failed"}


def test_the_status_says_what_a_job_said_last_that_came_to_nothing(study, slurm_programs, capfd):
    folder = write(study)
    (folder / "jobs.txt").write_text("prepare 1\n")
    logs = {
        "prepare-1_0": "participants: 01 02\nline 30: apptainer: command not found\n\n",
        "train-2": "vxmprep: /data: no such folder\n",
    }
    for name, text in logs.items():
        (folder / "logs" / f"vxmprep-{name}.log").write_text(text)

    def told() -> str:
        capfd.readouterr()
        assert main([str(study.bids), str(study.out), "--status"]) == 1
        return capfd.readouterr().err

    (line,) = told().splitlines()
    assert line.startswith("NOTHING DONE by a job of train, "), "the other is in the queue still"
    (slurm_programs / "squeue").write_text("#!/bin/bash\n")
    first, second = told().splitlines()
    assert first == (
        "NOTHING DONE by a job of prepare, which said at last: line 30: apptainer: command not "
        f"found ({folder}/logs/vxmprep-prepare-1_0.log)"
    )
    assert "vxmprep: /data: no such folder" in second
    assert not (study.out / "participants_status.tsv").exists()
    (slurm_programs / "squeue").write_text(
        "#!/bin/bash\necho 'error: Unable to contact slurm controller' >&2; exit 1\n"
    )
    assert told() == "", "nobody knows whether they run still"


def test_what_a_job_tells_of_the_ends_of_others_is_not_its_own(study, slurm_programs, capfd):
    folder = write(study)
    log = folder / "logs" / "vxmprep-group-3.log"
    log.write_text("ENDED train: its job ran out of memory; give more --mem-mb (train-2.log)\n")
    capfd.readouterr()
    assert main([str(study.bids), str(study.out), "--status"]) == 1
    assert "ENDED group" not in capfd.readouterr().err


def test_the_log_of_a_participant_named_as_a_level_is_not_that_levels(
    study, slurm_programs, capfd
):
    study.tiny.scan(study.t1w("train"), 3)
    folder = write(study)
    (folder / "jobs.txt").write_text("prepare 1\n")
    end = next(iter(ENDS))
    (folder / "logs" / "vxmprep-train-2.log").write_text("at work\n")
    (folder / "logs" / "vxmprep-prepare-1_0.log").write_text(f"participants: train\n{end}\n")
    capfd.readouterr()
    assert main([str(study.bids), str(study.out), "--status"]) == 1
    told = capfd.readouterr().err
    assert "ENDED train" not in told
    assert "FAILED sub-train: its job ran out of time" in told


def test_the_training_takes_what_the_jobs_before_have_prepared(study):
    folder = write(study, levels=["prepare", "train"])
    assert "--only-prepared" in (folder / "train.sh").read_text()
    assert "--only-prepared" not in (folder / "prepare.sh").read_text()
    folder = write(study, levels=["train"])
    assert "--only-prepared" not in (folder / "train.sh").read_text()


def test_the_status_says_why_jobs_wait_in_slurms_own_words(study, slurm_programs, capfd):
    folder = write(study, levels=["participant", "group"])
    (folder / "jobs.txt").write_text("participant 1\ngroup 2\n")
    lines = "\n".join(
        ["1 RUNNING None", "1 PENDING Resources", "1 PENDING Resources",
         "1 PENDING ReqNodeNotAvail, UnavailableNodes:n7", "1 PENDING None",
         "2 PENDING Dependency", "3 PENDING Priority"]
    )  # fmt: skip
    (slurm_programs / "squeue").write_text(
        f"#!/bin/bash\n[[ \"$*\" == *'%F %T %r'* ]] && echo '{lines}'\n"
    )
    capfd.readouterr()
    main([str(study.bids), str(study.out), "--status"])
    told = capfd.readouterr().out
    assert (
        "  participant: 1 running, 2 pending (Resources), "
        "1 pending (ReqNodeNotAvail, UnavailableNodes:n7), 1 pending\n"
        "  group: 1 pending (Dependency)\n"
    ) in told


def test_only_what_is_missing_gets_a_job_and_what_was_ended_is_done_in_the_end(study, capfd):
    assert study.run("--participant-label", "01") == 0
    folder = write(study, levels=["prepare", "participant"])
    for level in ("prepare", "participant"):
        assert re.findall(r'^    "(.*)"$', (folder / f"{level}.sh").read_text(), re.M) == ["02"]
    end_a_job(folder, next(iter(ENDS)))
    assert main([str(study.bids), str(study.out), "--status"]) == 1
    assert {name: row["status"] for name, row in study.status().items()} == {
        "sub-01": "done", "sub-02": "failed",
    }  # fmt: skip
    assert study.run() == 0
    capfd.readouterr()
    assert main([str(study.bids), str(study.out), "--status"]) == 0
    told = capfd.readouterr()
    assert re.search(r"done +2\n", told.out)
    assert not told.err
    write(study, levels=["prepare", "participant"])
    assert "all is done already" in capfd.readouterr().out
