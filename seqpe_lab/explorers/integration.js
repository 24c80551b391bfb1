// The numbers of integration_panel.py: the scores of a query and a key by four formulas
explorers.integration = ({colours, terms: styles, formulas, eQ, eK}) => {
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
        const weighed = map((w, a, b) => w * a * b, weight, q, k)
        const names = Object.keys(styles)
        const scores = [[qk], [qk, qe, ek, ee], [, , , , ...weighed], [qk, , , ee]].map(
            values => Object.fromEntries(values.map((v, i) => [names[i], v]).filter(pair => pair)))
        const totals = scores.map(of => Object.values(of).reduce((a, b) => a + b, 0))
        const written = totals.map(short), bars = formulas.map((f, i) => `${f} = <b>${written[i]}</b>`)
        const terms = names.map(name => {
            const having = [0, 1, 2, 3].filter(i => name in scores[i])
            return {name, colour: styles[name][0], pattern: styles[name][1],
                bars: having.map(i => bars[i]), values: having.map(i => scores[i][name])}
        })
        const ends = [-1, 1].flatMap(sign => scores.map(of => Object.values(of).filter(
            v => sign * v > 0).reduce((a, b) => a + b, 0)))
        const headings = [
            `sum: (q + ${eQ})·(k + ${eK})<br>${pair(add(q, e_q))}·${pair(add(k, e_k))} = <b>${written[1]}</b>`,
            `mul: (q ⊙ ${eQ})·(k ⊙ ${eK})<br>${pair(times(q, e_q))}·${pair(times(k, e_k))} = <b>${written[2]}</b>`,
            `bias: q·k + ${eQ}·${eK}<br>${written[0]} ${ee < 0 ? "−" : "+"} ${short(Math.abs(ee))} = <b>${written[3]}</b>`]
        return {totals, arrows: arrows(q, k, e_q, e_k), headings: headings.map(text => ({text})), terms,
            bars, range: [1.06 * Math.min(-2, ...ends), 1.06 * Math.max(12, ...ends)],
            short: {none: written[0], sum: written[1], mul: written[2], bias: written[3],
                q_ek: short(qe), eq_k: short(ek), eq_ek: short(ee), weight1: short(weight[0]),
                weight2: short(weight[1])},
            blind: !weight[0] && !weight[1]}
    }}
}
