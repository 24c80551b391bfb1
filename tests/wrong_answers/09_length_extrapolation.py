"""Wrong answers to the exercises of lesson 09, and words of what the checker says."""

FIRST = "torch.cat([losses[0], losses[1:, :stride].flatten()])"
OF_WINDOWS = "torch.stack([losses[0].mean(), *losses[1:, -stride:].mean(1)])"

ROWS = {
    "sliding_loss": [
        ("return losses.mean()", "tokens in two windows are counted twice"),
        ("return losses[:, -stride:].mean()", "The first window counts completely"),
        (f"return {FIRST}.mean()", "the ones with little context"),
        (f"return {OF_WINDOWS}.mean()", "That is a mean of windows"),
        ("return losses[0].mean()", "Right would be"),
    ]
}
