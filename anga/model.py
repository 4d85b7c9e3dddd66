"""The classifier of Eq. 1 on the frozen backbone, as a chain of three links: adapter, backbone, head.

Only the first and the last link learn. What passes between them, the prompts and the [CLS] output, is the boundary
at which anga.gradients separates the groups.
"""

import torch

from anga.adapter import SemanticAdapter
from anga.backbone import Backbone
from anga.baselines import build_baseline
from anga.config import Config
from anga.errors import AngaError
from anga.inputs import Inputs
from anga.method import Classifier, Method, classify, make_head
from anga.tokens import Batch


class AngaModel(Method):
    """Frozen vision-language transformer with dynamic prompts and a learned head.

    Args:
        config: reads use_adapter, prompt_layer and classifier.
        backbone: frozen.
        n_classes: number of outputs k.
    """

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        if config.prompt_layer > backbone.n_layers:
            raise AngaError(
                f"prompt_layer: {config.prompt_layer} lies beyond the {backbone.n_layers} layers of {backbone.name}."
            )
        self.prompt_layer = config.prompt_layer
        self.adapter = SemanticAdapter(backbone.dim) if config.use_adapter else None
        self.reads = "pools" if config.use_adapter else "pooled"
        self.head = make_head(config, backbone, n_classes)

    def prompts(self, batch: Batch) -> torch.Tensor | None:
        """Dynamic prompts `[B, 2, d]` (Eq. 16), or None without an adapter."""
        return None if self.adapter is None else self.adapter(batch)

    def encode(self, batch: Batch, prompts: torch.Tensor | None) -> torch.Tensor:
        """The joint representation e `[B, d]` (Eq. 1): the [CLS] output of the frozen transformer."""
        if batch.pooled is not None:
            return batch.pooled
        return self.backbone.encode(
            batch.text, batch.text_mask, batch.image, batch.image_mask, prompts, self.prompt_layer
        )

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        """Logits `[B, k]` of Eq. 1."""
        return classify(self.head, pooled)

    def logits(self, batch: Batch) -> torch.Tensor:
        return self.classify(self.encode(batch, self.prompts(batch)))


def build_model(config: Config, inputs: Inputs) -> Method:
    """The config's method, its weights drawn from train_seed; the global random state stays as it was.

    With `head_bias: prior` classifiers start at how frequent labels are among all training samples, also where
    train_subset lets the model learn from some of them alone: its start is then what it knows of the others.
    """
    labels = inputs.dataset.labels
    n_classes = labels.shape[1] if labels.ndim == 2 else len(inputs.dataset.classes)
    build = AngaModel if config.method == "anga" else build_baseline
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(config.train_seed)  # the CPU's, where the model is made
        model = build(config, inputs.backbone, n_classes)
    if config.head_bias == "prior":
        for classifier in (part for part in model.modules() if isinstance(part, Classifier)):
            classifier.start_at_prior(labels[inputs.training_rows()])  # all rows, an upper bound's too
    return model.to(inputs.bank.device).eval()  # eval: the checkpoint's dropout stays off, also while training
