"""How many steps a text encoder needs to tell which of two things is left or above, with order at birth and with learnt places.
The question: colour and shape of both things, from captions of the shapes world. Prints JSON: accuracy of the last 100 steps, and steps to 90 %"""
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from t2i_nb.data.shapes import COLOURS, RELATIONS, SEEN_BINDINGS, SHAPES, Spec, Thing, caption
from t2i_nb.text.encoders import TextCond, WordsEncoder, build_vocab, words_to_ids

NAMES = list(COLOURS)


class Placed(WordsEncoder):
    "The textbook's: learnt places, and heads that look everywhere"
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.places = nn.Embedding(self.max_len, self.d)

    def forward(self, captions):
        ids = words_to_ids(captions, self.ids, self.max_len)
        x = self.words(ids)+self.places.weight[:ids.shape[1]]
        for layer in self.layers: x = layer(x, ids > 0)
        return TextCond(self.norm(x)*(ids > 0)[..., None], ids > 0, x.mean(1))


class Readout(nn.Module):
    "Two queries over the words, and four answers"
    def __init__(self, d):
        super().__init__()
        self.q, self.k, self.v = nn.Parameter(torch.randn(2, d)), nn.Linear(d, d), nn.Linear(d, d)
        self.ff, self.out = nn.Sequential(nn.Linear(2*d, 128), nn.GELU()), nn.ModuleList([nn.Linear(128, n) for n in (8, 6, 8, 6)])

    def forward(self, c):
        a = F.scaled_dot_product_attention(self.q.expand(len(c), -1, -1), self.k(c.tokens), self.v(c.tokens), attn_mask=c.mask[:, None])
        h = self.ff(a.flatten(1))
        return [o(h) for o in self.out]


def question(rng):
    bs, rel = [SEEN_BINDINGS[i] for i in rng.choice(43, 2, replace=False)], RELATIONS[rng.integers(4)]
    spec = Spec(tuple(Thing(*b, (None, 'small', 'large')[rng.integers(3)]) for b in bs), rel)
    return caption(spec, rng), [f(x) for b in (bs if rel in ('left', 'above') else bs[::-1]) for f, x in zip((NAMES.index, SHAPES.index), b)]


def learn(cls, steps, seed, d=96, bs=32, lr=1.5e-3):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder, readout, right = cls(build_vocab([question(rng)[0] for _ in range(2000)]), d=d), Readout(d), []
    params = [*encoder.parameters(), *readout.parameters()]
    opt = torch.optim.AdamW(params, lr, betas=(.9, .99))
    for s in range(steps):
        opt.param_groups[0]['lr'] = lr*min(1, (s+1)/100)
        captions, y = zip(*(question(rng) for _ in range(bs)))
        y, out = torch.tensor(y), readout(encoder(captions))
        sum(F.cross_entropy(o, y[:, k]) for k, o in enumerate(out)).backward()
        opt.step(); opt.zero_grad()
        right.append(np.mean([(o.argmax(1) == y[:, k]).float().mean().item() for k, o in enumerate(out)]))
    smooth = np.convolve(right, np.ones(50)/50, 'valid')
    return {'last_100': round(float(np.mean(right[-100:])), 3), 'steps_to_90': int((smooth > .9).argmax())+50 if (smooth > .9).any() else None}


def main(steps=1500, seeds=3):
    print(json.dumps({'steps': steps, **{n: [learn(c, steps, s) for s in range(seeds)] for n, c in
                                         (('order_at_birth', WordsEncoder), ('learnt_places', Placed))}}))


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
