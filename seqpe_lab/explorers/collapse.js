// The collapse explorer on a page without a kernel: collapse_training.js trains in a worker
explorers.collapse = stored => {
    const every = 3, collapsed = 0.1, smallest = 1e-8, closest = 1e-3  // as in collapse_panel.py
    const program = new Blob([stored.program], {type: "text/javascript"})
    const worker = new Worker(URL.createObjectURL(program))
    let records = [], similarity, seed, begun, running = false, state, waiting = Promise.resolve()
    const sent = value => ArrayBuffer.isView(value) ? {shape: value.shape, data: value}
        : value?.constructor == Object ? Object.fromEntries(Object.entries(value).map(
            ([name, part]) => [name, sent(part)])) : value
    worker.postMessage({stored: sent(stored)})  // a message would lose the shapes of arrays

    const send = message => waiting = waiting.then(() => new Promise((done, fail) => {
        worker.onmessage = ({data}) => done(data)
        worker.onerror = ({message}) => fail(new Error(message))
        worker.postMessage(message)
    }))
    function begin() {
        seed = state.seed
        return begun = send({seed}).then(first => {
            records = [first.record]
            similarity = first.similarity
        })
    }
    async function learn() {
        if (records.at(-1).step >= stored.mostSteps)
            throw new Error(`${stored.mostSteps} steps are done: press Reset to begin again`)
        const {alpha, beta, rate} = state, before = records
        const next = await send({alpha, beta, rate})
        if (records !== before) return  // it was reset meanwhile
        records.push(next.record)
        similarity = next.similarity
    }
    const actions = {
        async Start(redraw, page) {
            running = true
            redraw()
            try {
                while (running) { await learn(); await redraw() }
            } catch (error) {
                running = false
                await redraw()
                page.say(error.message, "alert")
            }
        },
        Pause(redraw) { running = false; redraw() },
        async Step(redraw, page) {
            await learn().then(redraw, error => page.say(error.message, "alert"))
        },
        async Reset(redraw) { running = false; await begin(); redraw() },
    }
    return {actions, async compute(asked) {
        state = asked
        if (seed !== state.seed) begin()
        await begun  // another move may come before the worker has answered
        const n = stored.positions, z = state.z - 1, now = records.at(-1)
        const shown = Array.from({length: n / every}, (_, i) => i * every)
        const of = name => records.map(record => record[name])
        const changes = records.slice(1, -1).filter((r, i) => ["alpha", "beta", "rate"].some(
            name => r[name] != records[i + 2][name])).map(r => ({at: r.step}))
        const [mantissa, exponent] = now.l_ood.toExponential(1).replace("-", "−").split("e")
        return {
            step: now.step, trained: now.step > 0, collapsed: now.spread < collapsed, shown,
            apart: shown.map(p => shown.map(q =>
                Math.log10(Math.max(closest, 1 - similarity[p * n + q])))),
            shifts: now.cosines.map((_, i) => i + 1), untrained: records[0].cosines,
            now: now.cosines, here: now.cosines[z], steps: of("step"), alphas: of("alpha"),
            betas: of("beta"), rates: of("rate"), cosines: records.map(r => r.cosines[z]),
            ranks: of("effective_rank"), spreads: of("spread"), l_delta: of("l_delta"),
            l_ood: of("l_ood").map(v => Math.max(v, smallest)), rank: now.effective_rank,
            spread: now.spread, delta: now.l_delta, changes,
            ood: `${mantissa} · 10<sup>${exponent.replace("+", "")}</sup>`,
            end: Math.max(40, now.step), top: 1.06 * Math.max(...of("effective_rank")),
            disabled: running ? ["Start", "Step"] : ["Pause"],
        }
    }}
}
