"Real folders with real faults, trained on by the real command"
import json
from io import BytesIO

import numpy as np
from PIL import Image

from t2i_nb.core import to_pil
from t2i_nb.data.shapes import sample_scene, render

SMALL = ['--images', 64, '--n', 4, '--set', 'size=16', '--set', 'channels=[8,16]', '--set', 'attn=[1]', '--set', 'steps=2', '--set', 'batch=16',
         '--set', 'd_text=16', '--device', 'cpu', '--out', 'run']


def packed(im, kind='PNG'):
    f = BytesIO()
    im.save(f, format=kind)
    return f.getvalue()


def write_folder(d, n, broken):
    "`n` pictures with captions, of which `broken` are spoilt in twelve ways; file name -> why"
    rng = np.random.default_rng(0)
    ims = [to_pil(x) for x in render([sample_scene(rng, 'two')[0] for _ in range(20)], 48)]
    png, jpg, bomb = packed(ims[0]), packed(ims[0], 'JPEG'), packed(Image.new('1', (40_000, 40_000)))
    ways = [('empty file', lambda p, t: p.write_bytes(b'')),
            ('no picture', lambda p, t: p.write_text('<html>404</html>')),
            ('no picture', lambda p, t: p.write_bytes(b'%PDF-1.7\n'+bytes(range(256)))),
            ('cut off', lambda p, t: p.write_bytes(jpg[:len(jpg)//2])),
            ('cut off', lambda p, t: p.write_bytes(png[:-100])),
            ('too small', lambda p, t: ims[0].resize((1, 1)).save(p, 'PNG')),
            ('too narrow', lambda p, t: Image.new('L', (40_000, 10)).save(p, 'PNG')),
            ('too large', lambda p, t: p.write_bytes(bomb)),
            ('no caption', lambda p, t: t.unlink()),
            ('caption is empty', lambda p, t: t.write_text(' \n\t\n')),
            ('caption is not UTF-8', lambda p, t: t.write_bytes(b'\xff\xfe\x00\x01')),
            ('caption of 200,000 characters', lambda p, t: t.write_text('ab '*66_667))]
    d.mkdir()
    for i in range(n):
        im, p = ims[i % 20], d/f'{i:04d}.{("png", "jpg")[i % 2]}'
        im.save(p)
        p.with_suffix('.txt').write_text(f'a drawing\nnumber {i}\n')
    why = {}
    for k, i in enumerate(rng.permutation(n)[:broken]):
        p = d/f'{i:04d}.{("png", "jpg")[i % 2]}'
        why[p.name], spoil = ways[k % len(ways)]
        spoil(p, p.with_suffix('.txt'))
    return why


def test_a_hundred_broken_pictures_of_a_thousand(t2i, tmp_path):
    why = write_folder(tmp_path/'pics', 1000, 100)
    run = t2i('train', 'folder', '--data', 'pics', *SMALL)
    assert run.returncode == 0, run.stderr
    assert "100 of 1,000 pictures of" in run.stderr and run.stderr.count('are left out') == 1, run.stderr
    left = json.loads((tmp_path/'run'/'left_out.json').read_text())
    assert {k: v.split(':')[0] for k, v in left.items()} == why


def test_too_many_broken_pictures_stop_it_before_it_starts(t2i, tmp_path):
    write_folder(tmp_path/'pics', 100, 30)
    run = t2i('train', 'folder', '--data', 'pics', *SMALL)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1 and '30 of 100 pictures' in run.stderr, run.stderr
    assert not (tmp_path/'run').exists()
    run = t2i('train', 'folder', '--data', 'pics', *SMALL, '--set', 'broken=.3', '--set', 'crop=.8', '--set', 'flip=true')
    assert run.returncode == 0, run.stderr


def test_annotation_files_and_what_is_wrong_with_them(t2i, tmp_path):
    write_folder(tmp_path/'pics', 20, 0)
    for t in (tmp_path/'pics').glob('*.txt'): t.unlink()
    rows = [dict(file_name=p.name, text=f'picture {p.stem}') for p in sorted((tmp_path/'pics').iterdir())]
    (tmp_path/'pics'/'metadata.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    assert t2i('train', 'folder', '--data', 'pics', *SMALL).returncode == 0
    (tmp_path/'pics'/'metadata.jsonl').write_text('{"file_name": 3}\n')
    run = t2i('train', 'folder', '--data', 'pics', *SMALL, '--overwrite')
    assert run.returncode == 2 and 'line 1' in run.stderr and len(run.stderr.splitlines()) == 1, run.stderr
    (tmp_path/'pics'/'metadata.jsonl').unlink()
    run = t2i('train', 'folder', '--data', 'pics', *SMALL, '--overwrite')
    assert run.returncode == 2 and 'has 0 readable pictures' in run.stderr, run.stderr
    assert (tmp_path/'run'/'model'/'model.safetensors').exists()  # the old run is still there
    run = t2i('train', 'folder', '--data', 'coco2017:pics', *SMALL, '--overwrite')
    assert run.returncode == 2 and 'captions_train2017.json' in run.stderr, run.stderr
