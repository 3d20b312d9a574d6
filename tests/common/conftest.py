import pytest


@pytest.fixture
def preset(tmp_path):
    """``preset(text)``: the path of a preset of this text, in a folder of its own."""

    def written(text):
        path = tmp_path / "task" / "preset.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return written
