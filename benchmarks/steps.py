"""Steps against quality: every sampler with every number of network evaluations, from the same noise, for the same prompts. Accuracy (with the paired
difference to DDIM with 100 evaluations and its 95 % interval) on CAPTIONS captions of a split, and the distance to DDIM with 1,000 steps on FAR of them.
An evaluation is one question to the guided denoiser: two passes of the network, but for times below the interval's. Each finished row is a line of JSON in OUT, and is not drawn again.
python benchmarks/steps.py [MODEL] [OUT] [--split valid] [--n 300] [--far 48] [--only SAMPLER/SPACING/EVALUATIONS ...]"""
import argparse
import json
import time
from pathlib import Path

import torch

from t2i_nb.data.datasets import get_dataset
from t2i_nb.data.shapes import split_categories
from t2i_nb.diffusion.solvers import SAMPLERS
from t2i_nb.evaluate.grader import grade, wilson
from t2i_nb.pipeline import T2IPipeline
from t2i_nb.evaluate.scores import interval

TWICE = ('heun', 'dpm++2s', 'dpm++sde')                                     # two questions a step, one in the last
EVALUATIONS = (2, 4, 6, 8, 16, 32)


def steps_of(sampler, evaluations): return (evaluations+1)//2 if sampler in TWICE else evaluations


def draw(pipe, captions, key, guidance):
    "A picture of each caption, by a sampler, a spacing and a number of evaluations"
    sampler, spacing, k, *lowest = key.split('/')
    jobs = list(zip(captions, range(len(captions))))
    return pipe.draw(jobs, 0, sampler=sampler, spacing=spacing, steps=steps_of(sampler, int(k)), restarts=0, guidance=guidance, interval=(float(lowest[0]) if lowest else 0., 1.))


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('model', nargs='?', default='shapes32')
    p.add_argument('out', nargs='?', type=Path, default=Path(__file__).parents[1]/'nbs'/'results'/'steps.jsonl', help='file of JSON lines')
    p.add_argument('--split', default='valid')
    p.add_argument('--n', type=int, default=300, help='captions, as many of every category')
    p.add_argument('--far', type=int, default=48, help='pictures compared with the 1,000-step reference; 0: none')
    p.add_argument('--guidance', type=float, default=3.)
    p.add_argument('--only', nargs='*', help='rows, as dpm++2m/trailing/8, or dpm++2m/trailing/8/.5 to guide from t=1 to .5 only; all samplers, evenly spaced, by default')
    a = p.parse_args()
    pipe = T2IPipeline.from_pretrained(a.model)
    level = pipe.train.get('level', 3)
    k = len(split_categories(a.split, level))
    captions = get_dataset('shapes', a.split, level=level, n=-(-a.n//k)*k, seed=0).captions(range(-(-a.n//k)*k))
    todo = ['ddim/trailing/1000']*(a.far > 0) + ['ddim/trailing/100'] + (a.only or [f'{s}/trailing/{n}' for s in SAMPLERS for n in EVALUATIONS])
    done = {r['key']: r for r in map(json.loads, a.out.read_text().splitlines())} if a.out.exists() else {}
    far = draw(pipe, captions[:a.far], todo[0], a.guidance) if a.far and not set(todo) <= set(done) else None
    tell = lambda row: print(json.dumps({k: v for k, v in row.items() if k != 'right'}), flush=True)
    for key in dict.fromkeys(todo):
        if key in done:
            tell(done[key])
            continue
        start = time.process_time()
        x = far if key.endswith('/1000') else draw(pipe, captions, key, a.guidance)
        right = [v['right'] for v in grade(x, captions[:len(x)])]
        row = dict(key=key, model=a.model, split=a.split, n=len(x), guidance=a.guidance, right=''.join('01'[v] for v in right), acc=sum(right)/len(right),
                   ci=wilson(sum(right), len(right)), cpu_seconds=round(time.process_time()-start, 1))
        if a.far: row['distance'] = (x[:a.far]-far).flatten(1).square().mean(1).sqrt().mean().item()
        ref = row if key == 'ddim/trailing/100' else done.get('ddim/trailing/100')
        if ref and ref['n'] == row['n']: row['against_100'] = interval(torch.tensor([float(p)-float(q) for p, q in zip(row['right'], ref['right'])]))
        done[key] = row
        with open(a.out, 'a') as f: f.write(json.dumps(row)+'\n')
        tell(row)


if __name__ == '__main__': main()
