from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from server.errors import ServerStartError
from server.repository import asks_for_gpu, config_path, overlay, read_config, read_repository


def test_a_profile_chooses_the_config_and_falls_back_to_the_common_one(tiny_repository: Path) -> None:
    folder = tiny_repository / "tiny"
    assert config_path(folder, "cpu") == folder / "configs/cpu.pbtxt"
    assert config_path(folder, "gpu") == folder / "config.pbtxt"


def test_models_are_read_with_versions_and_weights(tiny_repository: Path) -> None:
    models = {model.name: model for model in read_repository(tiny_repository, "cpu")}
    assert sorted(models) == ["tiny", "tiny_pair"]
    assert models["tiny"].versions == (1,)
    assert models["tiny"].weights == tiny_repository / "tiny/1/model.xml"


def test_versions_ascend_by_their_numbers_and_the_newest_has_the_weights(tiny_repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    shutil.copytree(tiny_repository, root)
    for number in (10, 2, 12, 3, 11, 9):
        shutil.copytree(root / "tiny/1", root / f"tiny/{number}")
    (root / "tiny/99").touch()  # no folder, no version
    (model,) = read_repository(root, "cpu", ["tiny"])
    assert model.versions == (1, 2, 3, 9, 10, 11, 12)
    assert model.weights == root / "tiny/12/model.xml"


def test_weights_have_the_name_that_the_config_gives_them(tiny_repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    shutil.copytree(tiny_repository, root)
    config = root / "tiny/configs/cpu.pbtxt"
    config.write_text(config.read_text().replace("model.xml", "other.xml"))
    (root / "tiny/1/model.xml").rename(root / "tiny/1/other.xml")
    (model,) = read_repository(root, "cpu", ["tiny"])
    assert model.weights == root / "tiny/1/other.xml"


def test_an_ensemble_brings_the_models_that_it_calls(tiny_repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    shutil.copytree(tiny_repository, root)
    (root / "both").mkdir()
    (root / "both/config.pbtxt").write_text(
        'name: "both" platform: "ensemble" ensemble_scheduling { step [ { model_name: "tiny" model_version: -1 } ] }'
    )
    assert [model.name for model in read_repository(root, "cpu", ["both"])] == ["both", "tiny"]


@pytest.mark.parametrize("name", ["", "nothing_here"])
def test_a_folder_without_models_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServerStartError) as caught:
        read_repository(tmp_path / name, "cpu")
    assert "--model-repository" in caught.value.hint


def test_missing_weights_are_named_before_triton_starts(tiny_repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    shutil.copytree(tiny_repository, root)
    (root / "tiny/1/model.xml").unlink()
    with pytest.raises(ServerStartError) as caught:
        read_repository(root, "cpu")
    assert "1 of 2 models have no weights" in caught.value.problem
    assert "python -m training export" in caught.value.hint


def test_an_unknown_model_lists_those_there_are(tiny_repository: Path) -> None:
    with pytest.raises(ServerStartError) as caught:
        read_repository(tiny_repository, "cpu", ["huge"])
    assert "tiny, tiny_pair" in caught.value.hint


def test_a_broken_config_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text('name: "a"\nbackend "b"')
    with pytest.raises(ServerStartError, match=r"config\.pbtxt:2:"):
        read_config(tmp_path / "config.pbtxt")


def test_on_a_machine_without_a_gpu_only_the_kind_of_instance_changes(tiny_repository: Path, tmp_path: Path) -> None:
    models = read_repository(tiny_repository, "gpu")
    assert all(map(asks_for_gpu, models))
    into = overlay(models, tmp_path / "overlay", gpu_to_cpu=True)
    for name in ("tiny", "tiny_pair"):
        before, after = (read_config(root / name / "config.pbtxt") for root in (tiny_repository, into))
        (group,) = after.instance_group
        assert group.kind == group.KIND_CPU
        before.ClearField("instance_group")
        after.ClearField("instance_group")
        assert before == after
        assert (into / name / "1/model.onnx").is_file()


def test_an_instance_that_is_moved_to_the_cpu_names_no_gpu(tiny_repository: Path, tmp_path: Path) -> None:
    """Triton refuses one that does."""
    root = tmp_path / "repository"
    shutil.copytree(tiny_repository, root)
    config = root / "tiny/config.pbtxt"
    config.write_text(re.sub(r"kind: KIND_GPU", "kind: KIND_GPU gpus: [ 0 ]", config.read_text()))
    (model,) = read_repository(root, "gpu", ["tiny"])
    assert list(model.config.instance_group[0].gpus) == [0]
    into = overlay([model], tmp_path / "overlay", gpu_to_cpu=True)
    assert list(read_config(into / "tiny/config.pbtxt").instance_group[0].gpus) == []


def test_an_overlay_has_the_config_that_was_chosen_and_no_other(tiny_repository: Path, tmp_path: Path) -> None:
    """Triton would read that of a profile in its place."""
    into = overlay(read_repository(tiny_repository, "gpu"), tmp_path / "overlay", gpu_to_cpu=True)
    assert sorted(path.name for path in (into / "tiny").iterdir()) == ["1", "config.pbtxt"]


@pytest.mark.parametrize("gpu_to_cpu", [False, True])
def test_an_overlay_of_a_repository_by_a_relative_path_leads_to_it(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu_to_cpu: bool
) -> None:
    monkeypatch.chdir(tiny_repository.parent)
    models = read_repository(Path(tiny_repository.name), "gpu")
    into = overlay(models, tmp_path / "overlay", gpu_to_cpu=gpu_to_cpu)
    assert all((into / name / "1/model.onnx").is_file() for name in ("tiny", "tiny_pair"))
