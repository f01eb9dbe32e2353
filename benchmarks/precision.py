"""Pictures a second of training by precision and attention, interleaved: PyTorch's fused attention and ours, in float32 and in bfloat16. Prints JSON.
python benchmarks/precision.py [PRESET] [ROUNDS]"""
import itertools
import json
import statistics
import sys
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from t2i_nb.models import layers
from t2i_nb.run import ClockCB
from t2i_nb.train.recipes import get_recipe, recipe_learner

ATTENTION = {"PyTorch's attention": lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None]),
             'ours': layers.attend}


def main(preset='demo', rounds=5):
    learners = {k: recipe_learner(get_recipe(preset, images=10_000_000, precision=k), device='cpu') for k in ('fp32', 'bf16')}
    seen = {k: [] for k in itertools.product(learners, ATTENTION)}
    for i in range(int(rounds)+1):                                          # the first round warms up
        for precision, attention in seen:
            learn, clock = learners[precision], ClockCB()
            bs = learn.dls.train.bs
            with mock.patch.object(layers, 'attend', ATTENTION[attention]): learn.fit_images(learn.images_seen+8*bs, cbs=clock)
            if i: seen[precision, attention].append(bs/np.median(np.diff(clock.at)))
    seen = {', '.join(k): v for k, v in seen.items()}
    first = next(iter(seen))
    print(json.dumps({'preset': preset, 'images_per_second': {k: round(statistics.median(v), 1) for k, v in seen.items()},
                      f'over {first}': {k: round(statistics.median(a/b for a, b in zip(v, seen[first])), 2) for k, v in seen.items()},
                      'threads': torch.get_num_threads(), 'torch': torch.__version__}, indent=1))


if __name__ == '__main__': main(*sys.argv[1:3])
