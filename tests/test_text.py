"Whole runs that read with a language model, by the real command"
import os
import shutil
import subprocess

import pytest
import torch

from t2i_nb.text.cache import TextCache
from t2i_nb.text.pretrained import LanguageModel, fresh_language_model

CAPTIONS = ['a handwritten three', 'the number seven in ink', 'a zero', 'one written by hand', 'digit two four five six eight nine']
SMALL = ['--set', 'channels=[8,16]', '--set', 'steps=2', '--set', 'batch=16', '--set', 'd_text=16']
READS = ['--set', 'encoder=t5-small', '--set', 'source=lm']


@pytest.fixture
def lm(tmp_path):
    "A small T5 in the folder `lm` of the folder where commands run"
    return fresh_language_model('t5-small', tmp_path/'lm', CAPTIONS, d=32)


@pytest.fixture
def env(tmp_path): return {**os.environ, 'T2I_CACHE': str(tmp_path/'cache')}


def train(t2i, env, out, *more): return t2i('train', 'digits', '--images', 64, '--n', 4, '--out', out, '--device', 'cpu', *SMALL, *READS, *more, env=env)


def test_a_run_reads_with_a_language_model_and_its_model_asks_for_the_same_one(t2i, tmp_path, lm, env):
    run = train(t2i, env, 'run')
    assert run.returncode == 0, run.stderr
    assert 'GB a million' in run.stderr
    folder, = (tmp_path/'cache'/'text').iterdir()
    assert len(list(folder.glob('*.safetensors'))) == 1
    again = train(t2i, env, 'again')
    assert again.returncode == 0 and 'GB a million' not in again.stderr      # everything is there
    assert len(list(folder.glob('*.safetensors'))) == 1
    away = tmp_path/'away'
    away.mkdir()
    draw = lambda: t2i('sample', tmp_path/'run', 'a seven', '--steps', 2, '--out', 'x.png', cwd=away, env=env)
    assert draw().returncode == 0
    shutil.rmtree(lm)
    fresh_language_model('t5-small', lm, CAPTIONS, d=32, seed=1)
    other = draw()
    assert other.returncode == 2 and 'holds other weights' in other.stderr and other.stderr.count('\n') == 1
    shutil.rmtree(lm)
    gone = draw()
    assert gone.returncode == 2 and 'no folder' in gone.stderr and gone.stderr.count('\n') == 1


def test_a_tuned_language_model_is_saved_with_the_model(t2i, tmp_path, lm, env):
    run = train(t2i, env, 'run', '--set', 'tune=0.5', '--set', 'p_drop=0.1')
    assert run.returncode == 0, run.stderr
    assert not (tmp_path/'cache'/'text').exists()
    on = t2i('train', '--resume', '--out', 'run', env=env)
    assert on.returncode == 0, on.stderr
    shutil.rmtree(lm)                                                        # the model has all that it needs
    drawn = t2i('sample', 'run', 'a seven', '--steps', 2, '--out', 'x.png', env=env)
    assert drawn.returncode == 0, drawn.stderr


def test_a_store_is_of_one_set_of_weights(tmp_path, lm, monkeypatch):
    monkeypatch.setenv('T2I_CACHE', str(tmp_path/'cache'))
    first = TextCache(LanguageModel('t5-small', str(lm)))
    first.fill(CAPTIONS)
    shutil.rmtree(lm)
    fresh_language_model('t5-small', lm, CAPTIONS, d=32, seed=1)
    second = TextCache(LanguageModel('t5-small', str(lm)))
    assert len(second) == 0 and second.folder != first.folder
    assert not torch.equal(first(CAPTIONS).pooled, second(CAPTIONS).pooled)


@pytest.fixture
def tiny_disk(tmp_path):
    "A disk of 64 KB"
    d = tmp_path/'disk'
    d.mkdir()
    if shutil.which('mount') is None or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', str(d)], capture_output=True).returncode: pytest.skip('no right to mount a disk')
    yield d
    subprocess.run(['umount', '-l', str(d)], check=True)


def test_a_disk_that_is_too_small_is_said_and_stops_no_training(t2i, lm, env, tiny_disk):
    env['T2I_CACHE'] = str(tiny_disk)
    asked = t2i('cache-text', 'digits', *READS, env=env)
    assert asked.returncode == 2 and asked.stderr.splitlines()[-1].startswith('t2i:') and 'make room' in asked.stderr, asked.stderr
    run = train(t2i, env, 'run')
    assert run.returncode == 0 and 'read again every time' in run.stderr, run.stderr


def test_a_preset_that_names_a_large_model_runs_with_a_small_one(t2i, tmp_path, env):
    fresh_language_model('clip', tmp_path/'clip', CAPTIONS, d=32)
    run = t2i('train', 'diary/run4_xa_clip_fid', '--images', 32, '--n', 2, '--out', 'run', '--device', 'cpu', '--set', 'source=clip', '--set', 'steps=2', env=env)
    assert run.returncode == 0, run.stderr
    assert (tmp_path/'run'/'model'/'model.safetensors').exists() and 'source=' in (tmp_path/'run'/'model'/'README.md').read_text()
    kept = (tmp_path/'run'/'model'/'config.json').read_bytes()
    weights = tmp_path/'clip'/'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:500])                          # a new run that cannot read does not replace the old one
    for why, more in (('cannot be loaded', ['--set', 'source=clip']), ('too small for this data', ['--set', 'encoder=words', '--set', 'max_len=3'])):
        over = t2i('train', 'diary/run4_xa_clip_fid', '--images', 32, '--out', 'run', '--device', 'cpu', *more, '--overwrite', env=env)
        assert over.returncode == 2 and why in over.stderr and over.stderr.count('\n') == 1, over.stderr
    assert (tmp_path/'run'/'model'/'config.json').read_bytes() == kept
