// The numbers of geometry_panel.py: similarities of stored position vectors; the rest is stored
explorers.geometry = stored => {
    const dot = (a, b) => { let sum = 0; for (let i = 0; i < a.length; i++) sum += a[i] * b[i]; return sum }
    const rows = array => Array.from({length: array.shape[0]}, (_, i) =>
        array.subarray(i * array.shape[1], (i + 1) * array.shape[1]))
    function readPositions(text) {
        const words = text.split(/[\s,;]+/).filter(Boolean), wrong = words.find(word => !/^\d+$/.test(word))
        if (wrong) throw new Error(
            `'${wrong}' is no position: type whole numbers from 0, as in 123, 1000`)
        if (words.length > 6) throw new Error(`${words.length} positions to compare with, of which 6 `
            + "can be told apart: leave some out")
        return [...new Set(words.map(Number))]
    }
    function isDigitEdit(p, q, digits) {
        if (p == q) return false
        const [a, b] = [p, q].map(n => String(n).padStart(digits, "0"))
        const off = [...a].flatMap((digit, i) => digit == b[i] ? [] : [i])
        if (off.length == 1 || off.length == 2 && a[off[0]] == b[off[1]] && a[off[1]] == b[off[0]])
            return true
        const [short, long] = [String(p), String(q)].sort((x, y) => x.length - y.length)
        return long.length == short.length + 1
            && [...long].some((_, i) => long.slice(0, i) + long.slice(i + 1) == short)
    }
    function run(method, state, asked, second) {
        const {kind, view} = state, {name, steps, last: all, trained: seen, digits, provenance}
            = stored.runs[method]
        const step = steps[state.step] ? state.step : Math.max(...Object.keys(steps))
        const known = rows(steps[step].vectors).slice(0, state.positions), count = known.length
        const lengths = known.map(e => kind == "cosine" ? Math.sqrt(dot(e, e)) || 1e-8 : 1)
        const near = (p, q) => dot(known[p], known[q]) / lengths[p] / lengths[q]
        const trained = Math.min(seen, count), position = Math.min(state.position, count - 1)
        const row = Float64Array.from(known, (_, q) => near(position, q))
        const ranked = [...row.keys()].sort((p, q) => row[q] - row[p]).filter(q => q != position)
        const compared = asked.filter(q => q != position).map(q => ({q, known: q < count,
            value: row[q] ?? 0, rank: q < count ? ranked.indexOf(q) + 1 : 0}))
        const kept = steps[step].counts[count], {measures, curves} = kept[kind]
        const rho = measures.correlation, first = !second, axis = second ? "2" : ""
        const marked = [position, ...compared.filter(({known}) => known).map(({q}) => q)]
        const down = kind == "cosine" ? [-1.2, 1.2] : null
        const partsOf = make => [[0, trained], [trained, count]].flatMap(([begin, end], i) =>
            begin < end ? [{trained: begin == 0, begin, last: end - 1, axis, first,
                ...make(begin, end, i)}] : [])
        const views = {
            heatmap() {
                const every = 1 + Math.floor((count - 1) / 400), some = known.filter((_, p) => p % every == 0)
                const table = some.map((_, p) => Float32Array.from(some, (_, q) =>
                    near(p * every, q * every)))
                let low = Infinity, high = -Infinity
                for (const line of table) for (const value of line) {
                    if (value < low) low = value
                    if (value > high) high = value
                }
                const own = kind == "dot" || state.stretch && high - low > 1e-5
                const ends = [-0.5 * every, every * (table.length - 0.5)]
                return {table, every, low: own ? low : -1, high: own ? high : 1, ends,
                    down: ends.toReversed(), beyond: trained < count, scale: first || own,
                    drawn: ["", " (every 2nd is drawn)", " (every 3rd is drawn)"][every - 1]}
            },
            path() {
                const points = rows(kept.path), part = (begin, end) => [0, 1, 2].map(
                    i => points.slice(begin, end).map(point => point[i]))
                return {xyz: part(0, count), shares: kept.shares,
                    place: [[0, 1], [0, 0.48], [0.52, 1]][state.beside ? 1 + second : 0],
                    parts: partsOf((begin, end) => ({at: part(begin, end),
                        names: [...points.keys()].slice(begin, end)})),
                    notes: [...new Set([...marked, 0, count - 1])].map((q, i) => ({q,
                        place: [...points[q]], left: [-45, 45][i % 2], up: -25 - 18 * i}))}
            },
            neighbours() {
                const group = x => ({x, y: x.map(q => row[q]),
                    names: x.map(q => `<b>${seqpeFill.text(q, ",")}</b>`)})
                const alike = [...row.keys()].filter(q => isDigitEdit(position, q, digits))
                return {ends: [-0.02 * count, 1.02 * count], down, groups: {alike: group(alike),
                    nearest: group(ranked.slice(0, 8)), marked: group(marked)}}
            },
            distance: () => ({ends: null, down, parts: partsOf((begin, end, i) => {
                const [mean, low, high] = rows(curves[i])
                return {mean, low, high, z: [...mean.keys()]}
            })}),
        }
        return {name, first, axis, step: Number(step), steps: all, count, width: known[0].length,
            trained, end: trained - 1, edge: trained - 0.5, last: count - 1, position, row, ranked,
            measures, provenance, compared, marked, parts: [], beyond: false,
            shade: view == "neighbours" || view == "distance",
            falls: rho < -0.9 ? "falls with" : rho < -0.3 ? "tends to fall with" : "says little about",
            best: ranked.slice(0, 8).map(q => ({q, value: row[q]})),
            three: ranked.slice(0, 3).map(q => seqpeFill.text(q, ",")).join(", "), ...views[view]()}
    }
    return {compute(state) {
        const asked = readPositions(state.compare), {view} = state
        const runs = [state.method, state.beside].filter(Boolean).map(
            (method, i) => run(method, state, asked, i > 0))
        const last = Math.min(...runs.map(({count}) => count)) - 1
        return {runs, last, limits: {position: last}, columns: runs.length, titled: runs.length > 1,
            unit: state.kind == "dot" ? "dot product" : "cosine", flat: view != "path",
            view: {[view]: true}, over_all: view == "heatmap" || view == "distance",
            places: Array.from({length: last + 1}, (_, p) => p), parts: runs.flatMap(run => run.parts)}
    }}
}
