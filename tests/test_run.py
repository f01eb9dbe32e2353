"Whole tiny runs: train, kill -9, resume, Ctrl-C, full disk, sample, eval"
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

TINY = ['--set', 'batch=16', '--set', 'checkpoint_every=64', '--set', 'sample_every=256', '--set', 'steps=3', '--set', 'warmup=64',
        '--set', 'channels=[8,16]', '--set', 'd_text=16', '--device', 'cpu', '--n', 12]
MAIN = 'import sys; from t2i_nb.cli import main; sys.exit(main())'


def hear_ctrl_c(): signal.signal(signal.SIGINT, signal.default_int_handler) # a job in the background is started deaf to it


def start(cwd, *args, **kwargs):
    return subprocess.Popen([sys.executable, '-c', MAIN, *map(str, args)], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **{'preexec_fn': hear_ctrl_c, **kwargs})


def wait_for(test, proc, seconds=300):
    "Wait until `test()` is true while the process lives"
    end = time.time()+seconds
    while not test():
        assert proc.poll() is None and time.time() < end, proc.communicate()
        time.sleep(.02)


def weights(run): return load_file(run/'model'/'model.safetensors')


def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run that nothing interrupts"
    d = tmp_path_factory.mktemp('whole')
    p = start(d, 'train', 'shapes-tiny', '--images', 512, '--out', 'run', *TINY)
    out, err = p.communicate(timeout=600)
    assert p.returncode == 0, err
    return d/'run', out


def test_a_run_leaves_what_it_promises(whole):
    run, out = whole
    m = json.loads((run/'metrics.json').read_text())
    assert {'model', 'data', 'level', 'n', 'seen', 'heldout_bindings', 'conditioning', 'train', 'versions'} <= m.keys()
    assert m['train']['images'] == 512 and m['seen']['all']['n'] == 12
    assert {'true', 'shuffled', 'null', 'swapped'} <= m['conditioning'].keys()
    assert (run/'report.html').stat().st_size > 10_000 and str(run.name)+'/report.html' in out
    assert len(list((run/'samples').glob('*.png'))) == 3 and list((run/'tensorboard').iterdir())
    assert not list(run.rglob('*.pkl')) + list(run.rglob('*.pth')) + list(run.rglob('*.pt'))


def test_kill_and_resume_is_bit_for_bit(whole, tmp_path):
    p = start(tmp_path, 'train', 'shapes-tiny', '--images', 512, '--out', 'run', *TINY)
    wait_for(lambda: len([c for c in (tmp_path/'run'/'checkpoints').glob('[0-9]*')]) >= 2, p)
    os.kill(p.pid, signal.SIGKILL); p.communicate()
    assert not (tmp_path/'run'/'model').exists()
    p = start(tmp_path, 'train', '--resume', '--out', 'run', '--device', 'cpu', '--n', 12)
    assert p.wait(600) == 0, p.communicate()
    assert same(weights(whole[0]), weights(tmp_path/'run'))
    rows = [np.loadtxt(r/'log.csv', delimiter=',', skiprows=1, usecols=(0, 2)) for r in (whole[0], tmp_path/'run')]
    assert np.array_equal(rows[0], rows[1])                           # no row twice, the same losses
    scores = [json.loads((r/'metrics.json').read_text())['seen'] for r in (whole[0], tmp_path/'run')]
    assert scores[0] == scores[1]


