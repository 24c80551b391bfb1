// What collapse_training.py computes with torch, in a worker, so that the page answers meanwhile.
//
// The page sends {stored}, then {seed} to begin, and {alpha, beta, rate} for a few steps. It gets
// {record, apart} each time: what was measured, and log10(1 - cosine) of all pairs of every third.

class CollapseTraining {
    // stored: of collapse_training.stored, with the initial weights of each seed and the positions
    // of each of its steps
    constructor(stored, seed) {
        const {heads, digits, base, layers, positions, runs, test} = stored
        Object.assign(this, {stored, seed, heads, digits, base, layers, step: 0})
        this.weights = matrices(runs[seed].weights)
        this.moments = Object.values(this.weights).map(
            w => [w, new Float64Array(w.data.length), new Float64Array(w.data.length)])
        this.every = Array.from({length: positions}, (_, p) => [p])
        this.test = positionsOf(test, 0)
        this.encodeAll()
        this.measure({alpha: 0, beta: 0, rate: 0})
    }

    encodeAll() {  // vectors of all positions, (positions, d), with the tape that leads back
        this.tape = []
        this.vectors = encode(this, this.every, this.tape)
    }

    // A step on alpha L_delta + beta L_OOD, of AdamW without weight decay
    train({alpha, beta, rate}) {
        const sample = positionsOf(this.stored.runs[this.seed].steps, this.step++)
        const kept = 0.9, slow = 0.999
        this.vectors.grad = new Float64Array(this.vectors.data.length)
        contrastive(this.vectors, sample.contrast, alpha)
        distillation(this.vectors, sample.distil, this.heads, beta)
        backward(this.tape)
        let square = 0
        for (const [w] of this.moments) for (const g of gradient(w)) square += g * g
        const clip = Math.min(1, 1 / (Math.sqrt(square) + 1e-6))
        const now = rate * Math.min(1, this.step / this.stored.warmUp) / (1 - kept ** this.step)
        for (const [w, first, second] of this.moments) {
            w.grad.forEach((g, i) => {
                first[i] += (1 - kept) * (clip * g - first[i])
                second[i] += (1 - slow) * ((clip * g) ** 2 - second[i])
                const size = Math.sqrt(second[i] / (1 - slow ** this.step))
                w.data[i] -= now * first[i] / (size + 1e-8)
            })
            w.grad = undefined
        }
        this.encodeAll()
    }

    measure(settings) {
        const e = this.vectors, n = e.rows, d = e.cols, unit = e.data.slice()
        const lengths = Array.from({length: n}, (_, i) =>
            Math.sqrt(unit.subarray(i * d, (i + 1) * d).reduce((s, v) => s + v * v, 0)))
        unit.forEach((_, o) => { unit[o] /= lengths[Math.floor(o / d)] })
        const similarity = new Float64Array(n * n), every = 3, closest = 1e-3  // as in collapse_panel.py
        addProduct(unit, unit, n, n, d, similarity)
        this.apart = Array.from({length: n / every}, (_, i) => Float32Array.from({length: n / every},
            (_, j) => Math.log10(Math.max(closest, 1 - similarity[every * (i * n + j)]))))
        const cosines = Array.from({length: n - 1}, (_, z) => {  // z + 1 apart
            let total = 0
            for (let p = 0; p + z + 1 < n; p++) total += similarity[p * n + p + z + 1]
            return total / (n - z - 1)
        })
        const {contrast, distil} = this.test
        this.record = {
            ...settings, step: this.step, cosines, effective_rank: effectiveRank(e),
            spread: spread(e), l_delta: contrastive(e, contrast, 0),
            l_ood: distillation(e, distil, this.heads, 0),
        }
    }
}

// The sets of one step: {contrast: [{pivot, candidates, nearest}], distil: [{teachers, shift}]}
function positionsOf({pivots, nearest, candidates, teachers, shifts}, step) {
    const sets = array => Array.from({length: array.shape[1]}, (_, row) => {
        let position = 0  // each is stored as its gap from the last
        const [, count, size] = array.shape, first = (step * count + row) * size
        return Array.from(array.data.subarray(first, first + size), gap => position += gap)
    })
    const at = (array, row) => array.data[step * array.shape[1] + row]
    return {
        contrast: sets(candidates).map((candidates, row) => ({candidates,
            pivot: at(pivots, row), nearest: at(nearest, row)})),
        distil: sets(teachers).map((teachers, row) => ({teachers,
            shift: at(shifts, row)})),
    }
}

