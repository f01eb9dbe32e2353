"The command line as a subprocess: what it writes, what it says, and with which status"
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from t2i_nb.core import from_pil, save_json
from t2i_nb.pipeline import T2IPipeline
from t2i_nb.train.recipes import get_recipe, recipe_model


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    "A model that draws noise of many colours, but always the same"
    folder, r = tmp_path_factory.mktemp('model')/'m', get_recipe('shapes-tiny')
    net = recipe_model(r, ['a small red circle above a large blue square', 'two green stars'])
    with torch.no_grad(): net.net.outp.weight.normal_(std=.2, generator=torch.Generator().manual_seed(0))
    T2IPipeline(net.eval(), r.size, sampling=dict(steps=3)).save_pretrained(folder)
    return folder


def fails(run, *words):
    "A user's mistake: one line that holds these words, status 2, nothing on standard output"
    assert run.returncode == 2, run
    assert run.stdout == '' and run.stderr.count('\n') == 1, run
    for w in words: assert w in run.stderr, run.stderr


def pixels(path): return from_pil(Image.open(path))


def test_one_picture_is_exactly_that(t2i, model, tmp_path):
    run = t2i('sample', model, 'two green stars', '--out', 'a/x.png')
    assert run.returncode == 0 and run.stdout.strip() == 'a/x.png', run
    assert Image.open(tmp_path/'a'/'x.png').size == (32, 32)
    assert not (tmp_path/'a'/'x').exists()


def test_picture_k_is_the_same_alone_among_others_first_or_last(t2i, model, tmp_path):
    for name, args in dict(many=['two green stars', 'a red circle', '--n', 3], last=['a red circle', 'two green stars', '--n', 3],
                           alone=['two green stars', '--n', 3]).items():
        assert t2i('sample', model, *args, '--out', f'{name}.png').returncode == 0
    for k in range(3):
        a = pixels(tmp_path/'alone'/f'{k:04d}.png')
        assert torch.equal(a, pixels(tmp_path/'many'/f'{k:04d}.png')) and torch.equal(a, pixels(tmp_path/'last'/f'{k+3:04d}.png'))
    grid = Image.open(tmp_path/'many.png')
    assert min(grid.size) > 100 and len(list((tmp_path/'many').iterdir())) == 6


def test_every_way_of_sampling_changes_the_picture(t2i, model, tmp_path):
    "Guidance is not among them: this model has not learned to listen"
    ways = dict(plain=[], steps=['--steps', 5], restarts=['--restarts', 1], sampler=['--sampler', 'ddpm'], seed=['--seed', 1],
                spacing=['--spacing', 'karras'], threshold=['--threshold', .7])
    for name, args in ways.items(): assert t2i('sample', model, 'two green stars', *args, '--out', f'{name}.png').returncode == 0
    xs = {name: pixels(tmp_path/f'{name}.png') for name in ways}
    assert not any(torch.equal(xs[a], xs[b]) for a in ways for b in ways if a < b)


def test_editing_starts_from_the_picture(t2i, model, tmp_path):
    "Weak changes stay near it, and a mask keeps what is black"
    start = from_pil(Image.effect_mandelbrot((48, 48), (-2, -1.5, 1, 1.5), 50), 32)
    Image.effect_mandelbrot((48, 48), (-2, -1.5, 1, 1.5), 50).save(tmp_path/'start.png')
    mask = Image.new('L', (32, 32)); mask.paste(255, (16, 0, 32, 32)); mask.save(tmp_path/'mask.png')
    ways = dict(weak=['--strength', .1], strong=['--strength', 1], hole=['--mask', 'mask.png'])
    for name, args in ways.items():
        run = t2i('edit', model, 'start.png', 'two green stars', *args, '--out', f'{name}.png')
        assert run.returncode == 0 and run.stdout.strip() == f'{name}.png', run
    far = {name: (pixels(tmp_path/f'{name}.png')-start).abs().mean().item() for name in ways}
    assert far['weak'] < far['strong']/2, far
    hole = (pixels(tmp_path/'hole.png')-start).abs()
    assert hole[..., :16].max() < .02 < hole[..., 16:].mean()
    assert t2i('edit', model, 'start.png', 'two green stars', '--n', 3).stdout.strip() == 'edit.png'
    assert len(list((tmp_path/'edit').iterdir())) == 3


