"""Guidance against accuracy and variety. For each setting: accuracy on CAPTIONS validation captions; and, over PICTURES pictures of each of twelve captions that leave
much open, how far what they leave open varies (place, size and hue of the first thing), as a share of how far it varies in true scenes of these captions.
Each finished row is a line of JSON in OUT, and is not drawn again.
python benchmarks/guidance.py [MODEL] [OUT] [--n 240] [--pictures 24] [--only SCALE/FROM/TO/RESCALE/THRESHOLD ...]"""
import argparse
import colorsys
import json
from pathlib import Path

import numpy as np

from t2i_nb.data.datasets import get_dataset
from t2i_nb.data.shapes import COLOURS, SIZES, Scene, make_obj, parse_caption, place, render
from t2i_nb.evaluate.grader import grade, read_scenes, wilson
from t2i_nb.pipeline import T2IPipeline

SETTINGS = [f'{g}/{a}/{b}/{r}/{th}' for g, a, b, r, th in (
    *((g, 0, 1, 0, 0) for g in (0, 1, 1.5, 2, 3, 5, 8)),                    # how strong
    *((g, .5, 1, 0, 0) for g in (2, 3, 5, 8)), (3, .8, 1, 0, 0), (3, 0, .5, 0, 0), (3, .2, .9, 0, 0), # when
    *((g, 0, 1, .7, 0) for g in (3, 5, 8)), (8, 0, 1, 1, 0),                # contrast put back
    *((g, 0, 1, 0, .995) for g in (3, 5, 8)))]                              # dynamic threshold
OPEN = [f'{"an" if c == "orange" else "a"} {c} {s}' for c, s in zip(list(COLOURS)*2, ('circle', 'square', 'triangle', 'star', 'ring', 'cross')*2)][:12]


def spread(scenes):
    "Standard deviations over pictures: place in pixels, half width, hue in degrees; of the first thing of each"
    objs = [s.objs[0] for s in scenes if s and s.objs]
    hue = np.array([colorsys.rgb_to_hsv(*o.rgb)[0]*2*np.pi for o in objs])
    turned = np.degrees(np.angle(np.exp(1j*(hue-np.angle(np.exp(1j*hue).mean())))))
    return np.array([np.std([(o.x, o.y) for o in objs], axis=0).mean(), np.std([o.r for o in objs]), turned.std()])


def true_spread(caption, n, seed=0):
    "The same of scenes that the caption is true of, as the world draws them"
    rng, out, thing = np.random.default_rng(seed), [], parse_caption(caption).things[0]
    while len(out) < n:
        objs = place(rng, [make_obj(rng, thing.colour, thing.shape, list(SIZES)[rng.integers(2)])], None, held_back=False)
        if objs: out.append(Scene(tuple(objs)))
    return spread(read_scenes(render(out)))


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('model', nargs='?', default='shapes32')
    p.add_argument('out', nargs='?', type=Path, default=Path(__file__).parents[1]/'nbs'/'results'/'guidance.jsonl', help='file of JSON lines')
    p.add_argument('--n', type=int, default=240, help='captions')
    p.add_argument('--pictures', type=int, default=24, help='of each of the twelve open captions')
    p.add_argument('--only', nargs='*', help='settings, as 3/.5/1/0/0: scale, from, to, rescale, threshold')
    a = p.parse_args()
    pipe = T2IPipeline.from_pretrained(a.model)
    captions = get_dataset('shapes', 'valid', level=pipe.train.get('level', 3), n=a.n, seed=0).captions(range(a.n))
    done = {r['key']: r for r in map(json.loads, a.out.read_text().splitlines())} if a.out.exists() else {}
    real = None
    for key in a.only or SETTINGS:
        if key not in done:
            scale, lo, hi, rescale, threshold = map(float, key.split('/'))
            how = dict(sampler='dpm++2m', steps=12, restarts=0, guidance=scale, interval=(lo, hi), rescale=rescale, threshold=threshold)
            right = [v['right'] for v in grade(pipe.draw(list(zip(captions, range(a.n))), 0, **how), captions)]
            if real is None: real = np.array([true_spread(c, 200) for c in OPEN])
            x = pipe.draw([(c, k) for c in OPEN for k in range(a.pictures)], 1, **how)
            shares = np.array([spread(read_scenes(x[i*a.pictures:(i+1)*a.pictures])) for i in range(len(OPEN))])/real
            done[key] = dict(key=key, model=a.model, n=a.n, right=''.join('01'[v] for v in right), acc=sum(right)/a.n, ci=wilson(sum(right), a.n), pictures=a.pictures,
                             variety=dict(zip(('place', 'size', 'hue'), np.nanmean(shares, 0).round(4).tolist())), extreme=(x.abs() > .99).float().mean().item())
            with open(a.out, 'a') as f: f.write(json.dumps(done[key])+'\n')
        print(json.dumps({k: v for k, v in done[key].items() if k != 'right'}), flush=True)


if __name__ == '__main__': main()
