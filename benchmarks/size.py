"What a few minutes buy from a small transformer and from a larger one, trained in turns for the same time. Prints JSON"
import json
import sys
import time

import torch

from t2i_nb.core import seeded
from t2i_nb.data.datasets import get_dataset
from t2i_nb.diffusion.objectives import mse_per_sample, noisify
from t2i_nb.evaluate.grader import grade
from t2i_nb.models.t2i import n_params
from t2i_nb.run import draw_all
from t2i_nb.train.auxiliary import read
from t2i_nb.train.recipes import VALID_SEED, get_recipe, recipe_learner, recipe_pipeline, recipe_reader

SIZES = {'small': dict(width=64, heads=4, depth=4, refine=32, refine_blocks=2), 'large': dict(width=96, heads=6, depth=6, refine=48, refine_blocks=3)}


@torch.no_grad()
def errors(model, schedule, times=(.8, .6, .4), n=300):
    "Mean-square error of `x0` on validation pictures, by time"
    x0, captions = get_dataset('shapes', 'valid', n=n, level=2, seed=VALID_SEED).get_batch(range(n))
    eps, cond = torch.randn(x0.shape, generator=seeded('size')), model.encode(captions)
    return {t: round(mse_per_sample(model(noisify(x0, eps, ts, schedule), ts, cond), x0).mean().item(), 4) for t in times for ts in [torch.full((n,), t)]}


def main(seconds=240., turn=20., n=120):
    runs = {k: get_recipe('demo', images=10_000_000, lr_kind='constant', **size) for k, size in SIZES.items()}
    learners, took = {k: recipe_learner(r, device='cpu') for k, r in runs.items()}, dict.fromkeys(runs, 0.)
    for k, r in runs.items(): read(recipe_reader(r, learners[k].model.encoder, device='cpu'), r.read)
    while min(took.values()) < seconds:
        for k, learn in learners.items():
            start = time.perf_counter()
            while time.perf_counter()-start < turn: learn.fit_images(learn.images_seen+512)
            took[k] += time.perf_counter()-start
    out = {}
    for k, learn in learners.items():
        with learn.evaluating() as model:
            captions = get_dataset('shapes', 'valid', n=n, level=2, seed=1).captions(range(n))
            pipe = recipe_pipeline(runs[k], model)
            right = sum(g['right'] for g in grade(draw_all(pipe, captions, 1, k), captions))
            out[k] = {'parameters': n_params(model), 'seconds': round(took[k]), 'images': learn.images_seen, 'images_per_second': round(learn.images_seen/took[k], 1),
                      'error': errors(model, pipe.schedule), 'right': right, 'of': n}
    print(json.dumps({'sizes': out, 'threads': torch.get_num_threads(), 'torch': torch.__version__}))


if __name__ == '__main__': main(*map(float, sys.argv[1:3]))