def test_its_own_noise_gives_a_picture_back(t2i, tmp_path):
    assert t2i('sample', 'shapes32', 'a red circle', '--steps', 8, '--out', 'a.png').returncode == 0
    for to, name in (('a red circle', 'same.png'), ('a blue circle', 'blue.png')):
        run = t2i('edit', 'shapes32', 'a.png', to, '--was', 'a red circle', '--steps', 20, '--out', name)
        assert run.returncode == 0, run
    a, same, blue = (pixels(tmp_path/f'{n}.png') for n in ('a', 'same', 'blue'))
    assert (a-same).abs().mean() < .05 < (a-blue).abs().mean()


def test_editing_reads_pictures_as_training_does(t2i, model, tmp_path):
    "Upright whatever EXIF says, and 16 bits are not all white"
    wide = Image.new('RGB', (64, 64), 'white'); wide.paste((200, 0, 0), (0, 0, 64, 20))
    exif = wide.getexif(); exif[0x0112] = 6
    wide.save(tmp_path/'turned.png', exif=exif); wide.rotate(-90).save(tmp_path/'upright.png')
    Image.fromarray(np.linspace(0, 65535, 64*64).reshape(64, 64).astype(np.uint16)).save(tmp_path/'deep.png')
    for name in ('turned', 'upright', 'deep'): assert t2i('edit', model, f'{name}.png', 'a red circle', '--strength', .001, '--out', f'{name}-x.png').returncode == 0
    x = {name: pixels(tmp_path/f'{name}-x.png') for name in ('turned', 'upright', 'deep')}
    assert (x['turned']-x['upright']).abs().max() < .02 and (x['deep'] < 0).float().mean() > .3


@pytest.mark.parametrize('args, words', [
    (['cut.png', 'a red circle'], ['cut.png', 'cannot be read']), (['p.png', 'a red circle', '--out', 'p.png'], ['p.png', 'name another']),
    (['p.png', 'a red circle', '--strength', 1e-50], ['strength']), (['p.png', 'a red circle', '--negative', 'a blue square', '--guidance', 1], ['above 1']),
    (['nothing.png', 'a red circle'], ["'nothing.png'", 'No such file']), (['model.txt', 'a red circle'], ["'model.txt'", 'unknown format']),
    (['p.png', ''], ['empty']), (['p.png', 'a red circle', '--strength', 0], ['strength']), (['p.png', 'a red circle', '--mask', 'model.txt'], ['model.txt']),
    (['p.png', 'a red circle', '--was', 'two green stars', '--n', 2], ['--was']), (['p.png', 'a red circle', '--was', 'two green stars', '--strength', .5], ['not allowed'])])
def test_bad_editing(t2i, model, tmp_path, args, words):
    (tmp_path/'model.txt').write_text('no picture')
    Image.new('RGB', (40, 40)).save(tmp_path/'p.png')
    (tmp_path/'cut.png').write_bytes((tmp_path/'p.png').read_bytes()[:60])
    fails(t2i('edit', model, *args), *words)
    assert {p.name for p in tmp_path.iterdir()} == {'model.txt', 'p.png', 'cut.png'}


def test_fewer_pictures_leave_no_old_ones(t2i, model, tmp_path):
    for n in (4, 2): assert t2i('sample', model, 'a red circle', '--n', n, '--out', 'x.png').returncode == 0
    assert sorted(p.name for p in (tmp_path/'x').iterdir()) == ['0000.png', '0001.png']


