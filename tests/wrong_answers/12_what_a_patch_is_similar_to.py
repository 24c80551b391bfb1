"""Wrong answers to the exercises of lesson 12, and words of what the checker says."""

DISTANCES = (
    "side = len(similarities); "
    "away = torch.cdist(grid(side, side).float(), torch.tensor([patch]).float()); "
    "away = away.round().flatten(); "
    "means = torch.stack([similarities.flatten()[away == d].mean() for d in away.unique()]); "
)

ROWS = {
    "all_maps": [
        ("return (table @ table.T).view(side, side, side, side)", "Those are dot products"),
        (
            "unit = F.normalize(table, dim=0); return (unit @ unit.T).view(4 * [side])",
            "You normalised each feature over the patches",
        ),
        (
            "unit = F.normalize(table, dim=-1); "
            "return (unit @ unit.T).view(4 * [side]).transpose(0, 1)",
            "but not their places",
        ),
        ("unit = F.normalize(table, dim=-1); return unit @ unit.T", "Its shape is (4, 4)"),
    ],
    "radius": [
        (DISTANCES + "return int((means <= means[0] / 2).nonzero()[0])", "Take the midpoint"),
        (
            DISTANCES + "return int((means > (means[0] + means[-1]) / 2).nonzero()[-1])",
            "one patch too near",
        ),
        (DISTANCES + "return int(away.max())", "the farthest distance"),
    ],
}
