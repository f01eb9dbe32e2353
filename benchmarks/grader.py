"""The grader on trial: real pictures, shuffled captions, damaged pictures, blemished pictures, speed. Prints JSON.

    python benchmarks/grader.py --n 5000
"""
import argparse, json, time

import numpy as np, torch

from t2i_nb.core import seeded
from t2i_nb.data.shapes import CATEGORIES, SIZES, caption, render, sample_scene, satisfies
from t2i_nb.evaluate.grader import DAMAGES, accuracy, blemish, damage, grade, wilson

STRENGTHS = dict(blur=(.3,.5,.7,.9,1.1), noise=(.02,.04,.06,.08,.1,.12), waver=(.1,.2,.3,.4,.6), tint=(.03,.06,.1,.15), jpeg=(5,10,20,40,60))
SPLITS = ('seen','heldout_bindings','heldout_triples')

def rate(right):
    right = list(right)
    return dict(acc=sum(right)/len(right), n=len(right), wrong=len(right)-sum(right), ci=wilson(sum(right), len(right)))

def draw_worlds(n, seed):
    "`n` scenes, the categories in turn, over seen and held-out splits"
    rng,out = np.random.default_rng(seed),[]
    for i in range(n):
        c,split = CATEGORIES[i%6],SPLITS[i//6%3]
        if split=='heldout_triples' and c not in ('two','position','attribute_binding'): split = 'seen'
        scene,spec = sample_scene(rng, c, split)
        out.append((scene, spec, caption(spec, rng)))
    return out

def shuffled(worlds, x, times, rng):
    "Captions of other pictures, within each category: the grader's verdicts and the truth's"
    out = {}
    for c in CATEGORIES:
        idx = np.array([i for i,w in enumerate(worlds) if w[1].category==c])
        judged,true = [],[]
        for _ in range(times):
            other = np.roll(idx, int(rng.integers(1, len(idx))))
            judged += [v['right'] for v in grade(x[idx], [worlds[j][2] for j in other])]
            true += [all(satisfies(worlds[i][0], worlds[j][1]).values()) for i,j in zip(idx, other)]
        out[c] = dict(chance=float(np.mean(true)), grader=rate(judged), verdicts_that_differ=int(np.sum(np.array(true)!=judged)))
    return out

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--n', type=int, default=5000, help='scenes')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    worlds = draw_worlds(a.n, a.seed)
    captions = [w[2] for w in worlds]
    x = render([w[0] for w in worlds])
    grade(x[:50], captions[:50])
    wall,cpu = time.perf_counter(),time.process_time()
    graded = grade(x, captions)
    speed = dict(pictures=a.n, wall_s=time.perf_counter()-wall, cpu_s=time.process_time()-cpu)
    rng = np.random.default_rng(a.seed+1)
    real = accuracy(graded, captions)
    by_size = {s:rate(v['right'] for v,w in zip(graded, worlds) if any(o.size==s for o in w[0].objs)) for s in SIZES}
    other_px = {px:rate(v['right'] for v in grade(render([w[0] for w in worlds[:600]], px), captions[:600])) for px in (48,64,128)}
    refused = {}
    for kind in DAMAGES:
        hurt = [(damage(s, sp, kind, rng), c) for s,sp,c in worlds]
        hurt = [h for h in hurt if h[0] is not None]
        refused[kind] = rate(not v['right'] for v in grade(torch.stack([h[0] for h in hurt]), [h[1] for h in hurt]))
    k = min(a.n, 1200)
    forgiven = {kind:{s:rate(v['right'] for v in grade(blemish(x[:k], kind, s, seeded(kind, s)), captions[:k])) for s in ss}
                for kind,ss in STRENGTHS.items()}
    print(json.dumps(dict(n=a.n, real=real, real_with_a=by_size, other_sizes_px=other_px, shuffled=shuffled(worlds, x, 4, rng),
                          refused=refused, refused_all=rate(b for v in refused.values() for b in [True]*(v['n']-v['wrong'])+[False]*v['wrong']),
                          accepted_when_blemished=forgiven, speed=speed), indent=1))

if __name__=='__main__': main()