def test_folders_of_the_user_are_left_alone(t2i, model, tmp_path):
    for d in ('a.png', 'b', 'scores.json', 'sample'): (tmp_path/d).mkdir(); (tmp_path/d/'0007.png').write_text('mine')
    fails(t2i('sample', model, 'a red circle', '--out', 'a.png'), 'folder')
    fails(t2i('sample', model, 'a red circle', '--n', 2, '--out', 'b.png'), "'b'", 'name another')
    fails(t2i('eval', model, '--data', 'shapes', '--n', 2, '--json', 'scores.json'), 'folder')
    assert t2i('sample', model, 'a red circle', '--n', 2).stdout.strip() == 'sample-2.png'
    assert all((tmp_path/d/'0007.png').read_text() == 'mine' for d in ('a.png', 'b', 'scores.json', 'sample'))


def test_only_pictures_of_ours_are_replaced(t2i, model, tmp_path):
    (tmp_path/'b').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path/'b'/'0000.png')
    assert t2i('sample', model, 'a red circle', '--out', 'b.png').returncode == 0
    fails(t2i('sample', model, 'a red circle', '--n', 2, '--out', 'b.png'), "'b'", '0000.png', 'name another')
    assert Image.open(tmp_path/'b'/'0000.png').size == (8, 8)


def test_links_and_pipes_stand(t2i, model, tmp_path):
    (tmp_path/'there').mkdir()
    (tmp_path/'x.png').symlink_to('there/y.png')
    assert t2i('sample', model, 'a red circle', '--out', 'x.png').returncode == 0
    assert (tmp_path/'x.png').is_symlink() and Image.open(tmp_path/'there'/'y.png').size == (32, 32)
    os.mkfifo(tmp_path/'pipe')
    fails(t2i('eval', model, '--data', 'shapes', '--n', 2, '--json', 'pipe'), 'pipe', 'neither a file nor a folder')
    (tmp_path/'file').write_text('mine')
    fails(t2i('sample', model, 'a red circle', '--out', 'file/x.png'), 'is a file')


def test_a_prompt_is_shown_as_it_was_typed(t2i, model, tmp_path):
    run = t2i('sample', model, r'a red $\frac{$ circle 🟥', 'two green stars', '--out', 'x.png')
    assert run.returncode == 0 and run.stderr.count('\n') <= 1, run
    assert Image.open(tmp_path/'x'/'0000.png').text['Description'] == r'a red $\frac{$ circle 🟥'


def test_default_name_replaces_nothing(t2i, model, tmp_path):
    names = [t2i('sample', model, 'a red circle').stdout.strip() for _ in range(2)]
    assert names == ['sample.png', 'sample-2.png'] and all((tmp_path/n).exists() for n in names)


@pytest.mark.parametrize('args, words', [
    ([''], ['empty']), (['   '], ['empty']), (['red '*2500], ['40 words', 'shorten']), (['a', '--steps', '0'], ['--steps', 'at least 1']),
    (['a', '--restarts', '-1'], ['--restarts', 'at least 0']), (['a', '--guidance', '-1'], ['--guidance', 'at least 0']), (['a', '--guidance', 'nan'], ['--guidance']), (['a', '--n', '0'], ['--n']),
    (['a', '--sampler', 'magic'], ['magic', 'ddim']), (['a', '--interval', '.9', '.2'], ['one time to a later one']), (['a', '--out', 'x.txt'], ['x.txt', '.png']), (['a', '--device', 'tpu'], ['tpu', 'cpu']),
    (['a', '--device', 'cpu:x'], ['cpu:x']), (['a', '--guidance', '1e300'], ['at most 10,000']), (['a', '--n', '2', '--out', 'x'], ['.png']),
    (['a', '--out', 'x.h5'], ['.png']), (['a', '--steps', '9'*25], ['at most 10,000']), (['a', '--n', '999999999'], ['at most 10,000']), (['a', '--out', ''], ['empty']),
    (['a', '--negative', 'b', '--guidance', '1'], ['above 1'])])
def test_bad_sampling(t2i, model, tmp_path, args, words):
    fails(t2i('sample', model, *args), *words)
    assert not list(tmp_path.glob('*.png'))


