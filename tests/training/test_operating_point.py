from __future__ import annotations

import shutil
from pathlib import Path

from densescan.tasks import MRI, OPERATING_POINT_PARAMETER, XRAY
from server.repository import read_config
from training import operating_point


def test_both_profiles_get_the_threshold_and_nothing_else_changes(tmp_path: Path, model_repository: Path) -> None:
    source = model_repository / XRAY.classifier
    configs = ("config.pbtxt", "configs/cpu.pbtxt")
    for name in configs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(source / name, tmp_path / name)
    assert len(operating_point.write(tmp_path, 0.123456)) == 2
    for name in configs:
        config = read_config(tmp_path / name)
        assert config.parameters[OPERATING_POINT_PARAMETER].string_value == "0.123456"
        before, after = (path.read_text().splitlines() for path in (source / name, tmp_path / name))
        assert sum(old != new for old, new in zip(before, after, strict=True)) == 1
    assert operating_point.write(tmp_path, 0.123456) == []


def test_a_task_without_one_stays_as_it_is(tmp_path: Path, model_repository: Path) -> None:
    shutil.copy(model_repository / MRI.classifier / "config.pbtxt", tmp_path)
    assert operating_point.write(tmp_path, 0.5) == []
