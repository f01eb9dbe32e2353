"""Pictures a second of a folder of 64-pixel JPEGs, read for the first time and again, beside the U-Net's own training step, interleaved. Prints JSON

python benchmarks/loader.py"""
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from t2i_nb.core import to_pil
from t2i_nb.data.datasets import ShapesDataset
from t2i_nb.diffusion.objectives import diffusion_loss
from t2i_nb.train.recipes import get_recipe, recipe_learner


def main(n=1024, rounds=5, batches=4):
    with tempfile.TemporaryDirectory() as d:
        world = ShapesDataset(size=64)
        for i in range(n):
            x, c = world[i]
            to_pil(x).save(f'{d}/{i}.jpg', quality=90)
            Path(f'{d}/{i}.txt').write_text(c)
        learners = {k: recipe_learner(get_recipe('folder', data=d, images=1_000_000, crop=crop), device='cpu') for k, crop in (('centre', 1.), ('crops', .8))}
        learn = learners['centre']
        learn.fit_images(2*learn.dls.train.bs)
        bs, model, opt = learn.dls.train.bs, learn.model, learn.opt
        x0, captions = learn.dls.train.one_batch()
        t = torch.rand(bs)

        def step():
            diffusion_loss(model(x0, t, model.encode(captions)), x0).backward()
            opt.step(); opt.zero_grad()

        def timed(f, pictures):
            s = time.perf_counter()
            f()
            return pictures/(time.perf_counter()-s)

        def read(dl):
            for _ in dl: pass

        seen = {}
        for _ in range(rounds):
            seen.setdefault('u-net', []).append(timed(lambda: [step() for _ in range(batches)], bs*batches))
            for k, l in learners.items():
                dl = l.dls.train
                dl.dataset.kept, dl.dataset.bytes = {}, 0
                for which in ('first pass', 'later pass'): seen.setdefault(f'{k}, {which}', []).append(timed(lambda: read(dl.seek(0)), bs*dl.n_pass))
    med = {k: round(statistics.median(v), 1) for k, v in seen.items()}
    return {'images_per_second': med, 'over_u_net': {k: round(v/med['u-net'], 1) for k, v in med.items() if k!='u-net'}, 'batch': bs, 'threads': torch.get_num_threads(), 'torch': torch.__version__}


if __name__ == '__main__': print(json.dumps(main()))
