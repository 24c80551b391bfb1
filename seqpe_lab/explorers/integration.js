// The numbers of integration_panel.py: the scores of a query and a key by four formulas
explorers.integration = ({colours, terms: names, formulas, eQ, eK}) => {
    const map = (f, ...vectors) => [0, 1].map(i => f(...vectors.map(v => v[i])))
    const add = (a, b) => map((x, y) => x + y, a, b), times = (a, b) => map((x, y) => x * y, a, b)
    const dot = (a, b) => a[0] * b[0] + a[1] * b[1]
    const short = value => String(Math.round((value + 1e-9) * 100) / 100).replace("-", "−")
    const pair = vector => `(${short(vector[0])}, ${short(vector[1])})`

    function arrows(q, k, e_q, e_k) {  // a name that would cover another is omitted
        const zero = [[0, 0], [0, 0]], content = [q, k], position = [e_q, e_k], made = []
        const added = [add(q, e_q), add(k, e_k)], multiplied = [times(q, e_q), times(k, e_k)]
        const dotted = [["q", "k"], "dot", zero, content]
        for (const [axis, pairs] of [
            ["", [[[`q + ${eQ}`, `k + ${eK}`], "solid", zero, added], dotted,
                [["", ""], "dash", content, added]]],
            ["2", [[[`q ⊙ ${eQ}`, `k ⊙ ${eK}`], "solid", zero, multiplied], dotted,
                [["", ""], "dash", zero, position]]],
            ["3", [[["q", "k"], "solid", zero, content], [[eQ, eK], "dash", zero, position]]],
        ]) {
            const named = []
            for (const [names, dash, starts, ends] of pairs) names.forEach((name, i) => {
                const start = starts[i], end = ends[i], colour = colours[i]
                const away = tip => map((x, y) => Math.abs(x - y), tip, end)
                if (named.some(([tip, of]) => of == colour && Math.max(...away(tip)) < 0.9)) name = ""
                const across = end[0] < 0 ? ["left", "right"] : ["right", "left"]
                const along = end[1] < 0 ? ["bottom", "top"] : ["top", "bottom"]
                const taken = named.filter(([tip]) => away(tip)[0] < 1.8 && away(tip)[1] < 0.9)
                const sides = across.flatMap(x => along.map(y => `${y} ${x}`))
                const side = sides.find(s => !taken.some(([, , t]) => t == s)) ?? sides[0]
                if (name) named.push([end, colour, side])
                const width = {solid: 4, dash: 2.5, dot: 2}[dash]
                made.push({axis, x: [start[0], end[0]], y: [start[1], end[1]], names: ["", name], side,
                    colour, dash, width, sizes: [0, 6 + 2 * width]})
            })
        }
        return made
    }
    return {compute(state) {
        const q = [state.q1, state.q2], k = [state.k1, state.k2]
        const e_q = [state.eq1, state.eq2].map(v => v * state.strength)
        const e_k = [state.ek1, state.ek2].map(v => v * state.strength), weight = times(e_q, e_k)
        const [qk, qe, ek, ee] = [q, e_q].flatMap(a => [k, e_k].map(b => dot(a, b)))
        const scores = [[qk], [qk, qe, ek, ee], [, , , , ...times(weight, times(q, k))], [qk, , , ee]]
        const totals = scores.map(of => of.reduce((a, b) => a + b, 0))  // leaves the gaps out
        const written = totals.map(short), bars = formulas.map((f, i) => `${f} = <b>${written[i]}</b>`)
        const ends = [-1, 1].flatMap(sign => scores.map(of => of.filter(
            v => sign * v > 0).reduce((a, b) => a + b, 0)))
        const products = {q_ek: qe, eq_k: ek, eq_ek: ee, size: Math.abs(ee), weight1: weight[0],
            weight2: weight[1], none: totals[0], sum: totals[1], mul: totals[2], bias: totals[3]}
        return {totals, arrows: arrows(q, k, e_q, e_k), bars, less: ee < 0,
            terms: names.map((name, n) => {
                const having = [0, 1, 2, 3].filter(i => n in scores[i])
                return {name, bars: having.map(i => bars[i]), values: having.map(i => scores[i][n])}
            }),
            pairs: {q_sum: pair(add(q, e_q)), k_sum: pair(add(k, e_k)), q_mul: pair(times(q, e_q)),
                k_mul: pair(times(k, e_k))},
            range: [1.06 * Math.min(-2, ...ends), 1.06 * Math.max(12, ...ends)],
            short: Object.fromEntries(Object.entries(products).map(([name, v]) => [name, short(v)])),
            blind: !weight[0] && !weight[1]}
    }}
}
