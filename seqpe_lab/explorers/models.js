// The arithmetic of the lab's small Transformers in a browser: GPT-2, ViT and the position encoder.
//
// A matrix is {rows, cols, data: Float64Array, grad}, row after row. An operation that gets a `tape`
// appends to it how gradients flow back; `backward(tape)` runs it from its end. Weights come from
// seqpe_lab/explorers/stored_models.py under the same names for all three models, linear maps as
// (out, in). Everything is computed in double precision, so that it equals torch's float32 to 1e-5.

const matrix = (rows, cols, data = new Float64Array(rows * cols)) => ({rows, cols, data})
const matrices = stored => Object.fromEntries(Object.entries(stored).map(([name, array]) =>
    [name, matrix(...array.shape, Float64Array.from(array.data ?? array))]))
const gradient = m => m.grad ??= new Float64Array(m.data.length)

function backward(tape) {
    while (tape.length) tape.pop()()
}

// out (n, m) += a (n, k) times the transpose of b (m, k), two rows and four columns at a time
function addProduct(a, b, n, m, k, out) {
    const whole = m - m % 4
    for (let i = 0; i < n; i += 2) {
        const two = i + 1 < n, x = i * k, y = two ? x + k : x
        for (let j = 0, o = i * m, p = o + m; j < whole; j += 4, o += 4, p += 4) {
            const b0 = j * k, b1 = b0 + k, b2 = b1 + k, b3 = b2 + k
            let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0
            for (let l = 0; l < k; l++) {
                const v = a[x + l], w = a[y + l]
                const c0 = b[b0 + l], c1 = b[b1 + l], c2 = b[b2 + l], c3 = b[b3 + l]
                s0 += v * c0; s1 += v * c1; s2 += v * c2; s3 += v * c3
                t0 += w * c0; t1 += w * c1; t2 += w * c2; t3 += w * c3
            }
            out[o] += s0; out[o + 1] += s1; out[o + 2] += s2; out[o + 3] += s3
            if (two) { out[p] += t0; out[p + 1] += t1; out[p + 2] += t2; out[p + 3] += t3 }
        }
        for (let row = i; row < Math.min(i + 2, n); row++)
            for (let j = whole; j < m; j++)
                for (let l = 0; l < k; l++) out[row * m + j] += a[row * k + l] * b[j * k + l]
    }
}

function transposed(data, rows, cols) {
    const out = new Float64Array(data.length)
    for (let i = 0; i < rows; i++)
        for (let j = 0; j < cols; j++) out[j * rows + i] = data[i * cols + j]
    return out
}

// y = x W' + b: x (n, in), weight (out, in), bias (1, out) or none -> (n, out)
function linear(x, weight, bias, tape) {
    const y = matrix(x.rows, weight.rows)
    if (bias) for (let i = 0; i < y.rows; i++) y.data.set(bias.data, i * y.cols)
    addProduct(x.data, weight.data, x.rows, y.cols, x.cols, y.data)
    tape?.push(() => {
        const turned = transposed(y.grad, y.rows, y.cols)  // (out, n)
        addProduct(y.grad, transposed(weight.data, weight.rows, weight.cols), x.rows, x.cols,
            y.cols, gradient(x))
        addProduct(turned, transposed(x.data, x.rows, x.cols), y.cols, x.cols, x.rows,
            gradient(weight))
        for (let o = 0, g = gradient(bias); o < y.cols; o++)
            for (let i = 0; i < y.rows; i++) g[o] += turned[o * y.rows + i]
    })
    return y
}

// Each row less its mean, over its standard deviation, times weight, plus bias: (n, d) -> (n, d)
function layerNorm(x, weight, bias, eps, tape) {
    const n = x.cols, y = matrix(x.rows, n), unit = new Float64Array(x.data.length)
    const scales = new Float64Array(x.rows)
    for (let i = 0; i < x.rows; i++) {
        let mean = 0, square = 0
        for (let j = i * n; j < (i + 1) * n; j++) mean += x.data[j] / n
        for (let j = i * n; j < (i + 1) * n; j++) square += (x.data[j] - mean) ** 2 / n
        scales[i] = 1 / Math.sqrt(square + eps)
        for (let j = 0, o = i * n; j < n; j++, o++) {
            unit[o] = (x.data[o] - mean) * scales[i]
            y.data[o] = unit[o] * weight.data[j] + bias.data[j]
        }
    }
    tape?.push(() => {
        const ofX = gradient(x), ofWeight = gradient(weight), ofBias = gradient(bias)
        for (let i = 0; i < x.rows; i++) {
            let mean = 0, along = 0  // of the gradient of `unit`, and of it times `unit`
            for (let j = 0, o = i * n; j < n; j++, o++) {
                const g = y.grad[o] * weight.data[j]
                ofWeight[j] += y.grad[o] * unit[o]
                ofBias[j] += y.grad[o]
                mean += g / n
                along += g * unit[o] / n
            }
            for (let j = 0, o = i * n; j < n; j++, o++)
                ofX[o] += scales[i] * (y.grad[o] * weight.data[j] - mean - unit[o] * along)
        }
    })
    return y
}

