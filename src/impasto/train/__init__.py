"""Training of styles: paintings, photographs and a perceptual network -> networks and vectors.

    paintings  a picture given as a style: its name, and whether it is known
    learn      one painting -> a vector for a shipped network
    style      one painting -> a network of its own
    joint      many paintings of a recipe -> a network that they share, and a vector each

    data       photographs -> crops
    judge      style and content losses against the paintings
    motion     stillness, and the made-up motion behind it
    start      what a training begins with: shipped weights, a checkpoint, a smaller painter
    step       one iteration, as it is told
    loop       iterations, looks at held-out photographs, checkpoints
    journal    losses.jsonl, curves.png, samples
    studio     all of these put together; figures for the card

and of a finished style, with judges that it was not trained by:

    shots       photographs, pans with known motion, tripod shots
    squeezenet  the independent judge
    measures    arrays in, numbers out
    flow        real clips: optical flow, occlusions
    evaluation  all figures of one style
    candidates  styles, published checkpoints, rows of a checkpoint
    evaluate    the command line, and a table of candidates side by side

Needs torch: pip install 'impasto[train]'.
"""
