"""Runs a study in a process of its own: python study_driver.py STUDY STORE WORKERS LANES LOG SECONDS_PER_RUN [ON]"""

import sys

import study_trainers

from blueberry.study.engine import run
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic


def main() -> int:
    study, store, workers, lanes, log, seconds, *on = sys.argv[1:]
    trainer = study_trainers.hang if log == "hang" else study_trainers.Logged(log, float(seconds))
    with Store.open(store) as opened:
        try:
            outcome = run(
                Study.load(study),
                data_digest=Synthetic.data_digest,
                store=opened,
                trainer=trainer,
                workers=int(workers),
                lanes=int(lanes),
                on=on[0] if on else None,
            )
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            return 130
    print(outcome.num_trained, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
