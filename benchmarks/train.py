"""Pictures a second of training: the data alone, the plain loop, and the whole `Learner` with all callbacks, interleaved. Prints JSON

python benchmarks/train.py [PRESET] [--device cuda] [--set batch=512] [--set precision=bf16]"""
import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from t2i_nb.cli import setting
from t2i_nb.core import DTYPES, default_device
from t2i_nb.diffusion.objectives import diffusion_loss
from t2i_nb.run import ClockCB, make_callbacks
from t2i_nb.train.optimise import get_precision
from t2i_nb.train.recipes import get_recipe, recipe_learner


def main(preset='demo', device='cpu', batches=10, rounds=5, **changes):
    dev = default_device(device)
    r = get_recipe(preset, images=1_000_000, **{'sample_every': 10**9, 'checkpoint_every': 10**9, **changes})
    precision = get_precision(r.precision, dev)
    with tempfile.TemporaryDirectory() as d:
        learn = recipe_learner(r, make_callbacks(r, Path(d)), dev)
        helpers = learn.dls.train.fake_l.num_workers
        skip = 1+6*helpers                                                      # what helpers have ready before the first step must not flatter
        batches += 10*helpers
        learn.fit_images(3*r.batch)
        model, opt, x, t = learn.model, learn.opt, torch.randn(r.batch, 3, r.size, r.size, device=dev), torch.rand(r.batch, device=dev)
        captions = learn.dls.train.one_batch()[1]

        def plain():
            "Forward, loss, backward, step: what no training can do without"
            with torch.autocast(dev.type, dtype=DTYPES[precision], enabled=precision!='fp32'): pred = model(x, t, model.encode(captions)).float()
            diffusion_loss(pred, x).backward()
            opt.step(); opt.zero_grad()

        def data(): learn.dls.train.dataset.get_batch(range(r.batch))

        def timed(f, n):
            s = time.perf_counter()
            for _ in range(n): f()
            if dev.type=='cuda': torch.cuda.synchronize()
            return r.batch*n/(time.perf_counter()-s)

        seen = {'learner': [], 'plain': [], 'data': []}
        for _ in range(rounds):
            clock = ClockCB()                                               # a fit ends with a validation, which is not to be counted
            learn.fit_images(learn.images_seen+(skip+batches)*r.batch, cbs=clock)
            seen['learner'].append(r.batch*batches/(clock.at[-1]-clock.at[skip-1]))
            seen['plain'].append(timed(plain, batches)); seen['data'].append(timed(data, max(1, 512//r.batch)))
    med = {k: round(statistics.median(v), 1) for k, v in seen.items()}
    return {'preset': preset, 'set': changes, 'precision': precision, 'images_per_second': med, 'learner_over_plain': round(med['learner']/med['plain'], 3),
            'batch': r.batch, 'helpers': helpers, 'recorded': any(cb.name=='graph' for cb in learn.cbs), 'device': torch.cuda.get_device_name() if dev.type=='cuda' else dev.type, 'threads': torch.get_num_threads(), 'torch': torch.__version__}


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('preset', nargs='?', default='demo')
    p.add_argument('--device', default='cpu')
    p.add_argument('--set', type=setting, action='append', default=[])
    a = p.parse_args()
    print(json.dumps(main(a.preset, a.device, **dict(a.set))))
