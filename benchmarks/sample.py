"How long `t2i sample shapes32 \"...\"` takes, the whole command, and what of it is drawing. Prints JSON"
import json
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT, MAIN = 'a small red circle above a large blue square', 'import sys; from t2i_nb.cli import main; sys.exit(main())'


def command(*args):
    "Seconds of a command in a process of its own"
    t = time.perf_counter()
    subprocess.run([sys.executable, '-c', MAIN, *args], check=True, capture_output=True)
    return time.perf_counter()-t


def main(runs=5):
    with tempfile.TemporaryDirectory() as d:
        command('presets')                                            # warm the disk
        whole = [command('sample', 'shapes32', PROMPT, '--out', f'{d}/x.png') for _ in range(runs)]
        four = [command('sample', 'shapes32', PROMPT, '--n', '4', '--out', f'{d}/y.png') for _ in range(runs)]
    import torch

    from t2i_nb.pipeline import T2IPipeline
    pipe = T2IPipeline.from_pretrained('shapes32', 'cpu')
    pipe(PROMPT)
    draw = []
    for _ in range(runs):
        t = time.perf_counter(); pipe(PROMPT); draw.append(time.perf_counter()-t)
    med = lambda v: round(statistics.median(v), 2)
    print(json.dumps({'command_s': med(whole), 'command_max_s': round(max(whole), 2), 'four_pictures_s': med(four), 'drawing_s': med(draw),
                      'runs': runs, 'steps': pipe.sampling.steps, 'threads': torch.get_num_threads(), 'torch': torch.__version__}))


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
