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
        const low = Math.min(Math.floor(p * stretch), table.rows - 1)
        const share = low < table.rows - 1 ? p * stretch - low : 0  // the last row may round above it
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

// The numbers of attention_panel.py
explorers.attention = stored => {
    const models = {}, kept = {}
    const range = n => Array.from({length: n}, (_, i) => i)
    const escaped = name => name.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
        .replace(/"/g, "&quot;").replace(/'/g, "&#x27;")

    function modelOf(kind, method) {
        const {model} = stored.subjects[kind].methods[method]
        return models[kind + method] ??= {...model, weights: matrices(model.weights)}
    }
    function imageOf({digit, drawing, size}) {  // size x size numbers in [0, 1], row after row
        const small = drawing ? Array.from(drawing, pixel => parseInt(pixel, 16) / 15)
            : Array.from(stored.digits[digit], level => level / 255)
        const wide = matrix(size, 8, Float64Array.from(stored.enlarge[size]))  // W image W'
        const half = linear(wide, matrix(8, 8, transposed(Float64Array.from(small), 8, 8)))
        return linear(half, wide).data.map(v => Math.min(1, Math.max(0, v)))
    }
    function read(state, {shape, methods}) {  // [input, first, names, cut]
        if (state.kind == "text") {
            if (!state.text) throw new Error("the text is empty (0 characters): type at least 1")
            const all = Array.from(new TextEncoder().encode(state.text)), {longest} = stored
            const bytes = all.slice(0, longest)
            const names = bytes.map(b => b == 32 ? "·" : b > 32 && b < 127 ? String.fromCharCode(b)
                : b.toString(16).padStart(2, "0"))
            return [bytes, state.start, names, all.length > longest ?
                [`cut: the first ${longest} of ${all.length} tokens are shown`] : []]
        }
        const side = state.size / shape.patch, {fixed} = methods[state.image_method]
        const first = fixed ? 0 : Math.min(state.corner, shape.most - side)
        const why = fixed ? "a learned table has no other start than 0"
            : `positions end at ${shape.most - 1}`
        const image = imageOf(state)
        return [image, first, ["[CLS]", ...gridOf(side, first).map(p => `(${p.join(", ")})`)],
            first < state.corner ? [`start ${state.corner} is not possible: ${why}`] : []]
    }
    function labels(names, side, first) {
        if (side) {
            const rows = range(side).filter(row => side <= 7 || row % 2 == 0)
            return {values: rows.map(row => 1 + side * row), texts: rows.map(row => first + row),
                title: "[CLS], then patches by row"}
        }
        const title = `tokens from position ${seqpeFill.text(first, ",")}`
        if (names.length <= stored.named) return {values: range(names.length), texts: names, title}
        const some = range(names.length).filter(n => n % 8 == 0)
        return {values: some, texts: some.map(n => first + n), title}
    }
    function map(name, axis, table, low, head, place, marks, titles, chosen = false) {  // as ``_map``
        let lowest = Infinity, highest = -Infinity
        for (const row of table) for (const v of row) {
            lowest = Math.min(lowest, v)
            highest = Math.max(highest, v)
        }
        const ends = [low ?? lowest, highest], margin = ends[0] == highest ? 1 : 0
        const z = table.map(row => [...row, ...Array(table.length - row.length).fill(null)])
        return {name, axis: axis > 1 ? String(axis) : "", ends, low: ends[0] - margin,
            high: highest + margin, head, place, marks, titles, part: low === null,
            nats: name.endsWith("part"), chosen, z}
    }
    function byDistance({seen, positions, position}, head, relative) {
        const groups = new Map()
        seen.forEach((keys, i) => keys.forEach((j, n) => {
            if (!positions[i] || !positions[j]) return  // [CLS]
            const away = Math.hypot(...positions[i].map((p, d) => p - positions[j][d])).toFixed(6)
            if (!groups.has(away)) groups.set(away, [])
            groups.get(away).push(position[head][i][n] - (relative ? position[head][i][i] : 0))
        }))
        const sorted = [...groups].sort(([a], [b]) => a - b), values = sorted.map(([, list]) => list)
        const average = list => list.reduce((s, v) => s + v, 0) / list.length
        const mean = values.map(average)
        const spread = values.map((list, g) => Math.sqrt(average(list.map(v => (v - mean[g]) ** 2))))
        return {distance: sorted.map(([away]) => Number(away)), mean, spread,
            low: mean.map((m, g) => m - spread[g]), high: mean.map((m, g) => m + spread[g]),
            pairs: values.map(list => list.length)}
    }
    function deviation(table) {  // over the keys that a query sees
        let total = 0, count = 0
        for (const row of table) {
            const mean = row.reduce((s, v) => s + v, 0) / row.length
            for (const v of row) total += (v - mean) ** 2
            count += row.length
        }
        return Math.sqrt(total / count)
    }
    return {compute(state) {
        const {kind, head} = state, subject = stored.subjects[kind], {shape, places: place} = subject
        const isText = kind == "text", method = isText ? state.method : state.image_method
        const [shown, first, names, cut] = read(state, subject)
        const side = isText ? 0 : state.size / shape.patch
        const key = JSON.stringify([kind, method, Array.from(shown), first, state.layer])
        const input = isText ? shown : shown.map(v => (v - stored.mean) / stored.std)
        if (kept.key != key) Object.assign(kept, {key, parts: splitAttention(
            modelOf(kind, method), input, first, state.layer)})
        const {parts} = kept, query = Math.min(state.query, names.length - 1)
        const tables = [parts.content, parts.position, parts.weights].map(of => of[head])
        const ticks = labels(names, side, first)
        const maps = ["content part", "position part", "attention weight"].map((name, n) =>
            map(name, n + 1, tables[n], null, head, place.areas[name], ticks.values,
                ["key", n ? "" : "query"]))
        maps.push(...parts.weights.map((table, h) =>
            map(`head ${h}`, 7 + h, table, 0, h, place.heads[h], [], ["", ""], h == head)))
        const keys = parts.seen[query], weights = tables[2][query], share = Math.max(...weights)
        const patch = query - 1, row = Math.floor(patch / side), column = patch % side
        const rows = (flat, size) => range(size).map(r =>
            Array.from(flat.slice(r * size, (r + 1) * size)))
        return {
            about: subject.methods[method], maps, is_text: isText, is_image: !isText,
            lower: state.layer > 0, query, who: escaped(names[query]),
            favourite: escaped(names[keys[weights.indexOf(share)]]), share,
            edges: {low: query - 0.5, high: query + 0.5}, keys,
            row: {content: tables[0][query], position: tables[1][query]}, ticks, first,
            last: first + (isText ? names.length : side) - 1,
            pixels: isText ? [] : rows(shown, state.size), spot: isText ? [] : rows(weights.slice(1), side),
            frames: isText || patch < 0 ? [] : [["4", shape.patch], ["5", 1]].map(([axis, scale]) => ({
                axis, x0: column * scale - 0.5, x1: (column + 1) * scale - 0.5,
                y0: row * scale - 0.5, y1: (row + 1) * scale - 0.5})),
            curve: byDistance(parts, head, state.relative),
            beyond: side > shape.trained ? Math.SQRT2 * (shape.trained - 1) : null,
            moves: {content: deviation(tables[0]), position: deviation(tables[1])},
            cut, places: place, limits: {query: names.length - 1},
        }
    }}
}