def test_kill_and_resume_with_everything_on(tmp_path):
    "A transformer under Muon whose encoder reads first, spoilt pictures among the others: killed, its reading is not done twice"
    small = [a for k, v in dict(width=16, depth=1, heads=2, refine=8, refine_blocks=1, d_text=16, read=128, batch=16, checkpoint_every=64, sample_every=256,
                                repair=.5, steps=3, warmup=64).items() for a in ('--set', f'{k}={v}')]
    args = ['train', 'demo', '--images', 256, *small, '--device', 'cpu', '--n', 12]
    p = start(tmp_path, *args, '--out', 'whole')
    _, err = p.communicate(timeout=600)
    assert p.returncode == 0 and 'reading: ' in err, err
    p = start(tmp_path, *args, '--out', 'run')
    wait_for(lambda: list((tmp_path/'run'/'checkpoints').glob('[0-9]*')), p)
    os.kill(p.pid, signal.SIGKILL); p.communicate()
    p = start(tmp_path, 'train', '--resume', '--out', 'run', '--device', 'cpu', '--n', 12)
    _, err = p.communicate(timeout=600)
    assert p.returncode == 0 and 'reading: ' not in err, err
    assert same(weights(tmp_path/'whole'), weights(tmp_path/'run'))


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    p = start(tmp_path, 'train', 'shapes-tiny', '--images', 100_000, '--out', 'run', *TINY)
    wait_for(lambda: list((tmp_path/'run'/'checkpoints').glob('[0-9]*')), p)
    for also in (['--resume'], ['shapes-tiny', '--images', 32, '--overwrite', *TINY]):                # two in one folder would spoil both
        _, err = start(tmp_path, 'train', *also, '--out', 'run').communicate(timeout=120)
        assert 'another process' in err and 'Traceback' not in err, err
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=120)
    assert p.returncode == 130 and '--resume --out run' in err and 'Traceback' not in err, err
    assert list((tmp_path/'run'/'checkpoints').glob('[0-9]*'))


def test_full_disk_keeps_what_was_saved(tmp_path):
    def small_files(): resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    p = start(tmp_path, 'train', 'shapes-tiny', '--images', 512, '--out', 'run', *TINY, preexec_fn=small_files)
    out, err = p.communicate(timeout=300)
    assert p.returncode == 2 and 'Traceback' not in err and err.strip().splitlines()[-1].startswith('t2i: '), err
    assert not list((tmp_path/'run'/'checkpoints').glob('[0-9]*')) and (tmp_path/'run'/'config.json').exists()


def test_eval_and_sample_of_a_run(whole, t2i):
    run = t2i('eval', whole[0], '--n', 12, '--json', '-')
    m = json.loads(run.stdout)
    assert m['n'] == 12 and m['seen'] == json.loads((whole[0]/'metrics.json').read_text())['seen']
    assert t2i('sample', whole[0], 'a red circle', '--out', 'x.png').returncode == 0


def test_go_on_from_a_model(whole, t2i, tmp_path):
    run = t2i('train', 'shapes-tiny', '--start', whole[0], '--seed', 1, '--images', 64, '--out', 'more', *TINY, '--set', 'lr=1e-9')
    assert run.returncode == 0, run.stderr
    a, b = weights(whole[0]), weights(tmp_path/'more')
    words = [json.loads((f/'model'/'config.json').read_text())['model']['encoder']['vocab'] for f in (whole[0], tmp_path/'more')]
    assert all(torch.allclose(a[k], b[k], atol=1e-5) for k in a if k != 'encoder.words.weight') and sorted(words[0]) == sorted(words[1])
    assert 'going on from' in (tmp_path/'more'/'model'/'README.md').read_text()


@pytest.mark.parametrize('args', [('--data', 'nowhere'), ('--device', 'tpu'), ('--start', 'nowhere'), ('--start', 'run'), ('--set', 'guidance=NaN'), ('--set', 'size=4')])
def test_overwrite_loses_nothing_when_it_cannot_begin(whole, t2i, tmp_path, args):
    shutil.copytree(whole[0], tmp_path/'run')
    before = {p: p.read_bytes() for p in (tmp_path/'run').rglob('*') if p.is_file()}
    run = t2i('train', 'shapes-tiny', '--images', 64, '--out', 'run', '--overwrite', *args)
    assert run.returncode == 2 and len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert before == {p: p.read_bytes() for p in (tmp_path/'run').rglob('*') if p.is_file()}


