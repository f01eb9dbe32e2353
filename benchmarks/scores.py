"""The published line: distances to real pictures with n, interval and floor, and how many pictures are as asked, for shapes32 (shipped), digits and emoji (trained here, as many pictures on any machine). Prints JSON

python benchmarks/scores.py [FOLDER] > nbs/results/scores.json     # what is trained is kept in FOLDER, and not trained again where it is there"""
import json
import sys
import tempfile
import warnings
from pathlib import Path

from t2i_nb.judge import evaluate, metrics_table
from t2i_nb.pipeline import T2IPipeline
from t2i_nb.run import train
from t2i_nb.train.recipes import get_recipe

IMAGES = dict(digits=128_000, emoji=115_200)  # to train on: five and ten minutes of one core


def main(folder, n=1000):
    warnings.simplefilter('ignore')  # names of emoji that are tested hold new words
    out = {}
    for name in ('digits', 'emoji', 'shapes32'):
        model = name
        if name != 'shapes32' and not ((model := folder/name)/'report.html').exists(): train(get_recipe(name, images=IMAGES[name]), model, overwrite=True, n_score=10)
        out[name] = evaluate(T2IPipeline.from_pretrained(model), name, n=n)
        print(metrics_table(out[name]), file=sys.stderr, flush=True)
    print(json.dumps(out, indent=1))


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as d: main(Path(sys.argv[1] if sys.argv[1:] else d))