// GELU in its tanh form (GPT-2, the encoder), or exactly (ViT; no gradient)
function gelu(x, exact, tape) {
    const y = matrix(x.rows, x.cols), c = Math.sqrt(2 / Math.PI)
    const tanh = new Float64Array(exact ? 0 : x.data.length)
    x.data.forEach((v, i) => {
        if (!exact) tanh[i] = 1 - 2 / (Math.exp(2 * c * (v + 0.044715 * v * v * v)) + 1)
        y.data[i] = v / 2 * (1 + (exact ? erf(v / Math.SQRT2) : tanh[i]))
    })
    tape?.push(() => x.data.forEach((v, i, _, ofX = gradient(x)) => {
        const inner = c * (1 + 3 * 0.044715 * v * v)
        ofX[i] += y.grad[i] * (1 + tanh[i] + v * (1 - tanh[i] ** 2) * inner) / 2
    }))
    return y
}

function erf(x) {  // Abramowitz and Stegun, 7.1.26: wrong by at most 1.5e-7
    const t = 1 / (1 + 0.3275911 * Math.abs(x))
    const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
        + 0.254829592) * t * Math.exp(-x * x)
    return Math.sign(x) * (1 - tail)
}

function sum(x, other, tape) {  // (n, d) and (n, d) -> (n, d)
    const y = matrix(x.rows, x.cols, x.data.map((v, i) => v + other.data[i]))
    tape?.push(() => [x, other].forEach(m =>
        gradient(m).forEach((_, i) => { m.grad[i] += y.grad[i] })))
    return y
}

// Some rows of a matrix, which may repeat; -1 gives a row of zeros: (n, d) -> (index.length, d)
function rows(x, index, tape) {
    const n = x.cols, y = matrix(index.length, n)
    index.forEach((row, i) => {
        if (row >= 0) y.data.set(x.data.subarray(row * n, (row + 1) * n), i * n)
    })
    tape?.push(() => index.forEach((row, i) => {
        for (let j = 0, g = gradient(x); row >= 0 && j < n; j++) g[row * n + j] += y.grad[i * n + j]
    }))
    return y
}

function columns(x, from, to, tape) {  // (n, d) -> (n, to - from)
    const y = matrix(x.rows, to - from)
    for (let i = 0; i < x.rows; i++)
        y.data.set(x.data.subarray(i * x.cols + from, i * x.cols + to), i * y.cols)
    tape?.push(() => y.grad.forEach((g, o) => {
        gradient(x)[Math.floor(o / y.cols) * x.cols + from + o % y.cols] += g
    }))
    return y
}

// q.k / sqrt(dHead) + bias of the keys that each query sees, per head: seen[i].length numbers
function scores(q, k, heads, seen, dHead, bias) {
    const width = q.cols / heads
    return Array.from({length: heads}, (_, h) => seen.map((keys, i) => keys.map(j => {
        let score = 0, x = i * q.cols + h * width, y = j * k.cols + h * width
        for (let c = 0; c < width; c++) score += q.data[x + c] * k.data[y + c]
        return score / Math.sqrt(dHead) + (bias ? bias(h, i, j) : 0)
    })))
}

function softmax(values) {
    const highest = Math.max(...values), powers = values.map(v => Math.exp(v - highest))
    const total = powers.reduce((a, b) => a + b, 0)
    return powers.map(v => v / total)
}

