from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from detkit.cli.eval import main
from detkit.workflows.evaluate import row_names
from tests.cli.measured import CLASSES, OBJECTS, figures_of, voc_words

pytestmark = pytest.mark.usefixtures("cache")


def test_checkpoint_to_table_json_pictures_and_detections(
    tmp_path: Path, run_folder: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, found = tmp_path / "new" / "figures.json", tmp_path / "found.json"
    words = [str(run_folder), "--device", "cpu", "--json", str(figures), "--speed-images", "2"]
    words += ["eval.batch_size=2", "--out", str(tmp_path / "out"), "--save-detections", str(found)]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.err == (
        "data: 3 images (1 without objects), 2 objects of 2 classes\n"
        "measuring tiny_run on 3 images\ntiming 22 images, one by one\n"
    )
    assert said.out.startswith(f"voc {voc} test: 3 images, 2 objects")
    assert said.out.splitlines()[-3:] == [
        f"figures are in {figures}",
        f"detections are in {found}",
        f"curves and pictures are in {tmp_path / 'out'}",
    ]
    pictures = {path.name for path in (tmp_path / "out" / "tiny_run").iterdir()}
    assert {"precision_recall.png", "confusion.png", "errors.png"} < pictures
    row = json.loads(figures.read_text())
    assert (row["name"], row["step"], row["images"], row["objects"]) == ("tiny_run", 7, 3, 2)
    assert row["source"] == str(run_folder / "best")
    assert (row["model"], row["backbone"], row["input_size"]) == ("yolo_v2", "tiny", [64, 64])
    assert 0 < row["median_ms"] <= row["p95_ms"]
    assert row["fps"] == pytest.approx(1000 / row["median_ms"])
    assert set(row["per_class"]) == set(CLASSES)

    # what was saved, measured as any toolkit's file, has the same accuracy
    again = tmp_path / "again.json"
    assert main(["--detections", str(found), *voc_words(voc), "--json", str(again)]) == 0
    theirs = json.loads(again.read_text())
    for name in ("voc07_map", "voc10_map", "coco_ap", "coco_ap50", "coco_ar100", "detections"):
        assert theirs[name] == row[name]
    assert theirs["per_class"] == row["per_class"]


def test_detections_of_another_toolkit(tmp_path: Path, voc: Path) -> None:
    found = tmp_path / "theirs.json"
    entry = {"image_id": "one", "category": "cat", "bbox": [0, 0, 30, 30], "score": 0.9}
    found.write_text(json.dumps([entry]))
    figures = tmp_path / "figures.json"
    assert main(["--detections", str(found), *voc_words(voc), "--json", str(figures)]) == 0
    row = json.loads(figures.read_text())
    assert (row["name"], row["voc07_map"]) == ("theirs", 0.5)
    assert row["per_class"]["cat"]["voc10_ap"] == 1.0
    assert "fps" not in row


def test_the_voc_rule_and_the_limit_of_detections_are_chosen_on_the_command_line(
    tmp_path: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cat with an IoU of exactly one half, and a dog found whole."""
    found = tmp_path / "theirs.json"
    half = {"image_id": "one", "category": "cat", "bbox": [0, 0, 30, 15], "score": 0.9}
    whole = {"image_id": "two", "category": "dog", "bbox": [10, 10, 30, 20], "score": 0.9}
    found.write_text(json.dumps([half, whole]))
    words = ["--detections", str(found), *voc_words(voc)]
    devkit = figures_of([*words, "--bootstrap", "100"], tmp_path)
    assert "VOC07, VOC10+ by rule devkit: IoU >= 0.5;" in capsys.readouterr().out
    assert (devkit["voc_rule"], devkit["voc07_map"], devkit["voc10_map"]) == ("devkit", 1.0, 1.0)
    assert devkit["confusion"]["cat"] == {"cat": 1}
    assert devkit["errors"]["location"]["count"] == 0
    assert devkit["intervals"]["voc07_map"]["high"] == 1.0
    words += ["eval.voc_rule=voc_eval", "eval.max_detections=300", "--report", f"{tmp_path}/a.html"]
    other = figures_of([*words, "--out", str(tmp_path / "out")], tmp_path)
    said = capsys.readouterr().out
    assert "VOC07, VOC10+ by rule voc_eval: IoU > 0.5;" in said
    assert "AR300" in said
    assert (other["voc_rule"], other["voc07_map"], other["voc10_map"]) == ("voc_eval", 0.5, 0.5)
    assert (other["coco_max_detections"], other["coco_ar300"]) == (300, devkit["coco_ar100"])
    assert other["confusion"]["cat"] == {"(background)": 1}
    assert other["errors"]["location"]["count"] == 1
    page = (tmp_path / "a.html").read_text()
    assert "IoU &gt; 0.5" in page
    assert "IoU &gt;= 0.5: " not in page
    assert (tmp_path / "out" / "theirs" / "worst_01_one.png").is_file()


def test_bootstrap_report_csv_and_markdown(
    tmp_path: Path, run_folder: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "theirs.json"
    found.write_text(
        json.dumps([{"image_id": "one", "category": "cat", "bbox": [0, 0, 30, 30], "score": 0.9}])
    )
    words = [str(run_folder), "--detections", str(found), *voc_words(voc), "--no-speed"]
    words += ["--bootstrap", "200", "--csv", str(tmp_path / "t.csv"), "--device", "cpu"]
    words += ["--markdown", str(tmp_path / "t.md"), "--report", str(tmp_path / "page")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "theirs against tiny_run, mAP VOC07: +0." in " ".join(said.split())
    assert said.splitlines()[-3:] == [
        f"figures are in {tmp_path / 't.csv'}",
        f"figures are in {tmp_path / 't.md'}",
        f"the report is {tmp_path / 'page' / 'report.html'}; any browser opens it",
    ]
    assert (tmp_path / "t.csv").read_text().count("\n") == 3
    assert "| theirs |" in (tmp_path / "t.md").read_text()
    page = (tmp_path / "page" / "report.html").read_text()
    assert "Evaluation of tiny_run, theirs" in page
    assert "detkit eval" in page


def test_official_coco_results(
    tmp_path: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers as COCO's: ids with gaps, classes counted from one."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val").symlink_to(voc / "JPEGImages")
    content = {
        "images": [
            {"id": 7 * turn, "file_name": f"{name}.png", "height": 40, "width": 60}
            for turn, name in enumerate(OBJECTS, start=1)
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 17, "bbox": [0, 0, 30, 30], "iscrowd": 0},
            {"id": 2, "image_id": 14, "category_id": 18, "bbox": [10, 10, 30, 20], "iscrowd": 0},
        ],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    found = tmp_path / "found.json"
    theirs = [
        {"image_id": 14, "category_id": 18, "bbox": [10, 10, 30, 20], "score": 0.9},
        {"image_id": 7, "category_id": 18, "bbox": [0, 0, 30, 30], "score": 0.8},
    ]
    found.write_text(json.dumps(theirs))
    data = ["data.format=coco", f"data.root={root}", "data.split=val"]
    row = figures_of(["--detections", str(found), *data], tmp_path)
    assert (row["images"], row["objects"], row["detections"]) == (3, 2, 2)
    assert (row["coco_ap"], row["coco_ap_small"]) == (pytest.approx(0.5), pytest.approx(0.5))
    assert row["per_class"]["dog"]["coco_ap"] == pytest.approx(1.0)
    assert row["confusion"]["cat"] == {"dog": 1}
    found.write_text(json.dumps([theirs[0] | {"category_id": 1}]))
    assert main(["--detections", str(found), *data]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"detkit eval: {found}: entry 0: no category_id 1 in the data. Known: 17 cat, 18 dog."
    )


def test_several_rows_make_a_list(tmp_path: Path, run_folder: Path, voc: Path) -> None:
    found = tmp_path / "theirs.json"
    found.write_text("[]")
    words = [str(run_folder), *voc_words(voc), "--detections", str(found), "--no-speed"]
    assert main([*words, "--json", str(tmp_path / "figures.json"), "--device", "cpu"]) == 0
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert [row["name"] for row in rows] == ["tiny_run", "theirs"]
    assert rows[1]["voc07_map"] == 0.0


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/best", "runs/b/best"], ["a", "b"]),
        (["runs/a/best", "runs/a/last"], ["a/best", "a/last"]),
        (["x/a/best", "y/a/best"], ["x/a/best", "y/a/best"]),
        (["exported"], ["exported"]),
    ],
)
def test_rows_have_the_shortest_names_that_differ(paths: list[str], names: list[str]) -> None:
    assert row_names([Path(path) for path in paths]) == names


HOW = "data.format=voc data.root=FOLDER data.split=test"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["{run}", "train.lr=1"],
            "train.lr: not for evaluation; here data.*, eval.* and model.score_threshold, "
            "model.nms_iou, model.max_detections, model.max_per_class, model.input_size, "
            "model.placement, model.min_size, model.max_size, model.post_nms_test, "
            "model.svd_ranks, model.proposals.* can be set, the rest is in the checkpoint.",
        ),
        (
            ["{run}", "model.head_channels=8"],
            "model.head_channels: not for evaluation; here data.*, eval.* and "
            "model.score_threshold, model.nms_iou, model.max_detections, model.max_per_class, "
            "model.input_size, model.placement, model.min_size, model.max_size, "
            "model.post_nms_test, model.svd_ranks, model.proposals.* can be set, the rest is in "
            "the checkpoint.",
        ),
        (
            ["{run}", "model.score_treshold=0.1"],
            "model.score_treshold: not for evaluation; here data.*, eval.* and "
            "model.score_threshold, model.nms_iou, model.max_detections, model.max_per_class, "
            "model.input_size, model.placement, model.min_size, model.max_size, "
            "model.post_nms_test, model.svd_ranks, model.proposals.* can be set, the rest is in "
            "the checkpoint. "
            "Did you mean 'model.score_threshold'?",
        ),
        (
            ["{run}", "model.proposals.most=5"],
            "model.proposals: tiny_run, a yolo_v2, has none; it has model.score_threshold, "
            "model.nms_iou, model.input_size, model.placement.",
        ),
        (
            ["{run}", "model.max_per_class=5"],
            "model.max_per_class: tiny_run, a yolo_v2, has none; it has model.score_threshold, "
            "model.nms_iou, model.input_size, model.placement.",
        ),
        (
            ["{run}", "model.nms_iou=7"],
            "tiny_run, a yolo_v2: model.nms_iou: expected a value of at most 1; got 7.",
        ),
        (
            ["--detections", "{tmp}/found.json", "{voc}", "model.nms_iou=0.4"],
            "model.nms_iou: a file of detections has no model.",
        ),
        (
            ["{run}", "eval.batchsize=1"],
            "eval.batchsize: unknown key. Did you mean 'batch_size'?",
        ),
        (
            ["{run}", "eval.batch_size=0"],
            "eval.batch_size: expected a value above 0; got 0.",
        ),
        (
            ["{run}", "eval.voc_rule=voceval"],
            "eval.voc_rule: expected 'devkit' or 'voc_eval'; got 'voceval'.",
        ),
        (
            ["{run}", "eval.max_detections=10"],
            "eval.max_detections: expected a value above 10; got 10.",
        ),
        (
            ["{run}", "data.workers=[1"],
            "data.workers: the value '[1' is not readable as YAML. Quote it.",
        ),
        (
            ["{run}", "data.classes=[cat, 7]"],
            "data.classes.1: expected text (put it in quotes); got 7.",
        ),
        (
            ["{tmp}/tiny_rn"],
            "{tmp}/tiny_rn: no checkpoint here; expected a run folder, or a folder with "
            "model.json and weights.safetensors. Did you mean 'tiny_run'?",
        ),
        (
            ["{run}", "--json", "{tmp}/" + "x" * 300],
            "{tmp}/" + "x" * 300 + ": cannot be used (File name too long). Name a shorter path.",
        ),
        (
            ["{run}", "eval.batchsize=" + "1" * 300],
            "eval.batchsize: unknown key. Did you mean 'batch_size'?",
        ),
        (["{run}", "--json", "{tmp}"], "{tmp}: is a folder; name a file in it."),
        (["{run}", "--csv", "{tmp}"], "{tmp}: is a folder; name a file in it."),
        (["{run}", "--markdown", "{tmp}"], "{tmp}: is a folder; name a file in it."),
        (
            ["{run}", "--precision", "fp16"],
            "--precision fp16: needs a GPU; use bf16 or fp32 on a CPU.",
        ),
        (
            ["--detections", "{tmp}/found.json", "data.format=voc"],
            f"--detections {{tmp}}/found.json: say what they were found in: {HOW}.",
        ),
        (
            ["--detections", "{tmp}/found.json", "{voc}"],
            "{tmp}/found.json: no such detections file.",
        ),
        (["{run}", "data.format=vok"], "no data format named 'vok'.{formats}"),
    ],
)
def test_mistakes_get_one_line_and_code_2(
    run_folder: Path,
    voc: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    from detkit.data import DATASETS
    from detkit.errors import did_you_mean

    places = {"{run}": [str(run_folder)], "{voc}": voc_words(voc)}
    typed = [part for word in words for part in places.get(word, [word])]
    typed = [word.replace("{tmp}", str(run_folder.parent)) for word in typed]
    assert main([*typed, "--device", "cpu", "--no-speed"]) == 2
    expected = said.replace("{tmp}", str(run_folder.parent))
    expected = expected.replace("{formats}", did_you_mean("vok", DATASETS))
    assert capsys.readouterr().err == f"detkit eval: {expected}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a run folder, a checkpoint folder, or --detections FILE"),
        (
            ["a", "b", "--save-detections", "f"],
            "--save-detections takes the detections of one checkpoint",
        ),
        (["a", "--speed-images", "0"], "--speed-images must be 1 or more"),
        (["a", "--bootstrap", "20"], "--bootstrap must be 100 or more, or 0 for none"),
    ],
)
def test_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"detkit eval: error: {said}"


@pytest.mark.parametrize("words", [["--help"], [], ["--colour"]])
def test_help_and_usage_errors_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from detkit.cli.eval import main\n"
        f"try:\n    main({words!r})\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'rich', 'pydantic', 'yaml', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