def damaged(model, to, what):
    shutil.copytree(model, to)
    config = json.loads((to/'config.json').read_text())
    if what == 'half weights':
        data = (to/'model.safetensors').read_bytes()
        (to/'model.safetensors').write_bytes(data[:len(data)//2])
    elif what == 'no weights': (to/'model.safetensors').unlink()
    elif what == 'half config': (to/'config.json').write_text((to/'config.json').read_text()[:40])
    elif what == 'unknown key': config['model']['net']['chanels'] = [8]
    elif what == 'wrong type': config['diffusion']['size'] = 'big'
    elif what == 'other architecture': config['model']['net']['channels'] = [16, 64]
    elif what == 'too large': config['diffusion']['size'] = 10**6
    elif what == 'wrong training': config['train'] = 5
    if 'half' not in what and what != 'no weights': save_json(config, to/'config.json')


@pytest.mark.parametrize('what, words', [('half weights', ['broken']), ('no weights', ['model.safetensors']), ('half config', ['not JSON']),
    ('unknown key', ['chanels']), ('wrong type', ['size', 'big']), ('other architecture', ['architecture']), ('too large', ['size', '1,024']),
    ('wrong training', ['train', 'dict'])])
def test_damaged_model(t2i, model, tmp_path, what, words):
    damaged(model, tmp_path/'m', what)
    fails(t2i('sample', 'm', 'a red circle'), *words)


class Trap:
    def __reduce__(self): return os.system, ('touch sprung',)


@pytest.mark.parametrize('name', ['m.pt', 'm.ckpt', 'm/model.bin', 'm'])
def test_pickle_is_refused_unopened(t2i, tmp_path, name):
    (tmp_path/name).parent.mkdir(exist_ok=True)
    (tmp_path/name).write_bytes(pickle.dumps(Trap()))
    fails(t2i('sample', name, 'a red circle'))
    assert not (tmp_path/'sprung').exists()


@pytest.mark.parametrize('config, words', [({'preset': 'shapes-tiny', 'lrr': 1}, ['lrr']), ({'preset': 'shapes-tiny', 'batch': 'big'}, ['batch', 'int']),
    ({'preset': 'no'}, ["'no'"]), ([1], ['table']), ({'preset': 'shapes-tiny', 'data': 'nowhere'}, ['nowhere']), ({'preset': 'shapes-tiny', 'size': 30}, ['size'])])
def test_bad_config(t2i, tmp_path, config, words):
    save_json(config, tmp_path/'c.json')
    fails(t2i('train', 'c.json', '--out', 'run'), *words)


def test_one_setting_twice(t2i): fails(t2i('train', 'digits', '--images', 64, '--set', 'images=32', '--out', 'run'), 'images', 'twice')


def test_batch_larger_than_the_data(t2i): fails(t2i('train', 'digits', '--images', 5000, '--set', 'batch=5000', '--out', 'run'), '5000', 'batch')


def test_a_folder_is_never_replaced_unasked(t2i, tmp_path):
    (tmp_path/'run').mkdir(); (tmp_path/'run'/'thesis.txt').write_text('years')
    for extra in ([], ['--overwrite']): fails(t2i('train', 'shapes-tiny', '--out', 'run', *extra), 'run')
    fails(t2i('train', '--resume', '--out', 'run'), 'resume')
    assert (tmp_path/'run'/'thesis.txt').read_text() == 'years'


def test_what_there_is(t2i, model):
    assert 'shapes-tiny' in t2i('presets').stdout
    info = json.loads(t2i('info', model).stdout)
    assert info['diffusion']['size'] == 32 and info['parameters'] <= 300_000
    fails(t2i(), 'command'); fails(t2i('fly'), 'fly')


def test_nothing_is_not_a_name(t2i):
    for args, say in ((('train', 'shapes-tiny', '--start', ''), 'must not be empty'), (('sample', '', 'a red circle'), 'must not be empty'),
                      (('train', 'shapes-tiny', '--set', 'seed=null'), 'sets nothing'), (('sample', './shapes32', 'a red circle'), "no model './shapes32'"),
                      (('train', 'shapes-tiny', '--set', 'minutes=1', '--images', 64), 'not both')):
        p = t2i(*args)
        assert p.returncode == 2 and say in p.stderr and len(p.stderr.splitlines()) == 1, p.stderr
