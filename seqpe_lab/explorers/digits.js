// The numbers of digits_panel.py: a position's digits, its neighbours, and their tree of prefixes
explorers.digits = ({tables, near, taught, largest}) => {
    const comma = value => seqpeFill.text(value, ","), features = 6, widest = 7
    const nameOf = p => p.length == 1 ? comma(p[0]) : `(${p.join(", ")})`
    const times = (count, make) => Array.from({length: count}, (_, i) => make(i))
    const plural = n => `${n} digit${n > 1 ? "s" : ""}`
    function readPosition(text) {
        const parts = text.replace(/^[ \t()[\],;]+|[ \t()[\],;]+$/g, "").split(/[\s,;]+/)
        if (parts.length > 3 || !parts.every(part => /^[0-9]{1,18}$/.test(part)))
            throw new Error(`'${text}' is no position: type one to three whole numbers from 0, like `
                + "100 or 2, 3 or 1, 20, 7")
        const position = parts.map(Number), limit = largest[position.length]
        if (Math.max(...position) > limit) throw new Error(`coordinate ${comma(Math.max(...position))
        } is too large to draw: with n = ${position.length} type numbers up to ${comma(limit)}`)
        return position
    }
    const digitsOf = (position, k, base) => position.flatMap(p => times(k, j =>
        Math.floor(p / base ** (k - 1 - j)) % base))
    const count = number => number < 1e8 ? comma(number) : number.toExponential(1).replace(
        /e\+(\d+)/, "·10<sup>$1</sup>")
    function rivals(position, k, base) {
        const own = digitsOf(position, k, base), before = position.slice(0, -1), p = position.at(-1)
        const off = other => digitsOf(other, k, base).filter((digit, i) => digit != own[i]).length
        const beside = [p - 1, p + 1].filter(q => 0 <= q && q < base ** k).map(q => [...before, q])
        const close = beside.reduce((a, b) => off(b) > off(a) ? b : a)
        const far = times(k * base, i => p + (i % base - Math.floor(p / base ** Math.floor(i / base))
            % base) * base ** Math.floor(i / base)).reduce(
            (a, b) => Math.abs(b - p) > Math.abs(a - p) ? b : a)
        return {near: {name: nameOf(close), digits: plural(off(close))},
            far: {name: nameOf([...before, far]), away: count(Math.abs(far - p))}}
    }
    function prefixes(sequences, row) {
        const nodes = new Map()
        for (const [number, sequence] of sequences.entries()) for (const [place, token] of sequence.entries()) {
            const key = String(sequence.slice(0, place + 1))
            if (!nodes.has(key)) nodes.set(key, {place, token, rows: [],
                before: String(sequence.slice(0, place))})
            nodes.get(key).rows.push(number)
        }
        for (const node of nodes.values()) {
            node.own = node.rows.includes(row)
            node.height = node.own ? row : node.rows.reduce((a, b) => a + b) / node.rows.length
        }
        return nodes
    }
    function strip(name, own, k, dims) {
        const {T, CLS, O, D} = tables[name][dims], none = new Float32Array(features)
        const line = (array, row) => array.subarray(row * features, (row + 1) * features)
        const addends = [[...own.map(s => line(T, s)), CLS],
            [...own.map((_, j) => line(O, j % k)), none],
            [...own.map((_, j) => line(D, Math.floor(j / k))), none]]
        addends.push(addends[0].map((t, j) => t.map((v, i) => v + addends[1][j][i] + addends[2][j][i])))
        const gap = times(2, () => addends[0].map(() => NaN))
        const z = addends.flatMap(vectors => [...gap, ...times(features, i => vectors.map(v => v[i]))])
        const limit = name == "untrained" ? 0.06 : Math.max(...addends.flat().flatMap(v => [...v].map(Math.abs)))
        return {name, z, low: -limit, high: limit}
    }
    function stacked(pixels, gap) {
        const whole = pixels.reduce((a, b) => a + b) + gap * (pixels.length - 1)
        let top = 0
        return [pixels.map(part => {
            const domain = [1 - (top + part) / whole, 1 - top / whole]
            top += part + gap
            return domain
        }), whole + 120]
    }
    return {compute(state) {
        const position = readPosition(state.text), {base, width} = state, dims = position.length
        const needed = p => { let k = 1; while (base ** k <= p) k++; return k }
        const k = Math.max(state.k, ...position.map(needed)), axis = state.along == "first" ? 0 : dims - 1
        const from = Math.max(0, position[axis] - width), row = position[axis] - from
        const around = times(Math.min(base ** k, position[axis] + width + 1) - from,
            i => position.with(axis, from + i))
        const sequences = around.map(p => digitsOf(p, k, base)), own = sequences[row]
        const columns = dims * k + 1, known = taught[dims]
        const trained = known && base == 10 && k == known.k && Math.max(...position) < known.reach
        const encoders = trained ? ["untrained", "trained"] : ["untrained"]
        const first = trained && position.reduce((sum, p) => sum * known.reach + p, 0)
            * (2 * widest + 1) + widest - row
        const tree = prefixes(sequences.map(digits => [...digits, base]), row)
        const rows = {T: base + 1, O: k, D: dims > 1 ? dims : 0}
        const named = base ** (k * dims), total = rows.T + rows.O + rows.D
        const longest = Math.log10(Math.max(named, total))
        const [domains, height] = stacked([...encoders.map(() => 150), 27 * around.length + 20,
            ...trained ? [110] : [], 50], 96)
        const edges = [false, true].map(own => ({own, x: [], y: []}))
        const nodes = {shared: [], own: [], others: []}
        for (const {place, height, own, before, token, rows} of tree.values()) {
            const parent = tree.get(before) ?? {place: -0.6, height: row}, ends = token == base
            edges[Number(own)].x.push(parent.place, place, null)
            edges[Number(own)].y.push(parent.height, height, null)
            nodes[!own ? "others" : rows.length > 1 ? "shared" : "own"].push({x: place, y: height,
                text: ends ? "" : String(token), size: ends ? 12 : 18, symbol: ends ? "square" : "circle"})
        }
        const power = exponent => exponent < 2 ? String(base ** exponent) : `${base}<sup>${exponent}</sup>`
        return {k, name: nameOf(position), row, asked: plural(state.k), raised: k > state.k,
            ...rivals(position, k, base), edges, nodes, distinct: tree.size,
            neighbours: around.map((p, i) => {
                const agree = own.map((digit, j) => digit == sequences[i][j])
                return {name: nameOf(p), at: p[axis], row: i, own: i == row,
                    digits: sequences[i].join(" "), agree: agree.filter(Boolean).length,
                    shared: [...agree, false].indexOf(false)}
            }),
            tokens: [...own.map((digit, j) => ({digit, column: j, place: j % k, read: true,
                dimension: Math.floor(j / k), power: power(k - 1 - j % k), many: dims > 1})),
            {digit: "CLS", column: columns - 1, power: "CLS", read: false, many: false}],
            strips: encoders.map((name, i) => ({...strip(name, own, k, dims), domain: domains[i]})),
            cosines: !trained ? [] : encoders.map(name => ({name, trained: name == "trained",
                y: near[name][dims][axis].subarray(first, first + around.length)})),
            untaught: !trained, rows, total, named, count: count(named), around: around.length,
            tokens_around: around.length * columns,
            ends: {columns: [-1, columns - 0.4], tree: [around.length - 0.4, -0.6],
                counts: [0, 1.25 * longest + 0.5], step: Math.ceil(longest / 8)},
            domains: {tree: domains[encoders.length], cosines: domains.at(-2), counts: domains.at(-1)},
            legend: domains[encoders.length][1] + 4 / (height - 120), height}
    }}
}