// Attention: v (n, H dHead) averaged with the softmax of the scores -> (queries, H dHead)
function attend(q, k, v, heads, seen, bias, tape) {
    const d = v.cols / heads, wide = q.cols / heads, y = matrix(q.rows, v.cols)
    const weights = scores(q, k, heads, seen, d, bias).map(of => of.map(softmax))
    const each = action => weights.forEach((of, h) => of.forEach((row, i) => row.forEach((w, n) =>
        action(w, i, n, i * y.cols + h * d, seen[i][n] * v.cols + h * d, h))))
    each((w, i, n, o, from) => { for (let c = 0; c < d; c++) y.data[o + c] += w * v.data[from + c] })
    tape?.push(() => {
        const [ofQ, ofK, ofV] = [q, k, v].map(gradient)
        const slopes = weights.map(of => of.map(row => new Float64Array(row.length)))
        each((w, i, n, o, from, h) => {
            for (let c = 0; c < d; c++) {
                slopes[h][i][n] += y.grad[o + c] * v.data[from + c]
                ofV[from + c] += w * y.grad[o + c]
            }
        })
        each((w, i, n, o, from, h) => {
            const mean = weights[h][i].reduce((s, other, m) => s + other * slopes[h][i][m], 0)
            const g = w * (slopes[h][i][n] - mean) / Math.sqrt(d)
            for (let c = 0, a = i * q.cols + h * wide, b = seen[i][n] * k.cols + h * wide;
                c < wide; c++) {
                ofQ[a + c] += g * k.data[b + c]
                ofK[b + c] += g * q.data[a + c]
            }
        })
    })
    return y
}

// A layer: attention and MLP, each with a LayerNorm before it and a residual around it.
// `wanted`: the rows that are computed; `seen`: the keys of each of them
function block(of, x, {heads, seen, eps = 1e-5, exact, wanted, encoded, tape}) {
    const [q, k, v] = queriesKeysValues(of, x, eps, tape)
    const [q2, k2, bias] = encoded ? encoded(q, k) : [q, k]
    const chosen = m => wanted ? rows(m, wanted, tape) : m
    const attended = attend(chosen(q2), k2, v, heads, seen, bias, tape)
    const y = sum(chosen(x), linear(attended, of("proj.weight"), of("proj.bias"), tape), tape)
    const inner = layerNorm(y, of("ln_2.weight"), of("ln_2.bias"), eps, tape)
    const up = gelu(linear(inner, of("up.weight"), of("up.bias"), tape), exact, tape)
    return sum(y, linear(up, of("down.weight"), of("down.bias"), tape), tape)
}

function queriesKeysValues(of, x, eps, tape) {
    const inner = layerNorm(x, of("ln_1.weight"), of("ln_1.bias"), eps, tape), d = x.cols
    const qkv = linear(inner, of("qkv.weight"), of("qkv.bias"), tape)
    return [0, d, 2 * d].map(from => columns(qkv, from, from + d, tape))
}

const part = (weights, name) => rest => weights[`${name}.${rest}`]

// Eq. 8: distinct positions [[p], ...] or [[row, column], ...] -> (U, d). Each digit prefix is
// computed once: a node of a tree, which sees the nodes above it (seqpe_lab/prefix_tree.py).
function encode({weights, digits, base, heads, layers}, positions, tape) {
    const node = new Map(), token = [], place = [], dimension = [], seen = []
    const places = digits * positions[0].length
    const add = (t, p, path) => {
        const at = token.push(t) - 1
        place.push(p == places ? -1 : p % digits)  // [CLS] has no place and no dimension
        dimension.push(p == places ? -1 : Math.floor(p / digits))
        seen.push([...path, at])
        return at
    }
    const wanted = positions.map(position => {
        const sequence = position.flatMap(p => Array.from({length: digits},
            (_, i) => Math.floor(p / base ** (digits - 1 - i)) % base))
        let path = []
        sequence.forEach((digit, p) => {
            const prefix = sequence.slice(0, p + 1).join()
            if (!node.has(prefix)) node.set(prefix, add(digit, p, path))
            path = seen[node.get(prefix)]
        })
        return add(base, places, path)
    })
    const of = part(weights, "encoder")
    let x = sum(rows(of("token"), token, tape), rows(of("place"), place, tape), tape)
    if (positions[0].length > 1) x = sum(x, rows(of("dimension"), dimension, tape), tape)
    for (let layer = 0; layer < layers; layer++) {
        const last = layer == layers - 1, ends = wanted.map(at => seen[at])
        x = block(part(weights, `encoder.blocks.${layer}`), x,
            {heads, seen: last ? ends : seen, wanted: last && wanted, tape})
    }
    x = layerNorm(x, of("ln_f.weight"), of("ln_f.bias"), 1e-5, tape)
    return linear(x, of("out.weight"), of("out.bias"), tape)
}