function spread(e) {  // RMS distance from the centroid over the RMS norm
    let distance = 0, norm = 0
    for (let c = 0; c < e.cols; c++) {
        let mean = 0
        for (let o = c; o < e.data.length; o += e.cols) mean += e.data[o] / e.rows
        for (let o = c; o < e.data.length; o += e.cols) {
            distance += (e.data[o] - mean) ** 2
            norm += e.data[o] ** 2
        }
    }
    return Math.sqrt(distance / norm)
}

// exp of the entropy of the normalised singular values, from the eigenvalues of E'E (Jacobi)
function effectiveRank(e) {
    const d = e.cols, a = new Float64Array(d * d), columns = transposed(e.data, e.rows, d)
    addProduct(columns, columns, d, d, e.rows, a)
    const turn = (x, y, cos, sin) => {
        const first = a[x]
        a[x] = cos * first - sin * a[y]
        a[y] = sin * first + cos * a[y]
    }
    const small = 1e-15 * Math.max(...a.map(Math.abs))  // rounding errors
    for (let sweep = 0; sweep < 10; sweep++)
        for (let p = 0; p < d; p++)
            for (let q = p + 1; q < d; q++) {
                if (Math.abs(a[p * d + q]) <= small) continue
                const theta = (a[q * d + q] - a[p * d + p]) / (2 * a[p * d + q])
                const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1))
                const cos = 1 / Math.sqrt(t * t + 1), sin = t * cos
                for (let k = 0; k < d; k++) turn(k * d + p, k * d + q, cos, sin)
                for (let k = 0; k < d; k++) turn(p * d + k, q * d + k, cos, sin)
            }
    const values = Array.from({length: d}, (_, i) => Math.sqrt(Math.max(0, a[i * d + i])))
    const total = values.reduce((s, v) => s + v, 0)
    return Math.exp(values.reduce((s, v) => v > 0 ? s - v / total * Math.log(v / total) : s, 0))
}

const dot = (e, i, j, from, to) => {
    let total = 0
    for (let c = from; c < to; c++) total += e.data[i * e.cols + c] * e.data[j * e.cols + c]
    return total
}

// e_i gets a gradient of `slope` times e_j, features from .. to
function pull(e, i, j, slope, from, to) {
    for (let c = from; c < to; c++) e.grad[i * e.cols + c] += slope * e.data[j * e.cols + c]
}

// Eq. 9 of [{pivot, candidates, nearest}]; adds `weight` times its gradient to that of e
function contrastive(e, sets, weight) {
    let loss = 0
    for (const {pivot, candidates, nearest} of sets) {
        const tied = p => p != nearest && Math.abs(p - pivot) == Math.abs(nearest - pivot)
        const others = candidates.filter(p => !tied(p))
        const shares = softmax(others.map(p => dot(e, pivot, p, 0, e.cols)))
        const right = others.indexOf(nearest)
        loss -= Math.log(shares[right]) / sets.length
        if (weight) others.forEach((p, n) => {
            const slope = weight * (shares[n] - (n == right)) / sets.length
            pull(e, pivot, p, slope, 0, e.cols)
            pull(e, p, pivot, slope, 0, e.cols)
        })
    }
    return loss
}

// Eq. 10 of [{teachers, shift}], for each head; adds `weight` times its gradient to that of e
function distillation(e, sets, heads, weight) {
    let loss = 0
    const d = e.cols / heads, rows = sets.length * heads * sets[0].teachers.length
    for (const {teachers, shift} of sets)
        for (let h = 0, from = 0; h < heads; h++, from += d)
            for (const i of teachers) {
                const [p, s] = [0, shift].map(z => softmax(teachers.map(j =>
                    dot(e, i + z, j + z, from, from + d))))
                p.forEach((share, n) => { loss += share * Math.log(share / s[n]) / rows })
                if (weight) teachers.forEach((j, n) => {
                    const slope = weight * (s[n] - p[n]) / rows
                    pull(e, i + shift, j + shift, slope, from, from + d)
                    pull(e, j + shift, i + shift, slope, from, from + d)
                })
            }
    return loss
}

let stored, training
globalThis.onmessage = ({data}) => {
    if (data.stored) { stored = data.stored; return }
    if ("seed" in data) training = new CollapseTraining(stored, data.seed)
    else {
        for (let n = 0; n < stored.stepsAtATime; n++) training.train(data)
        training.measure(data)
    }
    postMessage({record: training.record, apart: training.apart})
}
