"""What reading the captions costs a training step: from a constant, from the store, and by a language model on the fly.

The U-Net of the preset `folder` at 64 px on pictures in memory, batches of 16, captions of about the length of COCO's. The same
steps are taken with each way of reading, in turns; medians, and ratios within a round. BERT-base has its real size and random
weights, which cost the same. Prints JSON."""
import argparse, json, os, platform, tempfile
from pathlib import Path

import numpy as np, torch

from t2i_nb.data.loaders import InMemory, get_dls
from t2i_nb.data.shapes import WEIGHTS
from t2i_nb.data.sources import get_dataset
from t2i_nb.run import ClockCB
from t2i_nb.text.cache import TextCache
from t2i_nb.text.pretrained import fresh_language_model
from t2i_nb.train.diffusion import diffusion_learner
from t2i_nb.train.optimise import ClipCB, EMACB
from t2i_nb.train.recipes import get_recipe, recipe_model


class Constant:
    "The answer to another batch, of the usual length, which somebody left in memory"
    def __init__(self, cond): self.cond = cond
    def __call__(self, captions, device): return self.cond[:len(captions)].to(device)


def learner(kind, source, ds, device):
    "A learner whose encoder reads with a language model, and that encoder"
    r = get_recipe('folder', data='shapes', encoder=kind, source=source, text_depth=0, images=10**6)
    model = recipe_model(r, ())
    learn = diffusion_learner(get_dls(ds, InMemory(ds.x0[:16], ds.text[:16]), bs=r.batch, device=device), model, prediction=r.prediction, cbs=[ClipCB(), EMACB(.99)])
    return learn,model.encoder


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--rounds', type=int, default=9)
    p.add_argument('--steps', type=int, default=14, help='of each way in each round; the first 2 are not counted')
    p.add_argument('--device', default='cpu')
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as d:
        os.environ['T2I_CACHE'] = d
        x0,captions = get_dataset('shapes', 'train', level=3, n=512, size=64, weights=tuple(WEIGHTS.values())).get_batch(range(512))
        ds,times = InMemory(x0, captions),{}
        bert = fresh_language_model('bert-base', Path(d)/'bert', captions, d=768, depth=12, nh=12)
        for kind,source in (('minilm',''), ('bert-base',str(bert))):
            learn,encoder = learner(kind, source, ds, a.device)
            store = TextCache(encoder.lm)
            store.fill(captions, a.device, say=lambda text: None)
            usual = sorted((store(captions[k:k+16]) for k in range(0, 512, 16)), key=lambda c: c.tokens.shape[1])[16]
            ways = {'constant':Constant(usual), 'stored':store, 'on the fly':None}
            for _ in range(a.rounds):
                for way,source in ways.items():
                    encoder.store,clock = source,ClockCB()
                    learn.fit_images(learn.images_seen+16*a.steps, cbs=clock)
                    times.setdefault((kind, way), []).append(1e3*float(np.median(np.diff(clock.at)[1:])))
    ms = {f'{k}, {w}':round(float(np.median(v)), 1) for (k,w),v in times.items()}
    ratio = lambda k,w,over: np.array(times[k,w])/np.array(times[k,over])
    ratios = {f'{k}, {w} over {o}':{'median':round(float(np.median(r)), 4), 'quartiles':np.quantile(r, (.25,.75)).round(4).tolist()}
              for k in ('minilm','bert-base') for w,o in (('stored','constant'),('on the fly','stored')) for r in [ratio(k, w, o)]}
    mean = float(np.mean([len(c.split()) for c in captions]))
    print(json.dumps({'ms a step':ms, 'ratios':ratios, 'words a caption':round(mean, 1), 'rounds':a.rounds, 'steps a round':a.steps,
                      'threads':torch.get_num_threads(), 'torch':torch.__version__, 'machine':platform.machine(), 'device':a.device}, indent=1))


if __name__=='__main__': main()
