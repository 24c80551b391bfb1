// The numbers of geometry_panel.py: similarities of stored position vectors; the rest is stored
explorers.geometry = stored => {
    const [trainedColour, beyondColour] = ["#0072B2", "#E69F00"]
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
        const rho = measures.correlation, edge = trained - 0.5, first = !second, axis = second ? "2" : ""
        const marked = [position, ...compared.filter(({known}) => known).map(({q}) => q)]
        const unit = kind == "dot" ? "dot product" : "cosine"
        const base = {parts: [], curves: [], edge, beyond: false, shade: view != "path",
            down: kind == "cosine" ? [-1.2, 1.2] : null}
        const seenOrNot = (texts, of) => [[0, trained], [trained, count]].flatMap(([from, to], i) =>
            from < to ? [{part: texts[i], axis, first, colour: [trainedColour, beyondColour][i],
                ...of(from, to, i)}] : [])
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
                const across = "position" + ["", " (every 2nd is drawn)", " (every 3rd is drawn)"][every - 1]
                return {table, every, low: own ? low : -1, high: own ? high : 1, ends, across, up: across,
                    down: ends.toReversed(), beyond: trained < count, shade: false, scale: first || own}
            },
            path() {
                const points = rows(kept.path), part = (from, to) => [0, 1, 2].map(
                    i => points.slice(from, to).map(point => point[i]))
                const place = [[0, 1], [0, 0.48], [0.52, 1]][state.beside ? 1 + second : 0]
                return {xyz: part(0, count), shares: kept.shares, domain: {x: place, y: [0, 1]},
                    parts: seenOrNot([`trained, 0 to ${trained - 1}`, `beyond, from ${trained} on`],
                        (from, to, i) => ({symbol: ["diamond", "circle-open"][i], at: part(from, to),
                            names: [...points.keys()].slice(from, to)})),
                    notes: [...new Set([...marked, 0, count - 1])].map((q, i) => ({q,
                        place: [...points[q]], left: [-45, 45][i % 2], up: -25 - 18 * i}))}
            },
            neighbours() {
                const group = x => ({x, y: x.map(q => row[q]),
                    names: x.map(q => `<b>${seqpeFill.text(q, ",")}</b>`)})
                return {alike: group([...row.keys()].filter(q => isDigitEdit(position, q, digits))),
                    nearest: group(ranked.slice(0, 8)), marked: group(marked),
                    across: "position", up: `${unit} with position ${seqpeFill.text(position, ",")}`,
                    ends: [-0.02 * count, 1.02 * count]}
            },
            distance: () => ({ends: null, across: "distance |p − q| (positions)",
                up: `${unit}: mean, band from 10 % to 90 %`,
                curves: seenOrNot([`both trained, 0 to ${trained - 1}`,
                    `both beyond, ${trained} to ${seqpeFill.text(count - 1, ",")}`], (from, to, i) => {
                    const [mean, low, high] = rows(curves[i])
                    return {mean, low, high, z: [...mean.keys()], dash: ["solid", "dash"][i],
                        band: ["rgba(0,114,178,0.2)", "rgba(230,159,0,0.2)"][i]}
                })}),
        }
        return {name, first, axis, step: Number(step), steps: all, count, width: known[0].length,
            trained, position, row, ranked, measures, provenance, compared,
            falls: rho < -0.9 ? "falls with" : rho < -0.3 ? "tends to fall with" : "says little about",
            drawn: {...base, ...views[view]()},
            best: ranked.slice(0, 8).map(q => ({q, value: row[q]})), last: count - 1, end: trained - 1,
            three: ranked.slice(0, 3).map(q => seqpeFill.text(q, ",")).join(", ")}
    }
    return {compute(state) {
        const asked = readPositions(state.compare), {view} = state
        const runs = [state.method, state.beside].filter(Boolean).map(
            (method, i) => run(method, state, asked, i > 0))
        const last = Math.min(...runs.map(({count}) => count)) - 1
        return {runs, last, limits: {position: last}, columns: runs.length, titled: runs.length > 1,
            unit: state.kind == "dot" ? "dot product" : "cosine", flat: view != "path",
            view: Object.fromEntries(["heatmap", "path", "neighbours", "distance"].map(
                name => [name, name == view])),
            over_all: view == "heatmap" || view == "distance",
            places: Array.from({length: last + 1}, (_, p) => p),
            parts: runs.flatMap(run => run.drawn.parts), curves: runs.flatMap(run => run.drawn.curves)}
    }}
}
