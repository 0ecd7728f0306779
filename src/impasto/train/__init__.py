"""Training of styles: a painting, photographs, a perceptual network -> style.onnx and its card.

    data     photographs -> crops
    losses   style, content, variation, stillness
    motion   the made-up camera motion behind stillness
    loop     iterations, checkpoints, log, samples
    style    the whole way, and the card

and of a finished style, with judges that it was not trained by:

    shots       photographs, pans with known motion, tripod shots
    squeezenet  the independent judge
    measures    arrays in, numbers out
    evaluation  all figures of one style
    evaluate    the command line and its table

Needs torch: pip install 'impasto[train]'. Run `python -m impasto.train --help`.
"""

from impasto.train.config import Rhythm, TrainConfig
from impasto.train.loop import Figures
from impasto.train.style import About, Judges, TrainedStyle, train_style

__all__ = ["About", "Figures", "Judges", "Rhythm", "TrainConfig", "TrainedStyle", "train_style"]
