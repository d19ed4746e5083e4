"""Pictures of the best, a typical and the worst image of an evaluation."""

from pathlib import Path

from msdtool.data.inputs import MeasuredPairs
from msdtool.evaluate.measure import Evaluation
from msdtool.measure.comparisons import compare, rank_text, ranked
from msdtool.predict import Predictor
from msdtool.report.pictures import save_comparisons
from msdtool.report.reliability import save_reliability
from msdtool.specifier_grammar import without_folder


def draw_reliability(evaluation: Evaluation, path: Path) -> None:
    """Draw how often labels are right, over the probability that they were given, as a PNG."""
    assert evaluation.reliability is not None
    save_reliability(path, evaluation.reliability.to_dict())


def draw(predictor: Predictor, pairs: MeasuredPairs, evaluation: Evaluation, path: Path) -> None:
    """Draw input, output, target and error of the best, a typical and the worst image as a PNG."""
    labels = predictor.model.labels
    key = "accuracy" if labels else "psnr"
    ranks = ranked([-image[key] for image in evaluation.images])
    rows = [
        compare(
            pairs.sample(index, central_only=True),
            predictor(pairs.sample(index).input)[: predictor.model.channels],
            len(labels),
            evaluation.output.get("data_range", 0.0),
            f"{rank_text(rank, len(pairs))}, {without_folder(pairs.name(index))}",
        )
        for rank, index in sorted(ranks.items())
    ]
    save_comparisons(path, rows, labels)
