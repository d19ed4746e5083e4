"""Models of untrained networks."""

from msdtool.runs.model import Model, Normalisation


def model_of(network, architecture, labels=()):
    """A model whose images were not measured; of a segmentation if there are labels."""
    task = "segmentation" if labels else "regression"
    normalisation = Normalisation((), (), (), (), 1.0, ())
    return Model.of(network, task, architecture, normalisation, labels=labels)
