"""Train on IEMOCAP, CREMA-D, RAVDESS or EMO-DB: a probe of the emotion in a codec's tokens.

python train.py hparams/emotion.yaml --data_folder /data/IEMOCAP_full_release
python train.py hparams/emotion.yaml --data_folder /data/CREMA-D --corpus crema-d
python train.py hparams/emotion_mini.yaml                                    # toy classes
"""

from __future__ import annotations

from focalcodec.training import run


def main(argv: list[str]) -> None:
    """Train and test once: from the command line to the table of results."""
    # The YAML with the values of the command line. An unknown or unused key is an error.
    hparams, run_opts = run.load_hparams(argv)

    # The run's folder has all results of the run; an interrupted run resumes in it.
    with run.open_folder(hparams, run_opts) as folder:
        # The frozen encoder (in a probe: the frozen codec) and the weights of `init_from`.
        start = run.load_start(hparams, run_opts)

        # `prepare` of the YAML makes the manifests: rows of train, valid and the test sets.
        sets = run.prepare_sets(hparams, folder)

        # Padded batches: sig and feats for the two stages, toks for a probe.
        loaders = hparams["loaders"](hparams, start.encoder, sets, folder)

        # Forward pass and losses are in brains.py.
        brain = hparams["brain"](start.encoder, loaders, folder, hparams, run_opts)
        brain.start_from(start)
        brain.fit(hparams["epoch_counter"], loaders.train, loaders.valid)

        # Test the best checkpoint on every test set; after fine-tuning, also the weights before it.
        results = brain.test(loaders.tests)
        results |= brain.test_start(start, loaders.tests)
        folder.write_results(results)
        if not brain.debug:
            folder.write_codec(start)


if __name__ == "__main__":
    run.script(main)
