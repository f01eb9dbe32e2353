"`pip install .` away from the checkout, without the dev extra: a working `t2i` that draws from the models that ship with it"
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODELS = sorted(p.parent.name for p in (ROOT/'pretrained').glob('*/config.json'))
# What the dev extra brings, and plain users have not
DEV = 'nbdev execnb ghapi nbconvert nbclient ipykernel IPython pytest selenium sphinx myst_nb diffusers'.split()


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "The package installed into an empty folder, from a copy so that no build is left in the checkout"
    copy, to = tmp_path_factory.mktemp('copy')/'src', tmp_path_factory.mktemp('installed')
    skip = shutil.ignore_patterns('.*', '_build', 'runs', 'build', '*.egg-info', '__pycache__', 'node_modules')
    shutil.copytree(ROOT, copy, ignore=skip)
    run = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--no-build-isolation', '--target', to, copy]
    done = subprocess.run([str(a) for a in run], text=True, capture_output=True)
    assert not done.returncode, done.stderr
    return to


def python(installed, code, cwd):
    "Run `code` where the installed package comes first and nothing of the dev extra can be imported"
    block = f'import sys; sys.modules.update(dict.fromkeys({DEV!r}))\n'
    env = {**os.environ, 'PYTHONPATH': str(installed)}
    return subprocess.run([sys.executable, '-c', block + code], cwd=cwd, env=env, text=True, capture_output=True, timeout=600)


def test_the_models_travel_with_the_package(installed, tmp_path):
    code = 'import t2i_nb, t2i_nb.pretrained as p; print(t2i_nb.__file__); print(*p.__path__)'
    done = python(installed, code, tmp_path)
    assert not done.returncode, done.stderr
    for line in done.stdout.split(): assert Path(line).is_relative_to(installed), line
    for m in MODELS:
        assert {'config.json', 'model.safetensors', 'README.md'} <= {p.name for p in (installed/'t2i_nb'/'pretrained'/m).iterdir()}


def test_the_command_is_there(installed, tmp_path):
    assert (installed/'bin'/'t2i').exists()
    done = python(installed, 'sys.argv = ["t2i", "--help"]; from t2i_nb.cli import main; sys.exit(main())', tmp_path)
    assert not done.returncode, done.stderr
    for command in ('demo', 'train', 'sample', 'eval', 'info', 'presets'): assert command in done.stdout


@pytest.mark.parametrize('model', MODELS)
def test_a_shipped_model_draws(installed, tmp_path, model):
    from PIL import Image
    args = ['t2i', 'sample', model, 'a small red circle above a large blue square', '--out', 'x.png']
    done = python(installed, f'sys.argv = {args!r}; from t2i_nb.cli import main; sys.exit(main())', tmp_path)
    assert not done.returncode, done.stderr
    assert min(Image.open(tmp_path/'x.png').size) >= 8
