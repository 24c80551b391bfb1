// The numbers of extrapolation_panel.py: filtering and averaging of stored results
explorers.extrapolation = ({tasks, methods, looks, least}) => {
    const comma = value => seqpeFill.text(value, ",")
    const inOrder = some => methods.filter(method => some.has(method))
    const mean = values => values.reduce((a, b) => a + b) / values.length
    function line(method, values, nth) {
        const x = [...new Set(values.map(({length}) => length))].sort((a, b) => a - b)
        const at = x.map(n => values.filter(({length}) => length == n).map(({value}) => value))
        return {...looks[method], nth, x, y: at.map(mean), low: at.map(v => Math.min(...v)),
            high: at.map(v => Math.max(...v))}
    }
    function numberAxis(values, log) {  // as ``number_axis`` of style.py, with 6 labels
        values = values.map(Math.abs).filter(value => value > 0 || !log)
        const most = Math.max(0, ...values)
        if (!log) return {type: "linear", exponentformat: "power", minexponent: most >= 1 ? 6 : 3,
            separatethousands: true}
        const [low, high] = values.length ? [Math.min(...values), most].map(Math.log10) : [0, 1]
        const decades = high - low, inFull = low >= -3 && high <= 6
        if (decades < 1) return {type: "log", nticks: 6, tickformat: ",~r"}
        return {type: "log", dtick: inFull && 3 * decades <= 6 ? "D2" : Math.ceil(decades / 6),
            ...inFull ? {tickformat: ",~r"} : {exponentformat: "power"}}
    }
    function axes({trained}, values, onAxis, {percent, unit}, log, title) {
        const logX = unit != "pixels", places = [...new Set([trained,
            ...values.map(({length}) => length)])].sort((a, b) => a - b)
        const at = places.map(place => logX ? Math.log10(place) : place)
        const span = at.at(-1) - at[0] || 1, names = []
        let last = Infinity
        for (let i = at.length - 1; i >= 0; i--) {
            const fits = last - at[i] > 0.1 * span
            names.unshift(fits ? comma(places[i]) : "")
            if (fits) last = at[i]
        }
        return {mark: at[0], x: {type: logX ? "log" : "linear", tickvals: places, tickangle: 0,
            ticktext: names, range: [at[0] - 0.06 * span, at.at(-1) + 0.06 * span]},
        y_axis: {...numberAxis(onAxis.map(({value}) => value), log), title: {text: title},
            rangemode: percent ? "tozero" : "normal"}}
    }
    function winners(values, {percent}, how, ties) {
        const longest = Math.max(...values.map(({length}) => length)), scores = {}
        for (const {method, seed, length, value} of values) if (length == longest)
            (scores[method] ??= new Map()).set(seed, value)
        const sign = percent ? -1 : 1, middle = method => mean([...scores[method].values()])
        const [first, ...others] = Object.keys(scores).sort((a, b) => sign * (middle(a) - middle(b)))
        const few = ties && others.some(method =>
            [...scores[method].keys()].filter(seed => scores[first].has(seed)).length < least)
        const best = [first, ...others.filter(method =>
            ties?.includes(`${longest} ${how} ${method} ${first}`))]
        return `${few ? "too few seeds to say" : best.map(method => looks[method].name).join(" or ")
        } in ${ties ? "our runs" : "the paper"} (${comma(longest)})`
    }
    return {compute(state) {
        const {task, paper} = tasks[state.task], ratio = state.values == "ratio"
        const log = state.axis == "log" && !task.percent  // a log axis has no place for 0
        const wheres = [tasks[state.task][state.scale], paper]
        const chosen = wheres.map(({values, trained}) => values.map(
            ([method, seed, length, value, ratio]) => ({method, seed, length, value, ratio})).filter(
            ({method, length, ratio: of}) => state.methods.includes(method)
                && state.times[0] * trained <= length && length <= state.times[1] * trained
                && (!ratio || of !== null)).map(v => ratio ? {...v, value: v.ratio} : v))
        const alike = (ratio || task.percent) && chosen.every(values => values.length)
        const measured = task.value.split(" (")[0], size = task.unit == "pixels" ? "size" : "length"
        const title = ratio ? `${measured} ÷ that at the trained ${size}` : task.value
        const lines = [], bands = [], named = new Set()
        const sides = wheres.map((where, i) => {
            const values = chosen[i], nth = i ? "2" : ""
            for (const method of inOrder(new Set(values.map(({method}) => method)))) {
                const own = values.filter(v => v.method == method)
                const groups = state.seeds == "each" ? [...new Set(own.map(({seed}) => seed))].map(
                    seed => own.filter(v => v.seed === seed)) : [own]
                for (const group of groups) {
                    const drawn = line(method, group, nth)
                    lines.push({...drawn, legend: !named.has(method)})
                    named.add(method)
                    if (group.length > drawn.x.length) bands.push(drawn)
                }
            }
            return {name: where.name, trained: where.trained, drawn: values.length > 0,
                ...axes(where, values, alike ? chosen.flat() : values, task, log, title)}
        })
        const best = chosen.flatMap((values, i) => values.length ? [winners(values, task, state.values,
            wheres[i].ties)] : [])
        const [mine, theirs] = chosen.map(values => new Set(values.map(({method}) => method)))
        const only = [["Ours", mine, theirs], ["The paper's", theirs, mine]].flatMap(([who, a, b]) => {
            const alone = inOrder(a).filter(method => !b.has(method))
            return alone.length ? [{who, names: alone.map(method => looks[method].name).join(", ")}] : []
        })
        const rows = chosen.flatMap((values, i) => values.map(v => ({...v, source: wheres[i].name,
            method: looks[v.method].name, times: v.length / wheres[i].trained})))
        return {task, sides, lines, bands, only, best: best.length ?
            `${task.percent ? "Highest" : "Lowest"} ${measured}${ratio ? " ratio" : ""} at the ${
                size == "size" ? "largest" : "longest"}: ${best.join(", ")}`
            : "Nothing to compare: choose a method and a range",
        caption: wheres.map(({caption}) => caption).filter(Boolean).join(" "),
        limits: {methods: inOrder(new Set(wheres.flatMap(({values}) => values.map(([m]) => m))))},
        rows}
    }}
}