def test_broken_checkpoints_never_mean_from_the_start(whole, t2i, tmp_path):
    shutil.copytree(whole[0], tmp_path/'run')
    for p in (tmp_path/'run'/'checkpoints').glob('*/*.safetensors'): p.write_bytes(p.read_bytes()[:100])
    for _ in range(2):
        run = t2i('train', '--resume', '--out', 'run')
        assert run.returncode == 2 and 'no readable checkpoint' in run.stderr, run.stderr


def test_demo_takes_the_next_free_name(t2i, tmp_path):
    (tmp_path/'runs'/'demo').mkdir(parents=True)
    run = t2i('demo', '--minutes', .02, '--n', 12)
    assert run.returncode == 0, run.stderr
    assert (tmp_path/'runs'/'demo-2'/'report.html').exists() and 'heldout triples' in run.stdout


def test_the_diarys_runs_go_by_their_names(t2i, tmp_path):
    run = t2i('train', 'diary/ddim_vgg', '--images', 64, *TINY)
    assert run.returncode == 0, run.stderr
    made = tmp_path/'runs'/'diary'/'ddim_vgg'
    assert json.loads((made/'model'/'config.json').read_text())['model']['context'] == 'pooled'
    assert 't2i train diary/ddim_vgg --images 64' in (made/'model'/'README.md').read_text()
    assert t2i('sample', made, 'a red circle', '--out', 'x.png').returncode == 0


def test_digits(t2i, tmp_path):
    run = t2i('train', 'digits', '--images', 256, '--n', 20, '--set', 'steps=3', '--out', 'run')
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path/'run'/'metrics.json').read_text())['digits']['n'] == 20
    assert t2i('sample', 'run', 'a handwritten three', '--out', 'x.png').returncode == 0
    assert Image.open(tmp_path/'x.png').size == (16, 16)


def test_any_folder(t2i, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path/'pics').mkdir()
    for i in range(40):
        colour = ('red', 'green', 'blue')[i % 3]
        im = Image.new('RGB', (40+i, 50), colour)
        im.putpixel((int(rng.integers(40)), 0), (255, 255, 255))
        im.save(tmp_path/'pics'/f'{i}.{("png", "jpg")[i % 2]}')
        (tmp_path/'pics'/f'{i}.txt').write_text(f'all {colour}\n')
    (tmp_path/'pics'/'broken.png').write_bytes(b'no picture'); (tmp_path/'pics'/'broken.txt').write_text('broken')
    run = t2i('train', 'folder', '--data', 'pics', '--images', 128, '--n', 4, '--out', 'run', '--set', 'size=16', '--set', 'channels=[8,16]',
              '--set', 'attn=[1]', '--set', 'steps=3', '--set', 'batch=16')
    assert run.returncode == 0 and 'broken.png' in run.stderr, run.stderr
    m = json.loads((tmp_path/'run'/'metrics.json').read_text())
    assert m['conditioning']['true'] > 0 and 'seen' not in m
    assert t2i('sample', 'run', 'all red', '--out', 'x.png').returncode == 0
    assert 'captions a split' not in (tmp_path/'run'/'model'/'README.md').read_text()
    (tmp_path/'elsewhere').mkdir()
    (tmp_path/'run'/'metrics.json').unlink()
    again = t2i('train', '--resume', '--out', '../run', '--n', 4, cwd=tmp_path/'elsewhere')  # the pictures are found from anywhere
    assert again.returncode == 0 and (tmp_path/'run'/'metrics.json').exists(), again.stderr
    for i in range(40): (tmp_path/'pics'/f'{i}.{("png", "jpg")[i % 2]}').write_bytes((tmp_path/'pics'/f'{3+i % 2}.{("png", "jpg")[1-i % 2]}').read_bytes())
    again = t2i('train', '--resume', '--out', 'run')
    assert again.returncode == 2 and 'digest of the data' in again.stderr, again.stderr


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='needs Linux to see what a process has loaded')
def test_ctrl_c_is_heard_while_pytorch_loads(tmp_path):
    p = start(tmp_path, 'sample', 'shapes32', 'a red circle')
    def loading():
        with open(f'/proc/{p.pid}/maps') as f: return 'libtorch' in f.read()
    wait_for(loading, p)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate()
    assert p.returncode == 130 and err.splitlines() == ['t2i: stopped'], (p.returncode, err)
    assert not any(tmp_path.iterdir())


