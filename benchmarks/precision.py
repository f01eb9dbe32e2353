"""Pictures a second of training by precision, interleaved: float32, bfloat16 with the attention that PyTorch picks by itself, bfloat16 as `PrecisionCB` runs it. Prints JSON.
python benchmarks/precision.py [PRESET] [ROUNDS]"""
import contextlib
import json
import statistics
import sys
from unittest import mock

import numpy as np
import torch

from t2i_nb.run import ClockCB
from t2i_nb.train.recipes import get_recipe, recipe_learner

KINDS = ('fp32', 'bf16, attention as picked', 'bf16')


def main(preset='demo', rounds=5):
    learners = {k: recipe_learner(get_recipe(preset, images=10_000_000, precision=k[:4]), device='cpu') for k in KINDS}
    seen = {k: [] for k in KINDS}
    for i in range(int(rounds)+1):                                          # the first round warms up
        for k, learn in learners.items():
            clock, bs = ClockCB(), learn.dls.train.bs
            picked = mock.patch('t2i_nb.train.optimise.sdpa_kernel', lambda *_: contextlib.nullcontext())
            with picked if 'picked' in k else contextlib.nullcontext(): learn.fit_images(learn.images_seen+8*bs, cbs=clock)
            if i: seen[k].append(bs/np.median(np.diff(clock.at)))
    print(json.dumps({'preset': preset, 'images_per_second': {k: round(statistics.median(v), 1) for k, v in seen.items()},
                      'over_fp32': {k: round(statistics.median(a/b for a, b in zip(v, seen['fp32'])), 2) for k, v in seen.items()},
                      'threads': torch.get_num_threads(), 'torch': torch.__version__}, indent=1))


if __name__ == '__main__': main(*sys.argv[1:3])
