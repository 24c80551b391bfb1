// The numbers of digits_panel.py: a position's digits, its neighbours, and their tree of prefixes
explorers.digits = ({tables, near, taught, groups, largest}) => {
    const comma = value => seqpeFill.text(value, ","), features = 6, widest = 7
    const nameOf = p => p.length == 1 ? comma(p[0]) : `(${p.join(", ")})`
    const times = (count, make) => Array.from({length: count}, (_, i) => make(i))
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
    function claim(state, position, k) {
        const {base} = state, s = n => n > 1 ? "s" : ""
        if (k > state.k) return `${nameOf(position)} does not fit into k = ${state.k} digit${s(state.k)
        } of base ${base}: it needs ${k}, and is drawn with them`
        const own = digitsOf(position, k, base), before = position.slice(0, -1), p = position.at(-1)
        const off = other => digitsOf(other, k, base).filter((digit, i) => digit != own[i]).length
        const beside = [p - 1, p + 1].filter(q => 0 <= q && q < base ** k).map(q => [...before, q])
        const close = beside.reduce((a, b) => off(b) > off(a) ? b : a)
        const far = times(k * base, i => p + (i % base - Math.floor(p / base ** Math.floor(i / base))
            % base) * base ** Math.floor(i / base)).reduce(
            (a, b) => Math.abs(b - p) > Math.abs(a - p) ? b : a)
        return `1 away, ${nameOf(close)} differs in ${off(close)} digit${s(off(close))}; ${
            count(Math.abs(far - p))} away, ${nameOf([...before, far])} differs in 1`
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
        const {T, CLS, O, D} = tables[name][dims], digits = own.slice(0, -1)
        const line = (array, row) => array.subarray(row * features, (row + 1) * features)
        const none = new Float32Array(features)
        const addends = [[...digits.map(s => line(T, s)), CLS],
            [...digits.map((_, j) => line(O, j % k)), none],
            [...digits.map((_, j) => line(D, Math.floor(j / k))), none]]
        addends.push(own.map((_, j) => none.map((_, i) =>
            addends[0][j][i] + addends[1][j][i] + addends[2][j][i])))
        const gap = times(2, () => own.map(() => NaN))
        const z = addends.flatMap(vectors => [...gap, ...times(features, i => vectors.map(v => v[i]))])
        const limit = name == "untrained" ? 0.06
            : Math.max(...addends.flatMap(vectors => vectors.flatMap(v => [...v].map(Math.abs))))
        return {name, z, low: -limit, high: limit, x: times(4 * own.length, n => n % own.length),
            labels: [...digits.map(s => `T<sub>${s}</sub>`), "T<sub>CLS</sub>",
                ...digits.map((_, j) => `O<sub>${j % k}</sub>`), "0",
                ...digits.map((_, j) => dims > 1 ? `D<sub>${Math.floor(j / k)}</sub>` : "0"), "0",
                ...own.map(() => "U")],
            y: times(4 * own.length, n => Math.floor(n / own.length) * (features + 2) + 0.4)}
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
        const sequences = around.map(p => [...digitsOf(p, k, base), base]), own = sequences[row]
        const agree = sequences.map(other => own.slice(0, -1).map((digit, i) => digit == other[i]))
        const shared = agree.map(same => [...same, false].indexOf(false))
        const names = around.map(nameOf), name = nameOf(position), columns = dims * k + 1
        const known = taught[dims], trained = known && base == 10 && k == known.k
            && Math.max(...position) < known.reach
        const encoders = trained ? ["untrained", "trained"] : ["untrained"]
        const strips = encoders.map(encoder => strip(encoder, own, k, dims))
        const cosines = !trained ? [] : encoders.map(encoder => {
            const first = position.reduce((sum, p) => sum * known.reach + p, 0) * (2 * widest + 1)
                + widest - row
            return {name: encoder, trained: encoder == "trained", x: around.map(p => p[axis]),
                y: near[encoder][dims][axis].subarray(first, first + around.length)}
        })
        const nodes = prefixes(sequences, row), rows = {T: base + 1, O: k, D: dims > 1 ? dims : 0}
        const named = base ** (k * dims), total = rows.T + rows.O + rows.D
        const longest = Math.log10(Math.max(named, total))
        const [domains, height] = stacked([...strips.map(() => 150), 27 * around.length + 20,
            ...trained ? [110] : [], 50], 96)
        strips.forEach((drawn, i) => { drawn.domain = domains[i] })
        const edges = [false, true].map(mine => ({own: mine, x: [], y: []}))
        for (const {place, height, own, before} of nodes.values()) {
            const parent = nodes.get(before) ?? {place: -0.6, height: row}
            edges[Number(own)].x.push(parent.place, place, null)
            edges[Number(own)].y.push(parent.height, height, null)
        }
        const kind = ({own, rows}) => own ? Number(rows.length == 1) : 2
        const powers = times(k, j => j == 0 ? "1" : j == 1 ? String(base)
            : `${base}<sup>${j}</sup>`).reverse()
        const limits = Object.entries(taught).map(([n, {k, reach}]) =>
            `n = ${n}, k = ${k}, positions up to ${comma(reach - 1)}`).join("; ")
        return {k, name, claim: claim(state, position, k), names, row, sequences, shared, strips, edges,
            agree: agree.map(same => same.filter(Boolean).length), distinct: nodes.size, cosines,
            groups: groups.map((look, number) => {
                const members = [...nodes.values()].filter(node => kind(node) == number)
                return {...look, name: look.name.replace("{name}", name),
                    x: members.map(({place}) => place), y: members.map(({height}) => height),
                    text: members.map(({token}) => token == base ? "" : String(token)),
                    size: members.map(({token}) => token == base ? 12 : 18),
                    symbol: members.map(({token}) => token == base ? "square" : "circle")}
            }),
            untaught: trained ? "" : `The trained encoders that come with the lab read base 10: ${limits}.`,
            rows, total, counts: [{name: "table", value: named, text: count(named)}, {name: "T, O, D",
                value: total, text: `${rows.T} + ${rows.O} + ${rows.D} = ${total}`}],
            ticks: {digits: [...own.slice(0, -1), "CLS"].map(s => `<b>${s}</b>`),
                powers: [...position.flatMap(() => powers), "CLS"],
                leaves: names.map((other, i) => i == row ? `<b>${name}</b>`
                    : `${other} shares ${shared[i]}`)},
            ends: {columns: [-1, columns - 0.4], tree: [around.length - 0.4, -0.6],
                counts: [0, 1.25 * longest + 0.5], step: Math.ceil(longest / 8)},
            domains: {tree: domains[strips.length], cosines: domains.at(-2), counts: domains.at(-1)},
            legend: domains[strips.length][1] + 4 / (height - 120), height,
            digits: sequences.map(s => s.slice(0, -1).join(" ")), columns: times(columns, i => i),
            places: times(around.length, i => i), around: around.length,
            tokens: around.length * columns}
    }}
}
