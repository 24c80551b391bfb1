// The attention explorer's numbers in a browser: what attention_parts.split computes with torch.
//
// model: {kind: "text" or "image", heads, layers, eps, exact, weights, encoding}; the encoding is
// described by stored_models.describe.

// Content, position and weights of one layer, [head][query] -> a number for each key it sees.
// input: a text's bytes, or a normalised image, side x side numbers, row after row
function splitAttention(model, input, start, layer) {
    const {heads, eps, exact, weights} = model, isText = model.kind == "text"
    const prefix = isText ? 0 : 1, side = isText ? input.length : Math.sqrt(input.length)
    const grid = isText ? input.map((_, i) => [start + i]) : gridOf(side / model.patch, start)
    const positions = [...Array(prefix).fill(null), ...grid]
    const seen = positions.map((_, i) => positions.map((_, j) => j).slice(0, isText ? i + 1 : undefined))
    const added = addedVectors(model, positions)
    const tokens = isText ? rows(weights.token, input) : patches(model, input, side)
    const encoded = encodingOf(model, positions)
    let x = added ? sum(tokens, added) : tokens
    for (let n = 0; n < layer; n++)
        x = block(part(weights, `blocks.${n}`), x,
            {heads, seen, eps, exact, encoded: (q, k) => encoded(q, k, n)})
    const of = part(weights, `blocks.${layer}`), dHead = x.cols / heads
    const [q, k] = queriesKeysValues(of, x, eps), [q2, k2, bias] = encoded(q, k, layer)
    const score = scores(q2, k2, heads, seen, dHead, bias)
    const bare = added && matrix(x.rows, x.cols, x.data.map((v, i) => v - added.data[i]))
    const [q0, k0] = bare ? queriesKeysValues(of, bare, eps) : [q, k]
    const content = scores(q0, k0, heads, seen, dHead)
    return {
        seen, positions, content, weights: score.map(of => of.map(softmax)),
        position: score.map((of, h) => of.map((row, i) => row.map((s, n) => s - content[h][i][n]))),
    }
}

function gridOf(side, start) {  // rows before columns
    return Array.from({length: side * side}, (_, n) =>
        [start + Math.floor(n / side), start + n % side])
}

// [CLS] and the embedded patches, (1 + patches, d)
function patches({weights, patch}, image, side) {
    const across = side / patch, cut = matrix(across * across, patch * patch)
    gridOf(across, 0).forEach(([row, column], n) => {
        for (let p = 0; p < patch * patch; p++)
            cut.data[n * cut.cols + p] = image[(row * patch + Math.floor(p / patch)) * side
                + column * patch + p % patch]
    })
    const embedded = linear(cut, weights["patch.weight"], weights["patch.bias"])
    return matrix(1 + cut.rows, embedded.cols,
        Float64Array.of(...weights.cls.data, ...embedded.data))
}

// What an absolute encoding adds to the embeddings, (L, d); null for the others
function addedVectors({encoding, weights, kind}, positions) {
    if (encoding.kind == "learned" && kind == "image") {  // one table for each size of grid
        const table = weights[`table.${Math.sqrt(positions.length - 1)}`]
        return rows(table, positions.map((_, i) => i - 1))
    }
    if (encoding.kind == "learned") return learnedVectors(weights.table, positions.map(([p]) => p))
    if (encoding.kind != "sinusoidal") return null
    const y = matrix(positions.length, weights.token.cols)
    return matrix(y.rows, y.cols, y.data.map((_, o) => {
        const [p] = positions[Math.floor(o / y.cols)], c = o % y.cols
        const angle = p * 10_000 ** (-(c - c % 2) / y.cols)
        return c % 2 ? Math.cos(angle) : Math.sin(angle)
    }))
}

// A learned table, stretched over longer contexts by linear interpolation
function learnedVectors(table, positions) {
    const context = positions.at(-1) + 1, y = matrix(positions.length, table.cols)
    const stretch = context > table.rows ? (table.rows - 1) / (context - 1) : 1
    positions.forEach((p, i) => {
        const low = Math.min(Math.floor(p * stretch), table.rows - 1), share = p * stretch - low
        for (let c = 0; c < y.cols; c++) {
            const a = table.data[low * y.cols + c]
            const b = share ? table.data[(low + 1) * y.cols + c] : a
            y.data[i * y.cols + c] = (1 - share) * a + share * b
        }
    })
    return y
}

// (q, k, layer) -> [q', k', bias(head, query, key) or undefined]; q and k (L, H dHead)
function encodingOf({encoding, weights, heads}, positions) {
    const {kind} = encoding
    if (kind == "rotary")  // frequency[layer][head][dimension][pair], radians a step
        return (q, k, layer) => [q, k].map(m => rotated(m, heads, positions,
            encoding.frequency[layer % encoding.frequency.length]))
    if (kind == "alibi") return (q, k) => [q, k, (h, i, j) => encoding.slopes[h] * positions[j][0]]
    if (kind == "difference")  // table[layer][head][key - query + most]
        return (q, k, layer) => [q, k, (h, i, j) => encoding.table[layer % encoding.table.length][h][
            positions[j][0] - positions[i][0] + encoding.most]]
    if (kind != "seqpe") return (q, k) => [q, k]
    const vectors = encode({...encoding, weights}, positions.filter(p => p))
    const e = positions.length == vectors.rows ? vectors : matrix(positions.length, vectors.cols,
        Float64Array.of(...weights.prefix.data, ...vectors.data))
    const projected = Array.from({length: encoding.projections}, (_, n) =>
        linear(e, weights[`projections.${n}.weight`], weights[`projections.${n}.bias`]))
    return (q, k, layer) => [q, k].map((m, side) => integrated(m, columns(
        projected[layer % encoding.projections], side * e.cols, (side + 1) * e.cols), heads, encoding))
}

// Eq. 12 to 14: the vectors e (L, H dHead) of the positions with queries or keys m of that shape
function integrated(m, e, heads, {integration, gain}) {
    if (integration == "sum") return sum(m, e)
    if (integration == "mul") return matrix(m.rows, m.cols, m.data.map((v, i) => v * e.data[i]))
    const d = m.cols / heads, wide = matrix(m.rows, 2 * m.cols)
    for (let at = 0; at < m.data.length; at += d) {  // [q; e] of each token and head
        wide.data.set(m.data.subarray(at, at + d), 2 * at)
        wide.data.set(e.data.subarray(at, at + d).map(v => v * gain), 2 * at + d)
    }
    return wide
}

// Eq. 7: neighbouring features as pairs; the sum over dimensions of position times frequency
function rotated(m, heads, positions, frequency) {
    const y = matrix(m.rows, m.cols), d = m.cols / heads
    for (let o = 0; o < m.data.length; o += 2) {
        const position = positions[Math.floor(o / m.cols)], h = Math.floor(o % m.cols / d)
        const of = frequency[h % frequency.length], pair = o % d / 2
        const angle = position ? position.reduce((a, p, n) => a + p * of[n][pair], 0) : 0
        const cos = Math.cos(angle), sin = Math.sin(angle), a = m.data[o], b = m.data[o + 1]
        y.data[o] = a * cos - b * sin
        y.data[o + 1] = a * sin + b * cos
    }
    return y
}
