// The numbers of patches_panel.py: similarities of a patch's vector to those of all patches
explorers.patches = stored => {
    function vectors(method, rows, columns, layer) {  // of each patch, row by row
        const {table, vectors: all, projections} = stored.methods[method], {most, trained} = stored
        if (all) {
            const size = all.shape[1], found = Array.from({length: rows * columns}, (_, p) => {
                const first = (Math.floor(p / columns) * most + p % columns) * size
                return all.subarray(first, first + size)
            })
            if (layer == "all") return found
            const {weight, bias} = projections[layer]
            return found.map(e => bias.map((start, i) => e.reduce(
                (sum, value, j) => sum + value * weight[i * size + j], start)))
        }
        const down = stored.stretch[rows], across = stored.stretch[columns]
        return Array.from({length: rows * columns}, (_, p) => {  // interpolation is linear
            const vector = new Float32Array(table.shape[1]), r = Math.floor(p / columns), c = p % columns
            for (let s = 0; s < trained; s++) for (let t = 0; t < trained; t++) {
                const weight = down[r * trained + s] * across[c * trained + t]
                const first = (s * trained + t) * vector.length
                if (weight) for (let i = 0; i < vector.length; i++)
                    vector[i] += weight * table[first + i]
            }
            return vector
        })
    }
    function map(method, state, row, column) {
        const {rows, columns, kind} = state, patch = row * columns + column
        const {name, how, table, turns} = stored.methods[method], {trained, layers} = stored
        let flat
        if (turns) {  // RoPE: the mean cosine of the angles between two patches
            const pairs = turns.shape[1], of = state.layer == "all" ? [0, pairs]
                : [state.layer, state.layer + 1].map(layer => layer * pairs / layers)
            flat = Array.from({length: rows * columns}, (_, p) => {
                const down = Math.floor(p / columns) - row, across = p % columns - column
                let sum = 0
                for (let i = of[0]; i < of[1]; i++)
                    sum += Math.cos(down * turns[i] + across * turns[pairs + i])
                return sum / (of[1] - of[0])
            })
        } else {
            const all = vectors(method, rows, columns, state.layer)
            const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0)
            const length = all.map(vector => kind == "cosine" ? Math.sqrt(dot(vector, vector)) : 1)
            flat = all.map((other, p) => dot(all[patch], other) / length[patch] / length[p])
        }
        const others = flat.filter((_, p) => p != patch), high = Math.max(...others)
        const near = flat.findIndex((value, p) => p != patch && value.toFixed(5) == high.toFixed(5))
        const nearest = [Math.floor(near / columns), near % columns]
        const own = state.colours == "own" || kind == "dot"
        return {name, flat, nearest, away: Math.hypot(nearest[0] - row, nearest[1] - column),
            how: table ? Math.max(rows, columns) > trained ? ", stretched" : "" : how,
            similarities: Array.from({length: rows}, (_, r) =>
                flat.slice(r * columns, (r + 1) * columns)),
            low: own ? Math.min(...others) : -1, high: own ? high : 1,
            edge: table ? null : trained - 0.5}
    }
    return {compute(state) {
        const {rows, columns} = state, {patch} = stored
        const row = Math.min(state.row, rows - 1), column = Math.min(state.column, columns - 1)
        const maps = state.methods.map(method => map(method, state, row, column))
        const count = maps.length, cells = Array.from({length: rows * columns}, (_, p) => p)
        const lines = {wide: Math.ceil(count / 3) || 1, narrow: Math.ceil(count / 2) || 1}
        return {maps, row, column, count, lines,
            frame: {x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5},
            limits: {row: rows - 1, column: columns - 1},
            adjacent: maps.filter(({away}) => away < 1.5).length,
            heights: {wide: 100 + 330 * lines.wide, narrow: 100 + 260 * lines.narrow},
            pixels: [rows * patch, columns * patch],
            places: {row: cells.map(p => Math.floor(p / columns)), column: cells.map(p => p % columns)}}
    }}
}