def test_a_disk_that_fills_up_at_the_end_loses_nothing(whole, tmp_path):
    "Saving the model of a finished run again, with room for a part of it"
    shutil.copytree(whole[0], tmp_path/'run')
    room = (tmp_path/'run'/'model'/'model.safetensors').stat().st_size//2
    def tight(): resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = weights(tmp_path/'run')
    p = start(tmp_path, 'train', '--resume', '--out', 'run', '--n', 12, preexec_fn=tight)
    out, err = p.communicate()
    assert p.returncode == 2 and 'Traceback' not in err and 'File too large' in err.splitlines()[-1], err
    assert same(before, weights(tmp_path/'run'))


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU can do float16')
def test_a_mistake_costs_no_finished_run(whole, t2i, tmp_path):
    shutil.copytree(whole[0], tmp_path/'run')
    before = weights(tmp_path/'run')
    p = t2i('train', 'shapes-tiny', '--images', 64, '--set', 'precision=fp16', '--device', 'cpu', '--out', 'run', '--overwrite')
    assert p.returncode == 2 and 'needs a GPU' in p.stderr, p.stderr
    assert same(before, weights(tmp_path/'run')) and (tmp_path/'run'/'report.html').exists()
    p = t2i('train', 'shapes-tiny', '--images', 64, '--set', 'precision=fp16', '--device', 'cpu', '--out', 'new')
    assert p.returncode == 2 and not (tmp_path/'new').exists()


def test_vgg_features(monkeypatch):
    "The build of VGG-16 up to its third scale, with whatever weights; a download that fails is one clear line"
    import torchvision

    from t2i_nb.core import UserError
    from t2i_nb.train.auxiliary import Features, perceptual_distance
    vgg = torchvision.models.vgg16
    monkeypatch.setattr('torchvision.models.vgg16', lambda weights: vgg(weights=None))
    look, x = Features('vgg16'), torch.rand(2, 3, 32, 32)*2-1
    assert [tuple(f.shape[1:]) for f in look(x)] == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]
    assert perceptual_distance(look, x, x).max() == 0 < perceptual_distance(look, x, x.flip(0)).min()
    def offline(weights): raise OSError('no route to host')
    monkeypatch.setattr('torchvision.models.vgg16', offline)
    with pytest.raises(UserError, match='no route'): Features('vgg16')


def test_a_run_that_is_watched(tmp_path):
    "Distances and copies on the way, in the scores and in the report; and the weights are those of a run that nobody watched"
    runs = {}
    for watch in (1, 0):
        p = start(tmp_path, 'train', 'digits', '--images', 2048, '--out', f'run{watch}', *TINY, '--set', f'watch={watch}')
        out, err = p.communicate(timeout=600)
        assert p.returncode == 0, err
        runs[watch] = out
    assert same(weights(tmp_path/'run1'), weights(tmp_path/'run0'))
    lines = {k: [json.loads(line) for line in (tmp_path/'run1'/f'{k}.jsonl').read_text().splitlines()] for k in ('scores', 'copies')}
    assert lines['scores'] and lines['copies'] and not (tmp_path/'run0'/'scores.jsonl').exists()
    last = lines['scores'][-1]
    assert last['images'] <= 2048 and last['share'] > 0 and last['fid']['n'] == 128 and last['fid']['ci'][0] < last['fid']['value']
    assert lines['copies'][-1]['n'] == 100 and not lines['copies'][-1]['copying']
    m = json.loads((tmp_path/'run1'/'metrics.json').read_text())
    assert m['distances']['kid']['extractor'].startswith('digits@') and m['memory']['copies']['n'] == 12 and 'copies' in runs[1]
    page = (tmp_path/'run1'/'report.html').read_text()
    for part in ('distance', 'memory', 'health'): assert f'<section id="{part}"' in page
